//! Windows: when a worker looks at handshakes.
//!
//! A cycle begins with the time in which SYNs are sampled. It is over when the worker has received so many frames: on a quiet worker never,
//! on a busy one soon. After that, the worker looks as long as answers to the last of these SYNs are likely, and once more when the clients
//! without an answer repeat theirs.
//!
//! ```text
//! 0          sampled     +250          950           sampled + 1,250                  10,000 ms
//! | SYNs, packets | packets |  nothing  | SYNs, packets |            nothing              |
//! ```

/// From one beginning of the sampling to the next.
const CYCLE_MS: u64 = 10_000;
/// The frames of a worker after which a cycle samples no more SYNs.
pub(super) const FRAMES: u64 = 1 << 19;
/// Time in which most clients go on after their SYN was answered. Those who are farther away count for nothing, whichever backend they have.
const ANSWER_MS: u64 = 250;
/// When clients send a SYN again that was not answered: after 1 s (RFC 6298 §2.1). Timers are late by some dozens of ms, and networks vary.
const REPEAT_FROM_MS: u64 = 950;
/// The end of that.
pub(super) const REPEAT_UNTIL_MS: u64 = 1_250;

/// What a worker is to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether it looks at all.
    pub(super) looks: bool,
    /// Whether it samples SYNs.
    pub(super) samples: bool,
}

/// The cycles of a worker.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// The number of the cycle.
    cycle: Option<u64>,
    /// Whether a cycle has begun since the worker started.
    begun: bool,
    /// What the worker had received when the cycle began.
    frames: u64,
    /// For how long the cycle sampled, in ms. `None`: it still does.
    sampled: Option<u64>,
}

impl Windows {
    /// What is to be looked at from now on, by a worker that has received so many frames.
    pub(super) fn look(&mut self, now_ms: u64, frames: u64) -> Look {
        let (cycle, into) = (now_ms / CYCLE_MS, now_ms % CYCLE_MS);
        if self.cycle.replace(cycle).is_some_and(|last| last != cycle) {
            (self.begun, self.frames, self.sampled) = (true, frames, None);
        }
        if !self.begun {
            return Look::default();
        }
        if self.sampled.is_none() && frames.wrapping_sub(self.frames) >= FRAMES {
            self.sampled = Some(into);
        }
        let Some(sampled) = self.sampled else { return Look { looks: true, samples: true } };
        let looks = into < sampled + ANSWER_MS || (REPEAT_FROM_MS..sampled + REPEAT_UNTIL_MS).contains(&into);
        Look { looks, samples: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds of some cycles in which a worker looks, and in which it samples, if it receives so many frames in each.
    fn times(frames_in_ms: u64) -> (Vec<u64>, Vec<u64>) {
        let mut windows = Windows::default();
        let looks: Vec<Look> = (0..3 * CYCLE_MS).map(|ms| windows.look(5_000 + ms, ms * frames_in_ms)).collect();
        let when =
            |is: fn(&Look) -> bool| (5_000..).zip(&looks).filter(|(_, look)| is(look)).map(|(ms, _)| ms).collect();
        (when(|look| look.looks), when(|look| look.samples))
    }

    #[test]
    fn a_quiet_worker_always_looks_and_a_busy_one_when_there_is_something_to_see() {
        let (looks, samples) = times(50);
        assert_eq!((looks.first(), looks.len()), (Some(&10_000), 25_000), "the first cycle that it has seen begin");
        assert_eq!(looks, samples);
        let (looks, samples) = times(FRAMES / 30);
        let in_cycle = |times: &[u64]| -> Vec<u64> {
            times.iter().filter(|ms| (10_000..20_000).contains(*ms)).map(|ms| ms - 10_000).collect()
        };
        assert_eq!(in_cycle(&samples), (0..31).collect::<Vec<u64>>());
        assert_eq!(
            in_cycle(&looks),
            (0..31 + ANSWER_MS).chain(REPEAT_FROM_MS..31 + REPEAT_UNTIL_MS).collect::<Vec<u64>>()
        );
        assert!(in_cycle(&looks).len() < 700, "a few percent of the time");
    }

    #[test]
    fn between_the_two_it_looks_at_every_repetition_of_what_it_sampled() {
        for frames_in_ms in [60, 100, 500, 1_000, 5_000, 100_000] {
            let (looks, samples) = times(frames_in_ms);
            let looks: std::collections::HashSet<u64> = looks.into_iter().collect();
            let before_the_end = samples.into_iter().filter(|ms| *ms < 33_000);
            for ms in before_the_end {
                assert!(
                    [ms, ms + 100, ms + 1_000, ms + 1_200].iter().all(|ms| looks.contains(ms)),
                    "{frames_in_ms}: {ms}"
                );
            }
        }
    }
}
