//! Maglev's consistent hashing: it gives each slot of a service's table to a backend.
//!
//! A table of M slots (M prime) is filled in turns (Eisenbud et al., "Maglev", NSDI 2016, §3.4). Each backend prefers
//! the slots in its own order, and in its turn it takes the first of them that is still free. [`wrr`] hands out the
//! turns, so that shares follow the weights.
//!
//! Two directors with the same configuration must build the same table, even if their releases differ. So a backend's
//! order of preference comes from a keyed, fixed hash of its address. With `hash_key` as the key,
//! `(h1, h2) = SipHash-2-4-128("shunt-maglev" ‖ address)`. The address is 16 bytes, IPv4 as `::ffff:a.b.c.d`; `h1` and
//! `h2` are the two 64-bit halves. The backend prefers the slots `(h1 mod M + j · (h2 mod (M − 1) + 1)) mod M` for
//! j = 0, 1, …. And backends are taken in the order of their addresses, never in that of their insertion.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::base::ids::BackendNo;
use crate::base::limits::{MAX_BACKENDS, MAX_TABLE_SIZE, MIN_TABLE_SIZE};
use crate::select::wrr;

/// For the last slots, this many, the position in a backend's order is calculated. To search along the order would take
/// tens of thousands of steps for the last of 65,537 slots.
const FEW: usize = 256;

/// A backend as the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its address, which decides which slots it prefers.
    pub address: IpAddr,
    /// Its weight, which decides how many slots it has.
    pub weight: u32,
}

/// Fills a table of `size` slots, which must be a prime. A slot holds an index into `candidates`, which must be in
/// strictly ascending order of their addresses. The table is empty if no candidate has a weight above 0.
pub fn build(key: &[u8; 16], size: u32, candidates: &[Candidate]) -> Box<[BackendNo]> {
    assert!(candidates.len() <= MAX_BACKENDS, "the model bounds a service's backends");
    debug_assert!(candidates.is_sorted_by(|a, b| a.address < b.address), "two directors must build the same table");
    if candidates.iter().all(|candidate| candidate.weight == 0) {
        return Box::default();
    }
    let mut permutations: Vec<Permutation> =
        candidates.iter().map(|candidate| Permutation::new(key, size, candidate.address)).collect();
    let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
    let turns = wrr::period(&weights, size as usize);
    // Bound: one turn is taken for each slot.
    let mut turns = turns.iter().cycle();
    let mut turn = || *turns.next().expect("turns never end while a candidate has a weight");
    let mut slots = vec![BackendNo::NONE; size as usize];
    let mut taken = Taken::new(size);
    for _ in FEW..size as usize {
        let turn = turn();
        slots[permutations[turn.index()].next_free(size, &mut taken) as usize] = turn;
    }
    let mut free = taken.free();
    let modulus = Modulus::new(size);
    // Bound: each round takes a free slot, of which there are FEW.
    while !free.is_empty() {
        let turn = turn();
        slots[permutations[turn.index()].nearest(modulus, &mut free) as usize] = turn;
    }
    slots.into()
}

/// The slot of a flow with this hash in a table of `size` slots. A multiplication, because a division is slower.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper half of the product is below `size`")]
pub fn slot(hash: u64, size: usize) -> usize {
    ((u128::from(hash) * size as u128) >> 64) as usize
}

/// The number of slots of each of `backends` backends.
pub fn slot_counts(table: &[BackendNo], backends: usize) -> Vec<u32> {
    let mut counts = vec![0; backends];
    for &backend in table {
        // A slot may have no backend.
        if let Some(count) = counts.get_mut(backend.index()) {
            *count += 1;
        }
    }
    counts
}

/// Whether a table may have this size.
pub fn is_table_size(size: u32) -> bool {
    let divides = |divisor: &u32| size.is_multiple_of(*divisor);
    // Bound: the square root of the size.
    (MIN_TABLE_SIZE..=MAX_TABLE_SIZE).contains(&size) && !(2..).take_while(|d| d * d <= size).any(|d| divides(&d))
}

/// The order in which a backend prefers the slots.
struct Permutation {
    next: u32,
    skip: u32,
}

impl Permutation {
    #[expect(clippy::cast_possible_truncation, reason = "the remainders are below `size`")]
    fn new(key: &[u8; 16], size: u32, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(b"shunt-maglev");
        hasher.write(&address.octets());
        let hash = hasher.finish128();
        let size = u64::from(size);
        Permutation { next: (hash.h1 % size) as u32, skip: (hash.h2 % (size - 1) + 1) as u32 }
    }

    /// Takes the next preferred slot that is free. There must be one.
    fn next_free(&mut self, size: u32, taken: &mut Taken) -> u32 {
        // Bound: the order names each slot once in `size` steps, and one of them is free.
        loop {
            let slot = self.next;
            self.step(size);
            if taken.take(slot) {
                return slot;
            }
        }
    }

    /// The same if only a few slots are free: slot s comes (s − next) / skip steps from now, modulo M.
    #[expect(clippy::cast_possible_truncation, reason = "all are below M")]
    fn nearest(&mut self, modulus: Modulus, free: &mut Vec<u32>) -> u32 {
        let inverse = modulus.inverse(self.skip);
        let steps = |slot: u32| modulus.product(slot + modulus.size as u32 - self.next, inverse);
        let nearest = (0..free.len()).min_by_key(|&index| steps(free[index])).expect("some are free");
        let slot = free.swap_remove(nearest);
        self.next = slot;
        self.step(modulus.size as u32);
        slot
    }

    #[inline]
    fn step(&mut self, size: u32) {
        self.next += self.skip;
        if self.next >= size {
            self.next -= size;
        }
    }
}

/// One bit for each slot: whether it is taken. Small enough for the first-level cache.
struct Taken {
    size: u32,
    words: Vec<u64>,
}

impl Taken {
    fn new(size: u32) -> Self {
        Taken { size, words: vec![0; (size as usize).div_ceil(64)] }
    }

    /// Takes a slot. Returns whether it was free.
    #[inline]
    fn take(&mut self, slot: u32) -> bool {
        let (word, bit) = (&mut self.words[slot as usize / 64], 1 << (slot % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    fn free(&self) -> Vec<u32> {
        (0..self.size).filter(|slot| self.words[*slot as usize / 64] >> (slot % 64) & 1 == 0).collect()
    }
}

/// Arithmetic modulo M, a prime not above [`MAX_TABLE_SIZE`].
#[derive(Clone, Copy)]
struct Modulus {
    size: u64,
    /// 2^64 / M, rounded up: the quotient of a number below 2^64 / M is the upper half of a product, exactly.
    reciprocal: u64,
}

impl Modulus {
    fn new(size: u32) -> Self {
        let size = u64::from(size);
        Modulus { size, reciprocal: u64::MAX / size + 1 }
    }

    /// a · b mod M for a < 2 M, b < M: the product is below 2^41.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the upper half of a product")]
    fn product(self, a: u32, b: u32) -> u32 {
        let product = u64::from(a) * u64::from(b);
        let quotient = ((u128::from(product) * u128::from(self.reciprocal)) >> 64) as u64;
        (product - quotient * self.size) as u32
    }

    /// The b with a · b = 1 mod M, by Euclid's algorithm; 0 < a < M.
    fn inverse(self, a: u32) -> u32 {
        let size = i64::try_from(self.size).expect("at most MAX_TABLE_SIZE");
        let (mut high, mut low) = ((size, 0), (i64::from(a), 1));
        // Bound: the remainders fall at least as fast as Fibonacci's numbers.
        while low.0 > 0 {
            let quotient = high.0 / low.0;
            (high, low) = (low, (high.0 - quotient * low.0, high.1 - quotient * low.1));
        }
        u32::try_from(high.1.rem_euclid(size)).expect("below M")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::DEFAULT_TABLE_SIZE;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        (0..)
            .zip(weights)
            .map(|(i, &weight)| Candidate { address: Ipv4Addr::from_bits(0xc0a8_0003 + i).into(), weight })
            .collect()
    }

    fn moved(before: &[BackendNo], after: &[BackendNo], renumber: impl Fn(BackendNo) -> BackendNo) -> usize {
        before.iter().zip(after).filter(|&(&b, &a)| b != renumber(a)).count()
    }

    /// Directors of different releases must agree: this table never changes.
    #[test]
    fn golden_table() {
        let table = build(&KEY, 31, &candidates(&[3, 1, 2]));
        assert_eq!(*table, GOLDEN.map(BackendNo::new));
    }
    const GOLDEN: [usize; 31] =
        [0, 0, 2, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 2, 2, 0, 2, 2, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 2, 2];

    /// The same for whole tables, of all sizes and mixtures of weights, by their digests.
    #[test]
    fn golden_digests() {
        for (size, backends, weights, digest) in DIGESTS {
            let weights: Vec<u32> = (0..backends).map(|i| weights[i * i % weights.len()]).collect();
            let table = build(&KEY, size, &candidates(&weights));
            let mut hasher = SipHasher24::new_with_key(&KEY);
            table.iter().for_each(|slot| hasher.write(&u16::try_from(slot.index()).unwrap().to_le_bytes()));
            assert_eq!(hasher.finish128().h1, digest, "M = {size}, {backends} backends of {weights:?}");
        }
    }
    const DIGESTS: [(u32, usize, &[u32], u64); 16] = [
        (31, 40, &[1], 0xe98d_987b_e9c8_11e4),
        (1_021, 3, &[7, 65_535, 2], 0x7937_4b53_873c_b738),
        (5_003, 200, &[0, 1, 2, 3], 0xa00f_74f8_dba6_7fb0),
        (65_537, 1, &[5], 0x1245_dd30_dbcd_c79e),
        (65_537, 2, &[1], 0x81d2_85d9_59b9_1145),
        (65_537, 2, &[1, 65_535], 0xddbd_f8bb_ff43_a57c),
        (65_537, 16, &[1, 2, 3, 4, 5], 0x934a_a90f_7a23_c485),
        (65_537, 100, &[1], 0xa2bf_b8b9_c126_3124),
        (65_537, 100, &[1, 2, 5, 10, 100], 0x9ed4_e055_11fa_75d2),
        (65_537, 100, &[0, 3, 3, 0], 0xf9ae_75e9_3193_dd97),
        (65_537, 1_000, &[1], 0xdaf5_d43f_7c40_828a),
        (65_537, 1_000, &[1, 2, 5, 10, 100], 0x8fed_da33_9dc4_9d4a),
        (65_537, 1_000, &[65_535, 65_534, 40_001, 1, 77, 9_973, 3, 512, 31_337, 6, 11], 0xa6a5_94f9_a59f_4d80),
        (65_537, 10_000, &[1, 1, 2], 0x6187_ef57_cb82_9f9e),
        (1_048_573, 500, &[10, 20, 30], 0x4bf0_69fc_d099_f453),
        (1_048_573, 10_000, &[1], 0x3daa_6a1a_4015_0637),
    ];

    #[test]
    fn shares_follow_the_weights() {
        let weights = [3, 1, 0, 4];
        let counts = slot_counts(&build(&KEY, DEFAULT_TABLE_SIZE, &candidates(&weights)), 4);
        for (&weight, count) in weights.iter().zip(counts) {
            let ideal = f64::from(DEFAULT_TABLE_SIZE) * f64::from(weight) / 8.0;
            assert!((f64::from(count) - ideal).abs() <= 1.0, "{count} slots for weight {weight}");
        }
    }

    #[test]
    fn arithmetic_modulo_m_is_exact() {
        for size in [3, 31, DEFAULT_TABLE_SIZE, MAX_TABLE_SIZE] {
            let modulus = Modulus::new(size);
            let some = [1, 2, 3, 17, 256, 65_536, size / 2, size - 2, size - 1];
            for a in some.into_iter().filter(|&a| (1..size).contains(&a)) {
                assert_eq!(modulus.product(a, modulus.inverse(a)), 1, "{a} modulo {size}");
                for b in [0, a - 1, size - 1] {
                    let exact = (u64::from(size) + u64::from(a)) * u64::from(b) % u64::from(size);
                    assert_eq!(u64::from(modulus.product(size + a, b)), exact, "{a} · {b} modulo {size}");
                }
            }
        }
    }

    #[test]
    fn without_weight_there_is_no_table() {
        assert!(build(&KEY, 31, &candidates(&[0, 0])).is_empty());
        assert!(build(&KEY, 31, &[]).is_empty());
    }

    #[test]
    fn losing_one_backend_moves_few_slots_of_the_others() {
        let all = candidates(&[1; 20]);
        let mut fewer = all.clone();
        fewer.remove(7);
        let before = build(&KEY, DEFAULT_TABLE_SIZE, &all);
        let after = build(&KEY, DEFAULT_TABLE_SIZE, &fewer);
        let moved = moved(&before, &after, |b| if b.index() >= 7 { BackendNo::new(b.index() + 1) } else { b });
        let ideal = DEFAULT_TABLE_SIZE as usize / 20;
        assert!(moved <= ideal + DEFAULT_TABLE_SIZE as usize * 12 / 1000, "{moved} of which {ideal} had to");
    }

    #[test]
    fn table_sizes_are_primes() {
        for size in [3, 31, 65_537, 131_071, MAX_TABLE_SIZE] {
            assert!(is_table_size(size), "{size}");
        }
        for size in [0, 1, 2, 4, 65_536, 65_535, 1_048_577] {
            assert!(!is_table_size(size), "{size}");
        }
    }

    #[test]
    fn slots_cover_the_table() {
        assert_eq!(slot(0, 31), 0);
        assert_eq!(slot(u64::MAX, 31), 30);
        assert_eq!(slot(u64::MAX / 2, 31), 15);
    }

    /// M = 65537, 2 to 500 backends of equal and of various weights. Each backend's share is within 1 % of its weight,
    /// or within one slot if 1 % is less than a slot.
    #[test]
    fn shares_are_within_one_percent_for_two_to_five_hundred_backends() {
        for count in (2..=500).step_by(3).chain([499, 500]) {
            for weights in [vec![1; count], (0..count).map(|i| [1, 2, 5, 10, 100][i % 5]).collect()] {
                let counts = slot_counts(&build(&KEY, DEFAULT_TABLE_SIZE, &candidates(&weights)), count);
                let total: u32 = weights.iter().sum();
                for (&weight, slots) in weights.iter().zip(counts) {
                    let ideal = f64::from(DEFAULT_TABLE_SIZE) * f64::from(weight) / f64::from(total);
                    let error = (f64::from(slots) - ideal).abs();
                    assert!(error <= (ideal * 0.01).max(1.0), "{slots} of {ideal} slots, {count} backends");
                }
            }
        }
    }

    /// The loss of any one of N ≤ 500 backends moves its own slots, and at most 1.2 % of the other slots.
    #[test]
    fn the_loss_of_a_backend_moves_little_else() {
        for count in [2, 3, 5, 8, 16, 33, 64, 100, 150, 250, 333, 500] {
            let all = candidates(&vec![1; count]);
            let before = build(&KEY, DEFAULT_TABLE_SIZE, &all);
            for lost in [0, count / 2, count - 1] {
                let mut fewer = all.clone();
                fewer.remove(lost);
                let after = build(&KEY, DEFAULT_TABLE_SIZE, &fewer);
                let renumber = |backend: BackendNo| match backend.index() {
                    index if index >= lost => BackendNo::new(index + 1),
                    _ => backend,
                };
                let moved = moved(&before, &after, renumber) as f64 / f64::from(DEFAULT_TABLE_SIZE);
                assert!(moved <= 1.0 / count as f64 + 0.012, "{moved} of the slots, losing {lost} of {count}");
            }
        }
    }

    /// A drained backend leaves the table like a removed one. When its weight returns, the old table returns.
    #[test]
    fn a_backend_that_comes_back_finds_its_slots() {
        let all = candidates(&[1; 50]);
        let mut without = all.clone();
        without[20].weight = 0;
        let (before, meanwhile) = (build(&KEY, 5_003, &all), build(&KEY, 5_003, &without));
        assert!(!meanwhile.contains(&BackendNo::new(20)));
        assert_eq!(build(&KEY, 5_003, &all), before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_backend_gets_its_share(weights in prop::collection::vec(1u32..20, 1..40)) {
            let counts = slot_counts(&build(&KEY, 5_003, &candidates(&weights)), weights.len());
            let total: u32 = weights.iter().sum();
            for (&weight, count) in weights.iter().zip(counts) {
                let ideal = 5_003.0 * f64::from(weight) / f64::from(total);
                // Turns are handed out smoothly, so no backend is ever far from its share.
                prop_assert!((f64::from(count) - ideal).abs() <= 2.0 + ideal * 0.01, "{} for {}", count, ideal);
            }
        }
    }
}
