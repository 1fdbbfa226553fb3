//! A filter that tells with one bit whether a flow may be remembered.
//!
//! A Bloom filter with one hash function. Flows are forgotten by writing it anew. While one copy answers, the sweep
//! through the table marks the flows that it keeps in a second copy. At the end of the sweep, the second copy takes
//! over.

use crate::base::touched::touched;

/// The bits of a copy, as an exponent of 2. It has 128 KiB, which stay in the second-level cache.
const BITS: u32 = 20;

/// The filter of one worker.
#[derive(Debug)]
pub(super) struct Filter {
    answering: Box<[u64]>,
    growing: Box<[u64]>,
}

impl Default for Filter {
    fn default() -> Self {
        let none = || touched(1 << (BITS - 6), || 0);
        Filter { answering: none(), growing: none() }
    }
}

impl Filter {
    /// Whether a flow with this hash may have been marked. A "no" is certain.
    #[inline]
    pub(super) fn may_know(&self, hash: u64) -> bool {
        let (word, bit) = bit_of(hash);
        self.answering[word] & bit != 0
    }

    /// Marks a new flow.
    pub(super) fn mark(&mut self, hash: u64) {
        let (word, bit) = bit_of(hash);
        self.answering[word] |= bit;
        self.growing[word] |= bit;
    }

    /// Marks a flow that the sweep keeps.
    pub(super) fn keep(&mut self, hash: u64) {
        let (word, bit) = bit_of(hash);
        self.growing[word] |= bit;
    }

    /// Ends a sweep: flows that were not marked or kept since the last sweep are forgotten.
    pub(super) fn turn_over(&mut self) {
        std::mem::swap(&mut self.answering, &mut self.growing);
        self.growing.fill(0);
    }
}

/// Uses other bits of the hash than the table's first buckets (the lowest) and the slots (the highest).
#[inline]
fn bit_of(hash: u64) -> (usize, u64) {
    let bit = (hash >> 24) as usize & ((1 << BITS) - 1);
    (bit >> 6, 1 << (bit & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_at_once_and_forgotten_after_a_sweep_that_does_not_keep_it() {
        let (kept, gone) = (0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
        let mut filter = Filter::default();
        assert!(!filter.may_know(kept));
        filter.mark(kept);
        filter.mark(gone);
        filter.turn_over();
        assert!(filter.may_know(kept) && filter.may_know(gone), "marked during the sweep that has ended");
        filter.keep(kept);
        filter.turn_over();
        assert!(filter.may_know(kept) && !filter.may_know(gone));
    }
}
