//! How far the weight of a backend has risen that has returned, in a slow start.

/// The steps to the whole weight: 5 %, 15 %, … 95 %, for a tenth of the time each.
pub(super) const STEPS: u32 = 10;
/// The parts of a weight: a step is two of them, and the first one is half a step.
pub(super) const PARTS: u32 = 2 * STEPS;

/// How far a backend has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rise {
    /// When it began, in ms.
    pub(super) since_ms: u64,
    /// Its step now, below [`STEPS`].
    pub(super) step: u32,
}

impl Rise {
    /// The share of its weight that the backend has, in percent.
    pub fn percent(self) -> u32 {
        self.parts() * 100 / PARTS
    }

    /// So many of [`PARTS`].
    pub(super) fn parts(self) -> u32 {
        2 * self.step + 1
    }

    /// How far it is now, if it has not come all the way.
    pub(super) fn at(since_ms: u64, now_ms: u64, slow_start_ms: u64) -> Option<Rise> {
        let passed = now_ms.saturating_sub(since_ms) * u64::from(STEPS) / slow_start_ms.max(1);
        let step = u32::try_from(passed).unwrap_or(u32::MAX);
        (step < STEPS).then_some(Rise { since_ms, step })
    }
}
