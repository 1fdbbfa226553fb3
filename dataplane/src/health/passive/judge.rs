//! The judgement: whether a backend's handshakes are far worse than those of the service's others.

use crate::count::lease::Handshakes;

/// The handshakes that a judgement needs.
pub(super) const ENOUGH: u64 = 50;
/// The same for a backend that was out because of them, and is tried again.
pub(super) const ENOUGH_AGAIN: u64 = 20;

/// So much above the median of the others is far worse.
const ABOVE: f64 = 0.3;
/// And so many times the median.
const TIMES: f64 = 3.0;
/// Less than this above the median is as good as the others.
const LIKE_OTHERS: f64 = 0.1;

/// What a backend's handshakes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Far worse than the others.
    OneWay,
    /// As good as the others.
    Well,
    /// Something in between.
    Between,
}

/// What a share of unanswered handshakes says, where the others' median is this.
pub(super) fn finding(share: f64, others: f64) -> Finding {
    if share > others + ABOVE && share > others * TIMES {
        Finding::OneWay
    } else if share <= others + LIKE_OTHERS {
        Finding::Well
    } else {
        Finding::Between
    }
}

/// The share of the unanswered handshakes.
pub(super) fn share(counted: &Handshakes) -> f64 {
    ratio(counted.lost(), counted.all())
}

/// The same, but what clients of one network send does not count alone: that are in one of the parts. So all of them count only where
/// two parts have as much as they would if clients of many networks had sent them.
pub(super) fn share_of_many(counted: &Handshakes) -> f64 {
    let mut parts = counted.unanswered;
    parts.sort_unstable();
    let lost = counted.lost().min(parts[parts.len() / 2].saturating_mul(parts.len() as u64));
    ratio(lost, counted.answered + lost)
}

#[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The median of all these shares but one of this value: of two in the middle, the lower one, so that half of the backends may be bad.
/// `None`: there are no others. `sorted` is in ascending order.
pub(super) fn median_of_others(sorted: &[f64], own: f64) -> Option<f64> {
    let middle = sorted.len().checked_sub(2)? / 2;
    let at = sorted.partition_point(|share| *share < own);
    sorted.get(if middle < at { middle } else { middle + 1 }).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn far_worse_than_the_others_is_one_way() {
        for (share, others, expected) in [
            (1.0, 0.0, Finding::OneWay),
            (0.31, 0.0, Finding::OneWay),
            (0.3, 0.0, Finding::Between),
            (0.05, 0.0, Finding::Well),
            (0.5, 0.2, Finding::Between),
            (0.7, 0.2, Finding::OneWay),
            (1.0, 0.5, Finding::Between),
            (1.0, 1.0, Finding::Well),
            (0.0, 1.0, Finding::Well),
        ] {
            assert_eq!(finding(share, others), expected, "{share} {others}");
        }
    }

    #[test]
    fn clients_of_one_network_are_not_many() {
        let of = |answered, unanswered| share_of_many(&Handshakes { answered, unanswered });
        assert_eq!(of(10, [90, 0, 0]), 0.0);
        assert_eq!(of(10, [0, 0, 0]), 0.0);
        assert_eq!(of(10, [30, 30, 30]), 0.9);
        assert_eq!(of(10, [45, 45, 0]), 0.9, "two networks are more than one");
        assert_eq!(of(30, [80, 10, 0]), 0.5);
    }

    proptest! {
        #[test]
        fn the_median_is_that_of_the_others(mut shares in prop::collection::vec(0u8..20, 1..12), which in any::<prop::sample::Index>()) {
            shares.sort_unstable();
            let sorted: Vec<f64> = shares.iter().map(|&share| f64::from(share)).collect();
            let own = which.index(sorted.len());
            let mut others = sorted.clone();
            others.remove(own);
            let expected = (!others.is_empty()).then(|| others[(others.len() - 1) / 2]);
            prop_assert_eq!(median_of_others(&sorted, sorted[own]), expected);
        }
    }
}
