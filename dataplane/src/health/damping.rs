//! Damping: a backend that goes down too often is held out of service for growing times, as BGP does with routes that flap
//! (RFC 2439), so that clients are not sent to it again and again only to be cut off.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A backend may go down so often within [`WINDOW`], but not within this time after it was let in.
pub const MANY: usize = 3;
/// The time that is looked back. After as long a time without going down, a hold is as much shorter again.
pub const WINDOW: Duration = Duration::from_secs(300);
/// How long it is held out at first. Each further time is twice as long.
pub const FIRST: Duration = Duration::from_secs(30);
/// How long it is held out at most.
pub const LONGEST: Duration = Duration::from_secs(600);

/// What is remembered of a backend that went down.
#[derive(Debug, Clone, Default)]
pub struct Damping {
    /// When it went down lately: the last `MANY` + 1 times.
    downs: VecDeque<Instant>,
    /// How often the time was doubled.
    doubled: u32,
    /// Until when it is held out.
    until: Option<Instant>,
    /// The end of the last time, as it was planned.
    let_in: Option<Instant>,
    /// Since when it is quiet: since it went down, or was let in.
    quiet: Option<Instant>,
}

impl Damping {
    /// Notes that the backend went down. Returns for how long it is held out from now on, if that is new.
    pub fn take_down(&mut self, now: Instant) -> Option<Duration> {
        let quiet = self.quiet.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let halved = u32::try_from(quiet.as_secs() / WINDOW.as_secs()).unwrap_or(u32::MAX);
        self.doubled = self.doubled.saturating_sub(halved);
        self.quiet = Some(now);
        self.downs.retain(|&down| now.saturating_duration_since(down) < WINDOW);
        if self.downs.len() > MANY {
            self.downs.pop_front();
        }
        self.downs.push_back(now);
        // Soon after it was let in, once is too often.
        let again = self.let_in.is_some_and(|let_in| now.saturating_duration_since(let_in) < WINDOW);
        if self.downs.len() <= MANY && !again || self.left(now).is_some() {
            return None;
        }
        let time = FIRST.saturating_mul(1 << self.doubled.min(16)).min(LONGEST);
        if time < LONGEST {
            self.doubled += 1;
        }
        self.until = Some(now + time);
        (self.let_in, self.quiet) = (self.until, self.until);
        Some(time)
    }

    /// How often it went down within [`WINDOW`], when it did last.
    pub fn downs(&self) -> usize {
        self.downs.len()
    }

    /// For how long it is still held out.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Ends the time if it is over. Returns whether it has ended now.
    pub fn ends(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// Ends the time at once.
    pub fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a backend goes down, in s, and for how long it is then held out.
    fn holds(downs: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
        let (mut damping, begin) = (Damping::default(), Instant::now());
        let mut take = |second| damping.take_down(begin + Duration::from_secs(second));
        downs.into_iter().map(|second| take(second).map(|time| time.as_secs())).collect()
    }

    #[test]
    fn the_fourth_time_within_five_minutes_holds_it_out() {
        assert_eq!(holds([0, 10, 20, 30]), [None, None, None, Some(30)]);
        assert_eq!(holds([0, 10, 20, 300]), [None; 4], "the first one is five minutes ago");
        assert_eq!(holds((0..100).map(|n| n * 100)), [None; 100], "three in five minutes are not too many");
    }

    #[test]
    fn each_further_time_is_twice_as_long_up_to_the_longest() {
        // It goes down again as soon as it is let in.
        let downs = [0, 1, 2, 3, 34, 95, 216, 457, 938, 1_539];
        let times = [None, None, None, Some(30), Some(60), Some(120), Some(240), Some(480), Some(600), Some(600)];
        assert_eq!(holds(downs), times);
        let mut damping = Damping::default();
        let mut now = Instant::now();
        let mut longest = Duration::ZERO;
        for _ in 0..60 {
            if let Some(time) = damping.take_down(now) {
                assert!(time == (longest * 2).clamp(FIRST, LONGEST), "{time:?} after {longest:?}");
                longest = time;
                now += time;
            }
            now += Duration::from_secs(5);
        }
        assert_eq!(longest, LONGEST);
    }

    #[test]
    fn while_it_is_held_out_nothing_is_added() {
        assert_eq!(holds([0, 1, 2, 3, 4, 5, 6, 32]), [None, None, None, Some(30), None, None, None, None]);
        let (mut damping, begin) = (Damping::default(), Instant::now());
        (0..4).for_each(|second| _ = damping.take_down(begin + Duration::from_secs(second)));
        let at = |second| begin + Duration::from_secs(second);
        assert_eq!(damping.left(at(13)), Some(Duration::from_secs(20)));
        assert!(!damping.ends(at(32)) && damping.ends(at(33)) && !damping.ends(at(33)));
        assert_eq!(damping.left(at(33)), None);
    }

    #[test]
    fn a_quiet_time_shortens_the_next_hold() {
        let after = |quiet: u64| holds([0, 1, 2, 3, 34, 34 + 60 + quiet, 95 + quiet, 96 + quiet, 97 + quiet]);
        assert_eq!(after(1)[5], Some(120));
        // Four times within the window again, from the beginning.
        assert_eq!(after(600)[5..], [None, None, None, Some(30)]);
        assert_eq!(after(300)[5..], [None, None, None, Some(60)]);
    }
}
