//! The held frames: later fragments that wait for their first.
//!
//! A frame waits for a short time, because the fragments of a packet leave their sender back to back. When all places
//! are taken, a frame that waits gives its place to the new one: the oldest of the group of senders that has the
//! most. Groups with a few frames count as equal, so that in a flood from many addresses, an honest sender with
//! several fragments on their way is not the one that has the most.

use arrayvec::ArrayVec;

use crate::base::ids::PortNo;
use crate::base::packet::Burst;
use crate::base::touched::touched;
use crate::forward::fragment::key::{Key, Sender};

/// The most frames that are held at a time. A place is numbered by a byte.
pub(super) const PLACES: usize = 256;
/// Groups with at most this many held frames count as equal. So up to 32 groups, each with more than that, cost others
/// nothing.
pub(super) const FEW: u16 = 8;
/// The time for which a frame is held.
pub(super) const HOLD_MS: u64 = 100;

const _: () = assert!(PLACES == 1 << u8::BITS && Sender::GROUPS == 1 << u8::BITS);

struct Frame<P> {
    key: Key,
    group: u8,
    port: PortNo,
    packet: P,
    until_ms: u64,
    /// Its first fragment has arrived.
    ready: bool,
}

/// The held frames of a worker.
pub(super) struct Held<P> {
    places: Box<[Option<Frame<P>>]>,
    free: ArrayVec<u8, PLACES>,
    /// The places of the frames, the oldest first.
    order: ArrayVec<u8, PLACES>,
    /// By group: its frames.
    counts: [u16; Sender::GROUPS],
    /// The number of frames whose first fragment has arrived.
    ready: usize,
}

impl<P> Held<P> {
    pub(super) fn new() -> Self {
        let places = touched(PLACES, || None);
        Held {
            places,
            free: (0..=u8::MAX).rev().collect(),
            order: ArrayVec::new(),
            counts: [0; Sender::GROUPS],
            ready: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Holds a frame. `ready`: its first fragment has arrived meanwhile. If all places were taken, returns the frame that
    /// loses its place, and its port.
    pub(super) fn hold(
        &mut self,
        key: Key,
        sender: Sender,
        port: PortNo,
        packet: P,
        ready: bool,
        now_ms: u64,
    ) -> Option<(PortNo, P)> {
        let mut loser = None;
        if self.order.is_full() {
            let Some(position) = self.loser() else { return Some((port, packet)) };
            loser = Some(self.take(position)).map(|frame| (frame.port, frame.packet));
        }
        let (place, group) = (self.free.pop().expect("a place is free"), sender.group());
        self.places[usize::from(place)] = Some(Frame { key, group, port, packet, until_ms: now_ms + HOLD_MS, ready });
        self.order.push(place);
        self.counts[usize::from(group)] += 1;
        self.ready += usize::from(ready);
        loser
    }

    /// Notes that the first fragment of a packet has arrived.
    pub(super) fn release(&mut self, key: &Key, sender: Sender) {
        if self.counts[usize::from(sender.group())] == 0 {
            return;
        }
        for frame in self.places.iter_mut().flatten().filter(|frame| frame.key == *key && !frame.ready) {
            frame.ready = true;
            self.ready += 1;
        }
    }

    /// Adds released frames of one port to `burst`, in the order in which they came. Returns the port.
    pub(super) fn take_ready(&mut self, burst: &mut Burst<P>) -> Option<PortNo> {
        let mut port = None;
        let mut position = 0;
        // Bound: each round looks at one more held frame, or takes one out; there are at most PLACES.
        while self.ready > 0 && position < self.order.len() && !burst.is_full() {
            let frame = self.frame(position);
            if frame.ready && port.is_none_or(|port| port == frame.port) {
                let frame = self.take(position);
                port = Some(frame.port);
                burst.push(frame.packet);
            } else {
                position += 1;
            }
        }
        port
    }

    /// A frame that has been held for too long, and its port.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Option<(PortNo, P)> {
        // The first frame has been held longest.
        if self.order.is_empty() || self.frame(0).ready || self.frame(0).until_ms > now_ms {
            return None;
        }
        let frame = self.take(0);
        Some((frame.port, frame.packet))
    }

    /// The position of the frame that gives way: the oldest of the group with the most frames, or of all if no group has
    /// more than a few. Frames that are about to go on are left alone.
    fn loser(&self) -> Option<usize> {
        let most = self.counts.iter().copied().max().unwrap_or_default();
        let greedy = |frame: &Frame<P>| most <= FEW || self.counts[usize::from(frame.group)] == most;
        (0..self.order.len()).find(|&position| {
            let frame = self.frame(position);
            !frame.ready && greedy(frame)
        })
    }

    fn frame(&self, position: usize) -> &Frame<P> {
        self.places[usize::from(self.order[position])].as_ref().expect("a place in the order is taken")
    }

    /// Removes the frame at a position of the order.
    fn take(&mut self, position: usize) -> Frame<P> {
        let place = self.order.remove(position);
        let frame = self.places[usize::from(place)].take().expect("a place in the order is taken");
        self.free.push(place);
        self.counts[usize::from(frame.group)] -= 1;
        self.ready -= usize::from(frame.ready);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::{Flow, FlowHasher, Transport};

    const PORT: PortNo = PortNo::new(0);

    fn flow(source: u32) -> Flow {
        Flow::V4 { source, destination: 0xc0a8_0065, transport: Transport::new(0, 0, 17) }
    }

    fn key(source: u32, id: u32) -> Key {
        Key::new(&flow(source), id)
    }

    fn sender(source: u32) -> Sender {
        Sender::new(&flow(source), &FlowHasher::new(&[1; 16]))
    }

    /// Holds a frame that is named like its packet. Returns the packet that loses its place.
    fn hold(held: &mut Held<(u32, u32)>, source: u32, id: u32, now_ms: u64) -> Option<(u32, u32)> {
        held.hold(key(source, id), sender(source), PORT, (source, id), false, now_ms).map(|(_, packet)| packet)
    }

    fn released(held: &mut Held<(u32, u32)>) -> Vec<(u32, u32)> {
        let mut burst = Burst::new();
        held.take_ready(&mut burst);
        burst.into_iter().collect()
    }

    /// Sources of different groups, none of which is source 1's.
    fn strangers(count: usize) -> Vec<u32> {
        let mut groups = vec![sender(1).group()];
        let is_new = |source: &u32| {
            let group = sender(*source).group();
            let new = !groups.contains(&group);
            groups.push(group);
            new
        };
        (2..).filter(is_new).take(count).collect()
    }

    #[test]
    fn frames_are_released_in_their_order_and_given_up_in_the_end() {
        let mut held = Held::new();
        for id in 0..8 {
            assert_eq!(hold(&mut held, 1, id % 2, id.into()), None);
        }
        assert_eq!(hold(&mut held, 2, 1, 8), None);
        held.release(&key(1, 1), sender(1));
        held.release(&key(3, 1), sender(3));
        assert_eq!(released(&mut held), [(1, 1); 4]);
        assert_eq!(released(&mut held), []);
        assert_eq!(held.overdue(HOLD_MS - 1), None);
        let overdue = std::iter::from_fn(|| held.overdue(HOLD_MS + 4)).map(|(_, packet)| packet);
        assert_eq!(overdue.collect::<Vec<_>>(), [(1, 0); 3]);
        assert_eq!(held.len(), 2);
        let overdue = std::iter::from_fn(|| held.overdue(HOLD_MS + 8)).map(|(_, packet)| packet);
        assert_eq!(overdue.collect::<Vec<_>>(), [(1, 0), (2, 1)]);
        assert!(held.is_empty() && held.counts == [0; Sender::GROUPS]);
    }

    #[test]
    fn a_sender_that_fills_all_places_loses_its_own_oldest() {
        let mut held = Held::new();
        let places = u32::try_from(PLACES).unwrap();
        assert!(
            (0..places).all(|id| hold(&mut held, 7, id, 0).is_none()),
            "it may have all, while nobody else needs one"
        );
        assert_eq!(hold(&mut held, 7, places, 1), Some((7, 0)));
        assert_eq!(hold(&mut held, 1, 5, 1), Some((7, 1)));
        assert_eq!(hold(&mut held, 7, 0, 1), Some((7, 2)));
        held.release(&key(1, 5), sender(1));
        assert_eq!(released(&mut held), [(1, 5)]);
    }

    #[test]
    fn thirty_senders_cannot_take_the_places_of_another() {
        let mut held = Held::new();
        let strangers = strangers(30);
        let flood = |held: &mut Held<_>, frames: u32| {
            (0..frames).for_each(|id| {
                let lost = hold(held, strangers[id as usize % strangers.len()], id, 0);
                assert!(lost.is_none_or(|(source, _)| source != 1));
            });
        };
        flood(&mut held, 10_000);
        for id in 0..u32::from(FEW) {
            assert!(hold(&mut held, 1, id, 1).is_some_and(|(source, _)| source != 1));
            flood(&mut held, 10_000);
        }
        (0..u32::from(FEW)).for_each(|id| held.release(&key(1, id), sender(1)));
        assert_eq!(released(&mut held).len(), usize::from(FEW), "all of them are there");
    }

    #[test]
    fn in_a_flood_of_many_senders_the_newest_stay() {
        let mut held = Held::new();
        (1_000..3_000).for_each(|source| _ = hold(&mut held, source, 7, 0));
        (0..6).for_each(|id| _ = hold(&mut held, 1, id, 1));
        (3_000..3_200).for_each(|source| _ = hold(&mut held, source, 7, 2));
        assert_eq!(held.len(), PLACES);
        (0..6).for_each(|id| held.release(&key(1, id), sender(1)));
        assert_eq!(released(&mut held).len(), 6, "200 places were given to others meanwhile, but none of these");
        (3_200..3_500).for_each(|source| _ = hold(&mut held, source, 7, 3));
        assert_eq!(held.overdue(2 * HOLD_MS).map(|(_, packet)| packet.0 >= 3_200), Some(true));
    }

    #[test]
    fn what_is_about_to_go_on_gives_no_place_up() {
        let mut held = Held::new();
        (0..4).for_each(|id| _ = hold(&mut held, 1, id, 0));
        held.release(&key(1, 0), sender(1));
        let mut lost = Vec::new();
        (1_000..1_000 + 2 * 256).for_each(|source| lost.extend(hold(&mut held, source, 7, 0)));
        assert_eq!(lost[..3], [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(released(&mut held), [(1, 0)]);
    }
}
