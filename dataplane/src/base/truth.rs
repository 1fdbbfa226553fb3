//! Whether a probe that got no answer says something of the backend: not if the director did not send it, or has lost
//! frames that may have been the answer, or was stopped meanwhile.
//!
//! This holds for health checks, and for ARP and neighbor discovery.
//!
//! A director that loses frames all the time would know nothing any more. So a backend whose probes are void over and over counts
//! as silent when so many in a row are next to impossible by chance, as often as probes of the others are void.

use std::time::{Duration, Instant};

use crate::base::ids::PortNo;

/// A pause between two turns of the slow path in which it was stopped, or its core was taken away.
const STALL: Duration = Duration::from_millis(250);
/// What has come meanwhile is looked at before any probe's time is over.
const GRACE: Duration = Duration::from_millis(300);
/// So unlikely are void probes in a row that are believed nevertheless.
const UNLIKELY: f64 = 1e-6;

/// Frames that the director has lost at a port so far, each of which may have been a probe or the answer to one.
pub type Losses<'a> = &'a dyn Fn(PortNo) -> u64;

/// What has befallen the director.
#[derive(Debug, Default, Clone)]
pub struct Truth {
    last_turn: Option<Instant>,
    stalls: u64,
    grace_until: Option<Instant>,
    /// By port.
    tallies: Vec<Tally>,
}

/// The probes by a port that have ended.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    good: u64,
    void: u64,
}

/// How things stood when a probe began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    losses: u64,
    stalls: u64,
}

/// Void probes of a backend in a row.
#[derive(Debug, Default, Clone)]
pub struct Voids {
    streak: u32,
    since: Tally,
}

impl Truth {
    /// Notes that a turn begins.
    pub fn turn(&mut self, now: Instant) {
        let stalled = self.last_turn.is_some_and(|last| now.saturating_duration_since(last) > STALL);
        if stalled {
            self.stalls += 1;
            self.grace_until = Some(now + GRACE);
        }
        self.last_turn = Some(now);
    }

    /// Until when no probe's time is over.
    pub fn grace_until(&self, now: Instant) -> Option<Instant> {
        self.grace_until.filter(|until| *until > now)
    }

    /// How things stand; `losses` are the frames that the director has lost at the probe's port.
    pub fn before(&self, losses: u64) -> Before {
        Before { losses, stalls: self.stalls }
    }

    /// Whether something may have been lost since then.
    pub fn has_lost(&self, before: Before, losses: u64) -> bool {
        before.stalls != self.stalls || before.losses != losses
    }

    /// Whether silence means nothing.
    pub fn is_void(&mut self, before: Before, losses: u64, port: PortNo, voids: &mut Voids) -> bool {
        if !self.has_lost(before, losses) {
            voids.streak = 0;
            return false;
        }
        let tally = self.tally(port);
        if voids.streak == 0 {
            voids.since = *tally;
        }
        voids.streak += 1;
        tally.void += 1;
        let since = Tally { good: tally.good - voids.since.good, void: tally.void - voids.since.void };
        let others = since.void.saturating_sub(u64::from(voids.streak));
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = (others + 1) as f64 / (others + since.good + 2) as f64;
        f64::from(voids.streak) * share.ln() > UNLIKELY.ln()
    }

    /// Notes that an answer came by a port.
    pub fn answered(&mut self, port: PortNo, voids: &mut Voids) {
        voids.streak = 0;
        self.tally(port).good += 1;
    }

    fn tally(&mut self, port: PortNo) -> &mut Tally {
        if self.tallies.len() <= port.index() {
            self.tallies.resize(port.index() + 1, Tally::default());
        }
        &mut self.tallies[port.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortNo = PortNo::new(0);

    #[test]
    fn silence_means_nothing_where_the_director_has_lost_frames_or_was_stopped() {
        let (mut truth, mut voids, now) = (Truth::default(), Voids::default(), Instant::now());
        truth.turn(now);
        let before = truth.before(7);
        truth.turn(now + Duration::from_millis(100));
        assert!(!truth.is_void(before, 7, PORT, &mut voids));
        assert!(truth.is_void(before, 8, PORT, &mut voids));
        let late = now + Duration::from_secs(20);
        assert_eq!(truth.grace_until(late), None);
        truth.turn(late);
        assert!(truth.is_void(before, 7, PORT, &mut voids));
        assert_eq!(truth.grace_until(late), Some(late + GRACE));
        assert_eq!(truth.grace_until(late + GRACE), None);
    }

    /// Of many backends, one is dead, and the director loses a part of all frames, all the time.
    #[test]
    fn a_dead_backend_is_found_although_frames_are_lost_all_the_time() {
        for lost_in_ten in [1, 5, 9] {
            let mut truth = Truth::default();
            let (mut dead, mut others) = (Voids::default(), vec![Voids::default(); 200]);
            let mut losses = 0;
            let mut random = 1u64;
            let mut found = None;
            for round in 0..400 {
                let before = truth.before(losses);
                losses += 1;
                for other in &mut others {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if (random >> 33) % 10 < lost_in_ten {
                        assert!(truth.is_void(before, losses, PORT, other), "{lost_in_ten} in ten, round {round}");
                    } else {
                        truth.answered(PORT, other);
                    }
                }
                if !truth.is_void(before, losses, PORT, &mut dead) {
                    found = found.or(Some(round));
                }
            }
            let within = [(1, 8), (5, 25), (9, 180)].into_iter().find(|(lost, _)| *lost == lost_in_ten).unwrap().1;
            assert!(found.is_some_and(|round| round <= within), "{lost_in_ten} in ten: {found:?}");
        }
    }
}
