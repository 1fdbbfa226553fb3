//! Passing frames between workers, to the owner of their packet.

use rtrb::{Consumer, Producer};

use crate::base::ids::PortNo;
use crate::base::packet::BURST;
use crate::forward::fragment::key::Sender;

/// The frames that a ring between two workers holds.
const RING: usize = 4 * BURST;
/// When half of a ring is in use, a group of senders gets no more than this many places of it.
const SHARE: usize = 8;

/// A frame on its way to the worker that owns its packet.
#[derive(Debug)]
pub struct Passed<P> {
    /// The port that it arrived on.
    pub port: PortNo,
    /// The frame.
    pub packet: P,
}

/// A worker's end of a ring to another one, and whose frames are in it.
pub(super) struct Passage<P> {
    ring: Producer<Passed<P>>,
    /// The groups of the senders of the last frames. The frames that the ring holds are the last of these.
    groups: [u8; RING],
    /// The frames put in so far.
    put: usize,
}

impl<P> Passage<P> {
    /// Passes a frame on. Returns whether there was room for a frame of this sender.
    pub(super) fn pass(&mut self, sender: Sender, passed: Passed<P>) -> bool {
        let (group, waiting) = (sender.group(), RING - self.ring.slots());
        if waiting >= RING / 2 && self.waiting_of(group, waiting) >= SHARE || self.ring.push(passed).is_err() {
            return false;
        }
        self.groups[self.put % RING] = group;
        self.put = self.put.wrapping_add(1);
        true
    }

    /// The number of a group's frames among those that the ring holds.
    fn waiting_of(&self, group: u8, waiting: usize) -> usize {
        let places = (1..=waiting).map(|back| self.put.wrapping_sub(back) % RING);
        places.filter(|&place| self.groups[place] == group).count()
    }
}

/// A worker's ends of the rings to and from the other workers.
pub struct FragmentRings<P> {
    /// By worker; `None` for itself.
    pub(super) to: Vec<Option<Passage<P>>>,
    pub(super) from: Vec<Consumer<Passed<P>>>,
}

impl<P> FragmentRings<P> {
    /// Those of the only worker.
    pub(super) fn alone() -> Self {
        FragmentRings { to: vec![None], from: vec![] }
    }
}

/// Makes rings from each of `workers` workers to each other. Returns each worker's ends.
pub fn mesh<P>(workers: usize) -> Vec<FragmentRings<P>> {
    let mut to: Vec<Vec<Option<Passage<P>>>> = (0..workers).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Consumer<Passed<P>>>> = (0..workers).map(|_| Vec::new()).collect();
    for (source, passages) in to.iter_mut().enumerate() {
        for (target, consumers) in from.iter_mut().enumerate() {
            if source == target {
                passages.push(None);
                continue;
            }
            let (ring, consumer) = rtrb::RingBuffer::new(RING);
            passages.push(Some(Passage { ring, groups: [0; RING], put: 0 }));
            consumers.push(consumer);
        }
    }
    to.into_iter().zip(from).map(|(to, from)| FragmentRings { to, from }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::{Flow, FlowHasher, Transport};

    const PORT: PortNo = PortNo::new(0);

    fn sender(source: u32) -> Sender {
        let flow = Flow::V4 { source, destination: 1, transport: Transport::new(0, 0, 17) };
        Sender::new(&flow, &FlowHasher::new(&[1; 16]))
    }

    fn passes(rings: &mut FragmentRings<u32>, source: u32) -> bool {
        rings.to[1].as_mut().unwrap().pass(sender(source), Passed { port: PORT, packet: source })
    }

    #[test]
    fn a_full_ring_takes_no_more_and_an_emptied_one_does() {
        let mut rings = mesh::<u32>(2);
        assert_eq!((0..1_000).filter(|&source| passes(&mut rings[0], source)).count(), RING);
        rings[1].from[0].pop().unwrap();
        assert_eq!((1_000..1_009).filter(|&source| passes(&mut rings[0], source)).count(), 1);
    }

    #[test]
    fn a_few_senders_leave_room_in_the_ring_for_another() {
        let mut rings = mesh::<u32>(2);
        let strangers: Vec<u32> = (2..).filter(|&source| sender(source).group() != sender(1).group()).take(4).collect();
        let flood = |rings: &mut FragmentRings<u32>| {
            (0..1_000).filter(|&frame| passes(rings, strangers[frame % strangers.len()])).count()
        };
        assert_eq!(flood(&mut rings[0]), RING / 2);
        assert!((0..SHARE).all(|_| passes(&mut rings[0], 1)));
        assert!(!passes(&mut rings[0], 1), "its share is as large as that of others");
        // What the ring held, and what it does not hold any more, is counted right when it goes round.
        for _ in 0..3 * RING {
            rings[1].from[0].pop().unwrap();
            flood(&mut rings[0]);
        }
        assert!((0..SHARE).all(|_| passes(&mut rings[0], 1)));
    }
}
