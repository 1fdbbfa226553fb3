//! Smooth weighted round-robin: who has the next turn.
//!
//! In each turn everybody gains its weight in credit; who has most (of several, the first) has the turn and pays
//! the sum of all weights (the algorithm of nginx). A weight of 3 gets three turns where a weight of 1 gets one, and they are
//! spread evenly: 3:1:1 gives A B A C A, not A A A B C.
//!
//! Participants of equal weight take turns among themselves in their order, because whoever of them had fewer
//! turns has more credit. So it is enough to compare one participant of each *distinct weight*, which makes a
//! thousand backends of a few weights cheap, with the same sequence.

/// An endless sequence of turns.
#[derive(Debug, Clone)]
pub struct SmoothWrr {
    classes: Vec<Class>,
    total: i64,
}

/// The participants of one weight.
#[derive(Debug, Clone)]
struct Class {
    weight: i64,
    /// The credit of the member whose turn is next in this class.
    credit: i64,
    /// Participants, in their order.
    members: Vec<usize>,
    /// Which member is next.
    next: usize,
}

impl SmoothWrr {
    /// For participants 0, 1, … with these weights. Whoever has weight 0 gets no turn.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut total = 0;
        for (participant, weight) in weights.into_iter().enumerate().filter(|&(_, weight)| weight > 0) {
            let weight = i64::from(weight);
            total += weight;
            match classes.iter_mut().find(|class| class.weight == weight) {
                Some(class) => class.members.push(participant),
                None => classes.push(Class { weight, credit: 0, members: vec![participant], next: 0 }),
            }
        }
        SmoothWrr { classes, total }
    }
}

impl Iterator for SmoothWrr {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for index in 0..self.classes.len() {
            let class = &mut self.classes[index];
            class.credit += class.weight;
            let class = &self.classes[index];
            let better = best.is_none_or(|best| {
                let best = &self.classes[best];
                class.credit > best.credit || class.credit == best.credit && class.head() < best.head()
            });
            if better {
                best = Some(index);
            }
        }
        let total = self.total;
        let class = &mut self.classes[best?];
        let turn = class.head();
        class.next += 1;
        if class.next == class.members.len() {
            // Once round: every member of the class has paid.
            class.next = 0;
            class.credit -= total;
        }
        Some(turn)
    }
}

impl Class {
    fn head(&self) -> usize {
        self.members[self.next]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The algorithm as its definition says, one credit a participant.
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
    fn weight_zero_has_no_turn_and_nobody_is_no_sequence() {
        assert_eq!(SmoothWrr::new([0, 2, 0]).take(3).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(SmoothWrr::new([0, 0]).next(), None);
        assert_eq!(SmoothWrr::new([]).next(), None);
    }

    proptest! {
        #[test]
        fn the_sequence_is_that_of_the_definition(weights in prop::collection::vec(0u32..6, 1..12)) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let turns: Vec<usize> = SmoothWrr::new(weights.iter().copied()).take(200).collect();
            prop_assert_eq!(turns, plain(&weights, 200));
        }

        #[test]
        fn over_one_period_everybody_gets_its_weight(weights in prop::collection::vec(0u32..50, 1..20)) {
            let period: u32 = weights.iter().sum();
            let mut turns = vec![0u32; weights.len()];
            for turn in SmoothWrr::new(weights.iter().copied()).take(period as usize) {
                turns[turn] += 1;
            }
            prop_assert_eq!(turns, weights);
        }
    }
}
