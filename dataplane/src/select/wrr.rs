//! Smooth weighted round-robin: which backend has the next turn.
//!
//! In each turn, every participant gains its weight in credit. The one with the most credit (of several, the first) has
//! the turn, and pays the sum of all weights (the algorithm of nginx). A weight of 3 gets three turns where a weight of
//! 1 gets one, and they are spread evenly: 3:1:1 gives A B A C A, not A A A B C.
//!
//! Participants of equal weight take turns among themselves in their order, because the one that had fewer turns has
//! more credit. So it is enough to compare one participant of each *distinct weight*. The sequence is the same, and a
//! thousand backends of a few weights are cheap. Many distinct weights are cheap to compare, too: credit and order are
//! one number, and processors find the largest of several numbers at once.

use crate::base::ids::BackendNo;

use std::collections::BTreeMap;

/// An endless sequence of turns.
#[derive(Debug, Clone)]
struct SmoothWrr {
    /// By class, the rank of its next member: its credit × `scale`, plus a number below `scale` that is larger for an
    /// earlier member. So no two ranks are equal. Ranks are whole numbers far below 2^53, so an f64 is exact. (SSE2,
    /// which all x86-64 have, finds the larger of two f64, but not of two i64.) The last row is filled up with ranks
    /// that never win.
    ranks: Vec<[f64; LANES]>,
    /// By class, the gain of a turn: its weight × `scale`.
    gains: Vec<[f64; LANES]>,
    /// The classes, in ascending order of their weights.
    classes: Vec<Class>,
    /// The class of each participant.
    class_of: Vec<usize>,
    /// A power of two above the number of participants.
    scale: i64,
    /// The sum of all weights.
    total: i64,
}

/// The ranks that are compared at once.
const LANES: usize = 4;

/// The participants of one weight.
#[derive(Debug, Clone, Default)]
struct Class {
    /// The participants, in their order.
    members: Vec<usize>,
    /// The index of the next member.
    next: usize,
}

impl SmoothWrr {
    /// For participants 0, 1, … with these weights. A participant of weight 0 gets no turn.
    fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut by_weight: BTreeMap<u32, Class> = BTreeMap::new();
        let mut participants = 0;
        for (participant, weight) in weights.into_iter().enumerate() {
            participants = participant + 1;
            if weight > 0 {
                by_weight.entry(weight).or_default().members.push(participant);
            }
        }
        let scale = i64::try_from(participants.next_power_of_two()).expect("participants are in memory");
        let (mut class_of, mut total) = (vec![0; participants], 0);
        let rows = by_weight.len().div_ceil(LANES);
        let (mut ranks, mut gains) = (vec![[f64::NEG_INFINITY; LANES]; rows], vec![[0.0; LANES]; rows]);
        for (class_index, (&weight, class)) in by_weight.iter().enumerate() {
            class.members.iter().for_each(|&member| class_of[member] = class_index);
            total += i64::from(weight) * i64::try_from(class.members.len()).expect("members are in memory");
            ranks[class_index / LANES][class_index % LANES] = exact(order(class.members[0], scale));
            gains[class_index / LANES][class_index % LANES] = exact(i64::from(weight) * scale);
        }
        SmoothWrr { ranks, gains, classes: by_weight.into_values().collect(), class_of, scale, total }
    }
}

impl Iterator for SmoothWrr {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if let [class] = &mut *self.classes {
            return Some(class.take_turn().0);
        }
        let mut best = [f64::NEG_INFINITY; LANES];
        for (ranks, gains) in self.ranks.iter_mut().zip(&self.gains) {
            for lane in 0..LANES {
                ranks[lane] += gains[lane];
                best[lane] = if ranks[lane] > best[lane] { ranks[lane] } else { best[lane] };
            }
        }
        let best = best.into_iter().fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "ranks are whole numbers below 2^53")]
        let rank = best as i64;
        let turn = usize::try_from(order_of(rank, self.scale)).expect("below the number of participants");
        let class_index = self.class_of[turn];
        let (_, next, round) = self.classes[class_index].take_turn();
        // At the end of a round, every member of the class has paid.
        let paid = if round { self.total * self.scale } else { 0 };
        let rank = rank - order(turn, self.scale) + order(next, self.scale) - paid;
        self.ranks[class_index / LANES][class_index % LANES] = exact(rank);
        Some(turn)
    }
}

/// The turns of participants with these weights: one whole period, after which the sequence repeats, but at most `most`
/// turns. Empty if no participant has a weight.
pub fn period(weights: &[u32], most: usize) -> Vec<BackendNo> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let period: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    let turns = usize::try_from(period).map_or(most, |period| period.min(most));
    let sequence = SmoothWrr::new(weights.iter().map(|weight| weight / divisor)).take(turns);
    sequence.map(BackendNo::new).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The part of a rank that encodes a participant's position in the order.
fn order(participant: usize, scale: i64) -> i64 {
    scale - 1 - i64::try_from(participant).expect("below scale")
}

/// The participant that a rank encodes.
fn order_of(rank: i64, scale: i64) -> i64 {
    scale - 1 - (rank & (scale - 1))
}

#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53 are exact")]
fn exact(number: i64) -> f64 {
    debug_assert!(number.abs() < 1 << 53, "no credit is many times the sum of all weights");
    number as f64
}

impl Class {
    /// The member that has the turn, the next member, and whether the round is complete.
    fn take_turn(&mut self) -> (usize, usize, bool) {
        let turn = self.members[self.next];
        self.next += 1;
        let round = self.next == self.members.len();
        if round {
            self.next = 0;
        }
        (turn, self.members[self.next], round)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The algorithm as defined, with one credit for each participant.
    fn plain(weights: &[u32], turns: usize) -> Vec<usize> {
        let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut credits = vec![0i64; weights.len()];
        (0..turns)
            .map(|_| {
                for (credit, &weight) in credits.iter_mut().zip(weights) {
                    *credit += i64::from(weight);
                }
                let best = (0..weights.len())
                    .filter(|&i| weights[i] > 0)
                    .max_by(|&a, &b| credits[a].cmp(&credits[b]).then(b.cmp(&a)))
                    .unwrap();
                credits[best] -= total;
                best
            })
            .collect()
    }

    #[test]
    fn turns_are_spread_not_bunched() {
        assert_eq!(SmoothWrr::new([3, 1, 1]).take(5).collect::<Vec<_>>(), [0, 1, 0, 2, 0]);
        assert_eq!(SmoothWrr::new([5, 1, 1]).take(7).collect::<Vec<_>>(), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn weight_zero_has_no_turn_and_without_weights_there_is_no_sequence() {
        assert_eq!(SmoothWrr::new([0, 2, 0]).take(3).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(SmoothWrr::new([0, 0]).next(), None);
        assert_eq!(SmoothWrr::new([]).next(), None);
    }

    #[test]
    fn a_period_is_stored_once() {
        for (weights, most, turns) in [
            (&[30, 0, 10, 10][..], 100, &[0, 2, 0, 3, 0][..]),
            (&[30, 0, 10, 10], 3, &[0, 2, 0]),
            (&[0, 0], 100, &[]),
            (&[], 100, &[]),
        ] {
            let period: Vec<usize> = period(weights, most).into_iter().map(BackendNo::index).collect();
            assert_eq!(period, turns, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn the_sequence_is_that_of_the_definition(weights in prop::collection::vec(0u32..6, 1..12)) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let turns: Vec<usize> = SmoothWrr::new(weights.iter().copied()).take(200).collect();
            prop_assert_eq!(turns, plain(&weights, 200));
        }

        #[test]
        fn a_period_repeats(weights in prop::collection::vec(0u32..70, 1..9)) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let again = period(&weights, usize::MAX).into_iter().map(BackendNo::index);
            let again: Vec<usize> = again.collect::<Vec<_>>().into_iter().cycle().take(2_000).collect();
            prop_assert_eq!(again, plain(&weights, 2_000));
        }

        #[test]
        fn over_one_period_each_participant_gets_its_weight(weights in prop::collection::vec(0u32..50, 1..20)) {
            let period: u32 = weights.iter().sum();
            let mut turns = vec![0u32; weights.len()];
            for turn in SmoothWrr::new(weights.iter().copied()).take(period as usize) {
                turns[turn] += 1;
            }
            prop_assert_eq!(turns, weights);
        }
    }
}
