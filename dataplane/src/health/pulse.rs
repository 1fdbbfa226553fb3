//! The pulse of a backend, by one check: its last probe, and whether the backend is up as far as this check says.

use std::time::{Duration, Instant};

use ctl::answer::CheckResult;

use crate::control::model::health::Check;
use crate::health::finding::{Failure, Finding};

/// What a check knows of a backend.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Whether the backend is up. `None`: not known yet.
    pub up: Option<bool>,
    /// Whether the last probes were good, and how many in a row were.
    streak: Option<(bool, u32)>,
    last: Option<Last>,
    passed: u64,
    failed: u64,
    void: u64,
}

/// The last probe that says something.
#[derive(Debug, Clone)]
struct Last {
    finding: Finding,
    at: Instant,
    took: Duration,
}

impl Pulse {
    /// That of a check that has not asked yet; `up` is what is known without it.
    pub fn new(up: Option<bool>) -> Pulse {
        Pulse { up, ..Pulse::default() }
    }

    /// Takes what a probe has found. Returns whether the backend is up now, if that has changed.
    pub fn take(&mut self, finding: Finding, check: &Check, began: Instant, now: Instant) -> Option<bool> {
        let good = finding.is_ok();
        *(if good { &mut self.passed } else { &mut self.failed }) += 1;
        let times = match self.streak {
            Some((before, times)) if before == good => times.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((good, times));
        self.last = Some(Last { finding, at: now, took: now.saturating_duration_since(began) });
        let enough = if good { check.rise } else { check.fall };
        let changes = times >= enough && self.up != Some(good);
        changes.then(|| {
            self.up = Some(good);
            good
        })
    }

    /// Counts a probe that says nothing.
    pub fn take_void(&mut self) {
        self.void += 1;
    }

    /// Why the last probe failed, and how many failed in a row.
    pub fn failure(&self) -> Option<(&Failure, u32)> {
        let failure = self.last.as_ref()?.finding.as_ref().err()?;
        Some((failure, self.streak.map_or(0, |(_, times)| times)))
    }

    /// Whether a probe has ended since then that says something.
    pub fn is_known_since(&self, begin: Instant) -> bool {
        self.last.as_ref().is_some_and(|last| last.at >= begin)
    }

    /// In words for the operator.
    pub fn result(&self, check: &Check, now: Instant) -> CheckResult {
        let last = self.last.as_ref();
        let words = last.map(|last| match &last.finding {
            Ok(words) => words.clone(),
            Err(failure) => failure.words.clone(),
        });
        CheckResult {
            check: check.spec.clone(),
            up: self.up,
            good: last.map(|last| last.finding.is_ok()),
            words: words.unwrap_or_default(),
            age_s: last.map(|last| now.saturating_duration_since(last.at).as_secs_f64()),
            certificate_until: None,
            took_ms: last.map(|last| last.took.as_secs_f64() * 1_000.0),
            passed: self.passed,
            failed: self.failed,
            void: self.void,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::health::checked;
    use crate::health::finding::Trouble;

    #[test]
    fn a_backend_is_up_or_down_after_so_many_probes_in_a_row() {
        let check = checked(&"tcp rise=2 fall=3".parse().unwrap(), &"192.0.2.1:80".parse().unwrap()).unwrap();
        let (mut pulse, now) = (Pulse::default(), Instant::now());
        let mut probe = |good| {
            let finding = if good { Ok(String::new()) } else { Err(Failure::new(Trouble::Silent, "no answer")) };
            pulse.take(finding, &check, now, now)
        };
        let probes = [
            (true, None),
            (true, Some(true)),
            (true, None),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
        ];
        for (index, (good, change)) in probes.into_iter().enumerate() {
            assert_eq!(probe(good), change, "probe {index}");
        }
        let result = pulse.result(&check, now);
        assert_eq!((result.passed, result.failed, result.up, result.good), (7, 7, Some(true), Some(true)));
    }
}
