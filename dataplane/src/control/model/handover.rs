//! Hand-over: which backend had a slot before it moved, and until when that matters.
//!
//! A change of a service's backends makes a new Maglev table. In it, some slots have moved from one backend to another.
//! The old flows of such a slot stay with the backend that had it before, as long as that backend serves. The slot
//! keeps this backend as `before` for the service's hand-over time. By then, workers have seen a packet of every flow
//! that is still active, and remember these flows ([`crate::forward::exceptions`]).
//!
//! A backend that is away gets no packets now, but may be back soon. Meanwhile its slots have others, and all flows that
//! begin in them are remembered. So when it returns within the hand-over time, its slots go back to it at once, and with
//! them the flows that were silent: all others are known.
//!
//! A slot that moves again in the meantime keeps its first `before`, with its deadline. Flows that began after the
//! first move are all remembered already, because every SYN during a hand-over is.

use std::sync::Arc;

use crate::base::ids::BackendNo;

/// The earlier backends of one service's slots. Backends have the numbers that they have in the service.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// By slot, the backend that had it; [`BackendNo::NONE`] without a hand-over.
    pub had: Arc<[BackendNo]>,
    /// By backend, whether it is away; `None` if none of those in `had` is.
    pub away: Option<Arc<[bool]>>,
    /// By slot, the index of its deadline in `deadlines`.
    round: Box<[u8]>,
    /// When hand-overs end, in ms, in no particular order.
    deadlines: Vec<u64>,
    /// The first deadline of a slot that a backend had.
    next: u64,
    /// How many slots have a `before`.
    slots: usize,
}

/// A service's slots at one time.
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a> {
    /// By slot, the backend that has it.
    pub now: &'a [BackendNo],
    /// The backends that had them before.
    pub handover: Option<&'a HandOver>,
}

/// The most deadlines of one service. A further one is merged with the latest; both end at the later time.
const MAX_ROUNDS: usize = 256;

impl HandOver {
    /// The hand-over from old slots to a new table. It begins at `now_ms` and lasts until `until_ms`. `renumber` maps
    /// the number of a backend in the old slots to its number now, or to [`BackendNo::NONE`] if the backend's flows are
    /// gone. `away` says of each backend of now whether it is away. Such a backend is no `before`, but it is not forgotten:
    /// a slot that comes back to it in time has no hand-over. Returns `None` if no backend had a slot.
    pub fn begin(
        old: Slots<'_>,
        table: &[BackendNo],
        renumber: impl Fn(BackendNo) -> BackendNo,
        away: impl Iterator<Item = bool>,
        now_ms: u64,
        until_ms: u64,
    ) -> Option<HandOver> {
        let mut deadlines = old.handover.map(|handover| handover.deadlines.clone()).unwrap_or_default();
        let new_round = round_of(&mut deadlines, now_ms, until_ms);
        let mut had = vec![BackendNo::NONE; table.len()];
        let mut round = vec![0; table.len()];
        for (slot, &now) in table.iter().enumerate() {
            let earlier = old.handover.and_then(|handover| handover.at(slot, now_ms));
            let kept = earlier
                .map(|(backend, round)| (renumber(backend), round))
                .filter(|&(backend, _)| backend != BackendNo::NONE);
            let left = || {
                old.now.get(slot).map_or(BackendNo::NONE, |&backend| {
                    if backend == BackendNo::NONE { BackendNo::NONE } else { renumber(backend) }
                })
            };
            let (backend, its_round) = kept.unwrap_or_else(|| (left(), new_round));
            if backend != BackendNo::NONE && backend != now {
                (had[slot], round[slot]) = (backend, its_round);
            }
        }
        had.iter().any(|&backend| backend != BackendNo::NONE).then(|| {
            let next = first_deadline(&had, &round, &deadlines);
            let away: Arc<[bool]> = away.collect();
            let is_away = |backend: BackendNo| away.get(backend.index()).copied().unwrap_or(false);
            let all = had.iter().filter(|&&backend| backend != BackendNo::NONE);
            let slots = all.clone().filter(|&&backend| !is_away(backend)).count();
            let away = if slots == all.count() { None } else { Some(away) };
            HandOver { had: had.into(), away, round: round.into(), deadlines, next, slots }
        })
    }

    /// The backend that gets the unknown flows of a slot, because it had it before. [`BackendNo::NONE`] if there is none.
    pub fn before(&self, slot: usize) -> BackendNo {
        let had = self.had[slot];
        let away = self.away.as_ref().is_some_and(|away| away.get(had.index()) == Some(&true));
        if away { BackendNo::NONE } else { had }
    }

    /// The backend that had a slot before, and the index of its deadline, if that has not passed.
    fn at(&self, slot: usize, now_ms: u64) -> Option<(BackendNo, u8)> {
        let (backend, round) = (*self.had.get(slot)?, self.round[slot]);
        let open = backend != BackendNo::NONE && self.deadlines[usize::from(round)] > now_ms;
        open.then_some((backend, round))
    }

    /// When the first of its deadlines passes, in ms.
    pub fn next_deadline(&self) -> u64 {
        self.next
    }

    /// How many slots have a `before`.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

fn first_deadline(had: &[BackendNo], round: &[u8], deadlines: &[u64]) -> u64 {
    let mut used = [false; MAX_ROUNDS];
    let open = had.iter().zip(round).filter(|(had, _)| **had != BackendNo::NONE);
    open.for_each(|(_, round)| used[usize::from(*round)] = true);
    deadlines.iter().zip(used).filter(|(_, used)| *used).map(|(deadline, _)| *deadline).min().unwrap_or(u64::MAX)
}

/// The index of a deadline at `until_ms`. Uses the entry of a deadline that has passed, if there is one: no slot has
/// that any more.
fn round_of(deadlines: &mut Vec<u64>, now_ms: u64, until_ms: u64) -> u8 {
    let round = match deadlines.iter().position(|&deadline| deadline <= now_ms || deadline == until_ms) {
        Some(round) => round,
        None if deadlines.len() < MAX_ROUNDS => {
            deadlines.push(until_ms);
            deadlines.len() - 1
        }
        // The slots whose hand-over ends last can wait a little longer.
        None => (0..deadlines.len()).max_by_key(|&round| deadlines[round]).expect("there are MAX_ROUNDS"),
    };
    deadlines[round] = until_ms;
    u8::try_from(round).expect("below MAX_ROUNDS")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BackendNo = BackendNo::new(0);
    const B: BackendNo = BackendNo::new(1);
    const C: BackendNo = BackendNo::new(2);
    const N: BackendNo = BackendNo::NONE;

    /// No backend is away.
    const NOBODY: std::iter::Empty<bool> = std::iter::empty();

    fn befores(handover: &HandOver) -> Vec<BackendNo> {
        (0..handover.had.len()).map(|slot| handover.before(slot)).collect()
    }

    fn same(backend: BackendNo) -> BackendNo {
        backend
    }

    fn but_not(gone: BackendNo) -> impl Fn(BackendNo) -> BackendNo {
        move |backend| if backend == gone { N } else { backend }
    }

    fn begin(
        old: &[BackendNo],
        handover: Option<&HandOver>,
        new: &[BackendNo],
        now_ms: u64,
        until_ms: u64,
    ) -> Option<HandOver> {
        HandOver::begin(Slots { now: old, handover }, new, same, NOBODY, now_ms, until_ms)
    }

    #[test]
    fn slots_that_moved_keep_the_backend_that_had_them() {
        let handover = begin(&[A, A, B, N], None, &[A, B, B, A], 0, 100).unwrap();
        assert_eq!(*befores(&handover), [N, A, N, N]);
        assert_eq!((handover.slots(), handover.next_deadline()), (1, 100));
        assert!(begin(&[A, B], None, &[A, B], 0, 100).is_none(), "nothing has moved");
    }

    #[test]
    fn a_backend_that_is_gone_is_no_before() {
        let moved =
            HandOver::begin(Slots { now: &[A, B], handover: None }, &[C, C], but_not(A), NOBODY, 0, 100).unwrap();
        assert_eq!(*befores(&moved), [N, B]);
    }

    #[test]
    fn a_second_move_keeps_the_first_backend_and_its_deadline() {
        let first = begin(&[A, A, A], None, &[B, A, B], 0, 100).unwrap();
        let second = begin(&[B, A, B], Some(&first), &[C, C, B], 50, 150).unwrap();
        assert_eq!(*befores(&second), [A, A, A]);
        assert_eq!(second.next_deadline(), 100);
        let third = begin(&[C, C, B], Some(&second), &[C, C, B], 100, 200).unwrap();
        assert_eq!(*befores(&third), [N, A, N], "the first two are over, and their slots did not move again");
        assert_eq!(third.next_deadline(), 150);
    }

    #[test]
    fn when_the_first_backend_goes_its_slots_keep_only_the_backend_that_they_leave() {
        let first = begin(&[A, A], None, &[B, B], 0, 100).unwrap();
        let second =
            HandOver::begin(Slots { now: &[B, B], handover: Some(&first) }, &[B, C], but_not(A), NOBODY, 50, 150)
                .unwrap();
        assert_eq!(*befores(&second), [N, B]);
    }

    #[test]
    fn a_move_back_to_the_first_backend_is_no_hand_over() {
        let first = begin(&[A], None, &[B], 0, 100).unwrap();
        assert!(begin(&[B], Some(&first), &[A], 50, 150).is_none());
    }

    #[test]
    fn what_keeps_no_unknown_flows_has_its_slots_back_without_a_hand_over() {
        let begin = |old: &[BackendNo], handover, new: &[BackendNo], now_ms| {
            HandOver::begin(
                Slots { now: old, handover },
                new,
                same,
                [true, false, false].into_iter(),
                now_ms,
                now_ms + 100,
            )
        };
        let first = begin(&[A, A, B], None, &[B, C, C], 0).unwrap();
        assert_eq!((&*befores(&first), first.slots(), first.next_deadline()), (&[N, N, B][..], 1, 100));
        let back =
            HandOver::begin(Slots { now: &[B, C, C], handover: Some(&first) }, &[A, A, A], same, NOBODY, 50, 150);
        assert_eq!(*befores(&back.unwrap()), [N, N, B], "the third slot was never its own");
        let late =
            HandOver::begin(Slots { now: &[B, C, C], handover: Some(&first) }, &[A, A, A], same, NOBODY, 100, 200);
        assert_eq!(*befores(&late.unwrap()), [B, C, C]);
    }

    #[test]
    fn a_slot_may_be_left_without_a_backend() {
        let drained = begin(&[A, A], None, &[N, N], 0, 100).unwrap();
        assert_eq!(*befores(&drained), [A, A]);
        assert!(begin(&[N, N], Some(&drained), &[A, A], 10, 110).is_none());
    }

    #[test]
    fn any_number_of_changes_fits_the_deadlines() {
        let (mut table, mut handover) = (vec![A; 600], None);
        for change in 0..600u64 {
            let old = table.clone();
            table[usize::try_from(change).unwrap()] = B;
            handover = begin(&old, handover.as_ref(), &table, change, 10_000 + change);
        }
        let handover = handover.unwrap();
        assert_eq!((handover.slots(), handover.next_deadline()), (600, 10_000));
    }
}
