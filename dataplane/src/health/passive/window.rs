//! What was counted of a backend's handshakes in the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::count::lease::Handshakes;

/// A step of the window.
const STEP: Duration = Duration::from_secs(5);
/// The steps of a window, with the one that is not over.
const STEPS: usize = 12;

/// The handshakes of a backend in the last minute.
#[derive(Debug)]
pub(super) struct Window {
    /// What the counters had at the last look.
    read: Handshakes,
    /// When the newest step began.
    began: Instant,
    /// The steps, the newest first. Without handshakes, there are none.
    steps: VecDeque<Handshakes>,
}

impl Window {
    /// An empty one, from these counts on.
    pub(super) fn new(read: Handshakes, now: Instant) -> Window {
        Window { read, began: now, steps: VecDeque::new() }
    }

    /// Takes what the counters have now.
    pub(super) fn take(&mut self, read: Handshakes, now: Instant) {
        let new = read.since(&self.read);
        self.read = read;
        let steps = now.saturating_duration_since(self.began).as_secs() / STEP.as_secs();
        if steps > 0 {
            self.began += STEP * u32::try_from(steps).unwrap_or(u32::MAX);
            for _ in 0..steps.min(STEPS as u64) {
                self.steps.push_front(Handshakes::default());
            }
            self.steps.truncate(STEPS);
            if self.all().all() == 0 {
                self.steps.clear();
            }
        }
        if new.all() > 0 {
            match self.steps.front_mut() {
                Some(newest) => *newest = newest.plus(&new),
                None => self.steps.push_front(new),
            }
        }
    }

    /// The newest steps that together have so many handshakes. `None`: all have fewer.
    pub(super) fn newest(&self, enough: u64) -> Option<Handshakes> {
        let mut sums = self.steps.iter().scan(Handshakes::default(), |sum, step| {
            *sum = sum.plus(step);
            Some(*sum)
        });
        sums.find(|sum| sum.all() >= enough)
    }

    /// All steps together.
    pub(super) fn all(&self) -> Handshakes {
        self.steps.iter().fold(Handshakes::default(), |sum, step| sum.plus(step))
    }

    /// Forgets all that was counted so far.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_last_minute_and_its_newest_part() {
        let begin = Instant::now();
        let mut read = Handshakes { answered: 1_000, unanswered: [7; 3] };
        let mut window = Window::new(read, begin);
        let mut take = |window: &mut Window, answered: u64, seconds: u64| {
            read.answered += answered;
            window.take(read, begin + Duration::from_secs(seconds));
        };
        take(&mut window, 30, 1);
        take(&mut window, 30, 6);
        assert_eq!(window.all().answered, 60);
        assert_eq!(
            [30, 31, 60, 61].map(|enough| window.newest(enough).map(|sum| sum.answered)),
            [Some(30), Some(60), Some(60), None]
        );
        take(&mut window, 5, 59);
        assert_eq!(window.all().answered, 65);
        take(&mut window, 0, 61);
        assert_eq!(window.all().answered, 35, "the first step is out of it");
        take(&mut window, 0, 200);
        assert!(window.all().answered == 0 && window.steps.is_empty(), "nothing is kept of nothing");
        take(&mut window, 9, 100_000);
        assert_eq!(window.newest(9).map(|sum| sum.answered), Some(9));
        window.clear();
        assert_eq!(window.all(), Handshakes::default());
    }
}
