//! The rings between a worker and the slow path.
//!
//! All rings are bounded. If one is full, the frame is dropped and counted, and the worker goes on.

use rtrb::{Consumer, Producer};

use crate::base::exit::PuntReason;
use crate::base::ids::PortNo;
use crate::forward::sample::Sample;

/// A frame for the slow path.
#[derive(Debug)]
pub struct Punt<P> {
    /// The port that it arrived on.
    pub port: PortNo,
    /// Why it is given to the slow path.
    pub reason: PuntReason,
    /// For [`PuntReason::TooBig`]: the MTU that it exceeds.
    pub mtu: u16,
    /// The frame.
    pub packet: P,
}

/// A frame from the slow path, to be sent as it is.
#[derive(Debug)]
pub struct Outgoing<P> {
    /// The port to send it by.
    pub port: PortNo,
    /// The frame.
    pub packet: P,
}

/// A worker's rings to and from the slow path.
pub struct Rings<P> {
    /// Frames for the slow path.
    pub punts: Producer<Punt<P>>,
    /// Frames from the slow path.
    pub outgoing: Consumer<Outgoing<P>>,
    /// Samples of dropped frames, for events.
    pub samples: Producer<Sample>,
}

/// Whether at least half of a ring is in use.
pub fn crowded<T>(ring: &Producer<T>) -> bool {
    ring.slots() <= ring.buffer().capacity() / 2
}
