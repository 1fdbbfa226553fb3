//! Samples of dropped frames that point to a mistake in the network. The slow path makes
//! [events](crate::control::events) of them.
//!
//! A worker pushes a [`Sample`] into a small ring and goes on. In a flood the ring is full, and no more samples are
//! needed. The counters count all frames.

use std::net::IpAddr;

use ctl::Mac;

use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::wire::flow::Flow;

/// The number of samples that a worker's ring holds.
pub const SAMPLES: usize = 64;

/// A frame that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Why it was dropped.
    pub reason: DropReason,
    /// The port that it arrived on.
    pub port: PortNo,
    /// The MAC address of the station that sent it.
    pub from: Mac,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
}

impl Sample {
    /// Whether frames dropped for this reason point to a mistake, which an event should name.
    pub fn wanted(reason: DropReason) -> bool {
        matches!(reason, DropReason::Loop | DropReason::ReturnViaDirector)
    }

    /// A sample of a frame as received, with its flow. `None` if the frame has no Ethernet addresses.
    pub fn new(reason: DropReason, port: PortNo, frame: &[u8], flow: &Flow) -> Option<Sample> {
        let from = Mac(*frame.get(6..)?.first_chunk()?);
        Some(Sample { reason, port, from, source: flow.source(), destination: flow.destination() })
    }
}
