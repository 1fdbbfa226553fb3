//! A round of all checks, which an operator has asked for ([`Faults::ask_round`]).

use std::time::{Duration, Instant};

use crate::control::faults::Faults;

/// How long to wait for answers at least: a proxy for neighbor discovery delays its answer by up to 0.8 s
/// (MAX_RANDOM_DELAY, RFC 4861 §7.2.8).
const LISTEN: Duration = Duration::from_millis(1_000);
/// How long at most: a backend that does not answer is silent by then.
pub const LONGEST_ROUND: Duration = Duration::from_millis(2_700);
/// How often to look whether all have answered.
const LOOK: Duration = Duration::from_millis(50);

/// The rounds that are asked for, one at a time: whoever asks while one runs gets the next one.
#[derive(Debug, Default)]
pub struct Rounds {
    current: Option<Round>,
    /// The number of the last one that is over.
    last: u64,
}

/// The round that runs.
#[derive(Debug, Clone, Copy)]
struct Round {
    number: u64,
    begin: Instant,
    next_look: Instant,
}

impl Rounds {
    /// Whether a round begins now: then all is to be asked.
    pub fn begins(&mut self, faults: &Faults, now: Instant) -> bool {
        let number = faults.asked_round();
        if self.current.is_some() || number == self.last {
            return false;
        }
        self.current = Some(Round { number, begin: now, next_look: now + LISTEN });
        true
    }

    /// If it may be over now: when the round began, and whether it is time to end it, whoever has not answered.
    pub fn due(&mut self, now: Instant) -> Option<(Instant, bool)> {
        let round = self.current.as_mut().filter(|round| round.next_look <= now)?;
        round.next_look = now + LOOK;
        Some((round.begin, now >= round.begin + LONGEST_ROUND))
    }

    /// The round is over. Tells those who wait for it.
    pub fn end(&mut self, faults: &Faults) {
        if let Some(round) = self.current.take() {
            self.last = round.number;
            faults.round_done(round.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_a_second_and_at_most_three() {
        let (faults, begin, mut rounds) = (Faults::default(), Instant::now(), Rounds::default());
        let at = |ms: u64| begin + Duration::from_millis(ms);
        assert!(!rounds.begins(&faults, begin) && rounds.due(at(5_000)).is_none());
        faults.attend();
        let first = faults.ask_round();
        assert!(rounds.begins(&faults, begin) && !rounds.begins(&faults, begin));
        let second = faults.ask_round();
        assert_eq!((rounds.due(at(999)), rounds.due(at(1_000))), (None, Some((begin, false))));
        assert_eq!((rounds.due(at(1_049)), rounds.due(at(2_700))), (None, Some((begin, true))));
        rounds.end(&faults);
        assert!(faults.wait(first, Duration::ZERO) && !faults.wait(second, Duration::ZERO));
        assert!(rounds.begins(&faults, at(2_700)), "the one that was asked for meanwhile");
        rounds.end(&faults);
        assert!(faults.wait(second, Duration::ZERO) && !rounds.begins(&faults, at(2_700)));
    }
}
