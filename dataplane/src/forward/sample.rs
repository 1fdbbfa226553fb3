//! Examples of frames that tell of a mistake in the network: what a worker shows of them to the slow path, which makes
//! [events](crate::control::events) of it.
//!
//! A worker pushes a [`Sample`] into a small ring and goes on. In a flood the ring is full, and no more examples are
//! needed; the counters have all of the frames.

use std::net::IpAddr;

use ctl::Mac;

use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::wire::flow::Flow;

/// Samples that a worker's ring holds.
pub const SAMPLES: usize = 64;

/// A frame that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Why.
    pub reason: DropReason,
    /// The port that it came in by.
    pub port: PortNo,
    /// The station that sent it.
    pub from: Mac,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
}

impl Sample {
    /// Whether frames dropped for that reason tell of a mistake that needs a name.
    pub fn wanted(reason: DropReason) -> bool {
        matches!(reason, DropReason::Loop | DropReason::ReturnViaDirector)
    }

    /// Of a frame as it came, and the flow that it was parsed to.
    pub fn new(reason: DropReason, port: PortNo, frame: &[u8], flow: &Flow) -> Option<Sample> {
        let from = Mac(*frame.get(6..)?.first_chunk()?);
        Some(Sample { reason, port, from, source: flow.source(), destination: flow.destination() })
    }
}
