//! The time as a worker knows it: milliseconds, and the ticks by which remembered flows age.

use crate::base::limits::MAX_IDLE_MS;

/// The time is noted in ticks of this length.
pub const TICK_MS: u64 = 4_000;

/// Milliseconds by the TSC.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds in a TSC cycle, times 2^64: a multiplication in place of a division.
    ms_in_cycle: u64,
    ahead_ms: u64,
}

impl Clock {
    /// With so many TSC cycles in a second.
    pub fn new(tsc_hz: u64) -> Self {
        Clock { ms_in_cycle: u64::MAX / (tsc_hz / 1_000).max(1), ahead_ms: 0 }
    }

    /// One that stands still, at so many milliseconds: for tests.
    pub fn stopped_at(now_ms: u64) -> Self {
        Clock { ms_in_cycle: 0, ahead_ms: now_ms }
    }

    /// The time when the TSC is at `cycles`.
    #[inline]
    pub fn ms(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)) >> 64) as u64 + self.ahead_ms
    }

    /// How long so many cycles are.
    #[inline]
    pub fn ns(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)).saturating_mul(1_000_000) >> 64) as u64
    }
}

/// An idle timeout in ticks, at least the time asked for.
pub fn idle_ticks(idle_ms: u64) -> u16 {
    let ticks = idle_ms.min(MAX_IDLE_MS).div_ceil(TICK_MS) + 1;
    u16::try_from(ticks).expect("MAX_IDLE_MS is a few thousand ticks")
}
