//! A token bucket: a rate per second, and at most one second's tokens at once, or fewer.
//!
//! Each worker has its own bucket with its share of the rate, so that workers share nothing that they write. All
//! numbers are whole: credit is counted in thousandths of a token, and a token costs that much times the number of
//! workers.

/// A worker's share of a rate. Its time is an argument of its methods.
#[derive(Debug)]
pub struct TokenBucket {
    /// The rate of all workers together, which is also the credit earned in a millisecond.
    per_second: u64,
    /// The credit that one token costs.
    cost: u64,
    credit: u64,
    /// The most credit, but at least one token's.
    depth: u64,
    /// The time until which credit has been given.
    credited_ms: u64,
}

impl TokenBucket {
    /// A full bucket for one of `workers` workers. A rate of 0 never gives a token.
    pub fn new(per_second: u32, workers: usize) -> Self {
        Self::with_depth(per_second, workers, 1_000)
    }

    /// The same with at most as many tokens at once as there are in so many milliseconds, but at least one.
    pub fn with_depth(per_second: u32, workers: usize, depth_ms: u32) -> Self {
        let (per_second, cost) = (u64::from(per_second), 1_000 * workers as u64);
        let depth = if per_second == 0 { 0 } else { (per_second * u64::from(depth_ms)).max(cost) };
        TokenBucket { per_second, cost, credit: depth, depth, credited_ms: 0 }
    }

    /// Takes a token. Returns whether there was one.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.credited_ms);
        self.credited_ms = now_ms;
        let earned = elapsed_ms.saturating_mul(self.per_second);
        self.credit = self.credit.saturating_add(earned).min(self.depth);
        let enough = self.credit >= self.cost && self.per_second > 0;
        if enough {
            self.credit -= self.cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, milliseconds: std::ops::Range<u64>, per_ms: usize) -> usize {
        milliseconds.map(|now| (0..per_ms).filter(|_| bucket.take(now)).count()).sum()
    }

    #[test]
    fn the_workers_together_keep_the_rate() {
        for (rate, workers) in [(1_000, 1), (1_000, 3), (7, 2), (1, 4)] {
            let mut share = TokenBucket::new(rate, workers);
            taken(&mut share, 0..1, 2_000); // the saved second
            let in_a_minute = taken(&mut share, 1..60_001, 2) as f64;
            let wanted = 60.0 * f64::from(rate) / workers as f64;
            assert!((in_a_minute - wanted).abs() <= 1.0, "{rate} over {workers}: {in_a_minute}");
        }
    }

    #[test]
    fn no_more_than_a_second_is_saved() {
        let mut bucket = TokenBucket::new(100, 1);
        assert_eq!(taken(&mut bucket, 0..1, 500), 100);
        assert_eq!(taken(&mut bucket, 3_600_000..3_600_001, 500), 100);
        assert_eq!(taken(&mut TokenBucket::new(1, 8), 0..1, 500), 1, "a share of less than one token still saves one");
    }

    #[test]
    fn a_shallow_bucket_keeps_the_rate_but_saves_less() {
        let mut bucket = TokenBucket::with_depth(100, 1, 250);
        assert_eq!(taken(&mut bucket, 0..1, 500), 25);
        assert_eq!(taken(&mut bucket, 60_000..60_001, 500), 25);
        assert_eq!(taken(&mut bucket, 60_001..61_001, 5), 100);
        assert_eq!(taken(&mut TokenBucket::with_depth(1, 1, 1), 0..1, 5), 1);
    }

    #[test]
    fn a_rate_of_zero_gives_no_token() {
        assert_eq!(taken(&mut TokenBucket::new(0, 1), 0..10_000, 2), 0);
    }

    #[test]
    fn a_clock_that_jumps_neither_overflows_nor_stops() {
        let mut bucket = TokenBucket::new(u32::MAX, 2);
        assert!(bucket.take(u64::MAX));
        assert!(bucket.take(5) && bucket.take(6));
    }
}
