//! The rings between a worker and the slow path.
//!
//! All rings are bounded. If one is full, the frame is dropped and counted, and the worker goes on.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::exit::PuntReason;
use crate::base::ids::PortNo;
use crate::forward::class::Class;
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
    pub punts: Punts<P>,
    /// Frames from the slow path.
    pub outgoing: Consumer<Outgoing<P>>,
    /// Samples of frames that show a mistake, for events.
    pub samples: Producer<Sample>,
}

/// A worker's ends of the rings for punted frames, one for each class.
#[derive(Debug)]
pub struct Punts<P>([Producer<Punt<P>>; Class::COUNT]);

/// The slow path's ends of a worker's rings for punted frames.
#[derive(Debug)]
pub struct Punted<P>([Consumer<Punt<P>>; Class::COUNT]);

/// Makes a worker's rings for punted frames, which hold so many of each class.
pub fn punt_rings<P>(room: impl Fn(Class) -> usize) -> (Punts<P>, Punted<P>) {
    let (mut producers, mut consumers) = (Vec::new(), Vec::new());
    for class in Class::ALL {
        let (producer, consumer) = RingBuffer::new(room(class));
        producers.push(producer);
        consumers.push(consumer);
    }
    let one_each = "there is one for each class";
    (Punts(producers.try_into().ok().expect(one_each)), Punted(consumers.try_into().ok().expect(one_each)))
}

impl<P> Punts<P> {
    /// Gives the slow path a frame. Returns whether there was room.
    pub fn push(&mut self, class: Class, punt: Punt<P>) -> bool {
        self.0[class.index()].push(punt).is_ok()
    }
}

impl<P> Punted<P> {
    /// The next frame of this class.
    pub fn pop(&mut self, class: Class) -> Option<Punt<P>> {
        self.0[class.index()].pop().ok()
    }
}
