//! What crosses between a worker and the slow path.
//!
//! All rings are bounded. Where one is full, the frame is dropped and counted, and the worker goes on.

use rtrb::{Consumer, Producer};

use crate::base::exit::PuntReason;
use crate::base::ids::PortNo;
use crate::forward::sample::Sample;

/// A frame for the slow path.
#[derive(Debug)]
pub struct Punt<P> {
    /// The port that it came in by.
    pub port: PortNo,
    /// Why it is given away.
    pub reason: PuntReason,
    /// For [`PuntReason::TooBig`]: what it would have had to fit in.
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
    /// What the slow path is to process.
    pub punts: Producer<Punt<P>>,
    /// What the slow path wants sent.
    pub outgoing: Consumer<Outgoing<P>>,
    /// Examples of what was dropped, for events.
    pub samples: Producer<Sample>,
}

/// Whether more than half of a ring is taken.
pub fn crowded<T>(ring: &Producer<T>) -> bool {
    ring.slots() <= ring.buffer().capacity() / 2
}
