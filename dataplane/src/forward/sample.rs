//! Samples of frames that point to a mistake in the network. The slow path makes [events](crate::control::events) of
//! them.
//!
//! A worker pushes a [`Sample`] into a small ring and goes on. In a flood the ring is full, and no more samples are
//! needed. The counters count all frames.

use std::net::IpAddr;

use ctl::Mac;

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::PortNo;
use crate::wire::flow::Flow;
use crate::wire::offload::Announced;

/// The number of samples that a worker's ring holds.
pub const SAMPLES: usize = 64;

/// What a frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A backend sends a VIP's packets back.
    Loop,
    /// A backend sends its replies through the director.
    ReturnViaDirector,
    /// Its sender has left the checksum to a NIC that is not there.
    UnfinishedChecksum,
    /// It is larger than the MTU of the network that it came by, so somebody has left it to a NIC to cut it, or has put it together.
    SuperFrame,
}

impl Sign {
    /// What a frame that leaves for this reason may show.
    pub fn of(exit: Exit) -> Option<Sign> {
        match exit {
            Exit::Drop(reason) | Exit::DropOf(reason, _) => match reason {
                DropReason::Loop => Some(Sign::Loop),
                DropReason::ReturnViaDirector => Some(Sign::ReturnViaDirector),
                DropReason::Truncated => Some(Sign::SuperFrame),
                _ => None,
            },
            Exit::TooBig(_) => Some(Sign::SuperFrame),
            _ => None,
        }
    }
}

/// A frame that shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// What it shows.
    pub sign: Sign,
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
    /// A sample of a frame as received, with its flow. `None` if the frame has no Ethernet addresses.
    pub fn new(sign: Sign, port: PortNo, frame: &[u8], flow: &Flow) -> Option<Sample> {
        Self::between(sign, port, frame, flow.source(), flow.destination())
    }

    /// A sample of a frame whose flow cannot be read because its end is missing.
    pub fn cut(sign: Sign, port: PortNo, frame: &[u8], packet: &Announced) -> Option<Sample> {
        Self::between(sign, port, frame, packet.source, packet.destination)
    }

    fn between(sign: Sign, port: PortNo, frame: &[u8], source: IpAddr, destination: IpAddr) -> Option<Sample> {
        let from = Mac(*frame.get(6..)?.first_chunk()?);
        Some(Sample { sign, port, from, source, destination })
    }
}
