//! A worker's time: milliseconds, and the ticks in which the age of remembered flows is counted.

use crate::base::limits::MAX_IDLE_MS;

/// The length of a tick. The exception table stores times in ticks.
pub const TICK_MS: u64 = 4_000;

/// Converts TSC cycles to milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds in a TSC cycle, times 2^64, so that a conversion is a multiplication and not a division.
    ms_in_cycle: u64,
    ahead_ms: u64,
}

impl Clock {
    /// A clock for a TSC of this frequency.
    pub fn new(tsc_hz: u64) -> Self {
        Clock { ms_in_cycle: u64::MAX / (tsc_hz / 1_000).max(1), ahead_ms: 0 }
    }

    /// A clock that always shows this time: for tests.
    pub fn stopped_at(now_ms: u64) -> Self {
        Clock { ms_in_cycle: 0, ahead_ms: now_ms }
    }

    /// The time when the TSC is at `cycles`.
    #[inline]
    pub fn ms(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)) >> 64) as u64 + self.ahead_ms
    }

    /// The duration of this number of cycles, in nanoseconds.
    #[inline]
    pub fn ns(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)).saturating_mul(1_000_000) >> 64) as u64
    }
}

/// An idle timeout in ticks, rounded up, so that it is never shorter than `idle_ms`.
pub fn idle_ticks(idle_ms: u64) -> u16 {
    let ticks = idle_ms.min(MAX_IDLE_MS).div_ceil(TICK_MS) + 1;
    u16::try_from(ticks).expect("MAX_IDLE_MS is a few thousand ticks")
}
