//! Packet buffers: a watch that finds out when they have run out.
//!
//! A director has more buffers than its rings can hold. So a pool of which nearly all are in use for seconds has lost them: to a driver
//! that keeps or leaks them, or because `director.mbufs` is too small. Nothing is received into such a pool any more, and no frame of
//! the slow path goes out. What the workers count does not show it: the frames never reach them.

use std::time::{Duration, Instant};

use ctl::answer::{PacketBuffers, Subject};

use crate::control::events::{EventLog, Kind};

/// Nearly all are in use: one in so many is free, or fewer.
const FEW: u32 = 32;
/// Drivers ask for so many at once, and get none where there are fewer.
const BATCH: u32 = 64;
/// Nearly all of them must be in use for so long.
const LONG: Duration = Duration::from_secs(3);

/// A pool of packet buffers, as the watch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The ports that receive into it.
    pub ports: Vec<String>,
    /// How many buffers it has, and how many of them are in use.
    pub buffers: PacketBuffers,
}

/// Asks for the pools, always the same ones in the same order.
pub type Pools = Box<dyn Fn() -> Vec<Pool> + Send>;

/// The watch.
pub struct BufferWatch {
    pools: Pools,
    /// By pool.
    states: Vec<State>,
}

/// What is known of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Well,
    /// Nearly all have been in use since then.
    Short(Instant),
    /// That is reported.
    Exhausted,
}

/// Whether nearly all are in use.
pub fn nearly_all_in_use(buffers: PacketBuffers) -> bool {
    let free = buffers.total.saturating_sub(buffers.in_use);
    buffers.total > 0 && free <= (buffers.total / FEW).max(BATCH)
}

/// What an operator can do about it.
pub const ADVICE: &str = "a driver keeps or loses them, or director.mbufs is too small. If it began with a peer on memif that sends frames above 128 \
     bytes, its driver breaks the ring: send smaller ones, or use another kind of port. Restart shuntd to have the buffers back";

impl BufferWatch {
    /// A watch on these pools.
    pub fn new(pools: Pools) -> Self {
        BufferWatch { pools, states: Vec::new() }
    }

    /// Looks at the pools, and reports what has run out, or is back.
    pub fn look(&mut self, events: &EventLog, now: Instant) {
        let pools = (self.pools)();
        self.states.resize(pools.len(), State::Well);
        for (Pool { ports, buffers }, state) in pools.into_iter().zip(&mut self.states) {
            let (in_use, total, names) = (buffers.in_use, buffers.total, ports.join(", "));
            let subject = Subject { port: ports.into_iter().next(), ..Subject::default() };
            *state = match (*state, nearly_all_in_use(buffers)) {
                (State::Well, false) | (State::Short(_), false) => State::Well,
                (State::Well, true) => State::Short(now),
                (State::Short(since), true) if now.saturating_duration_since(since) >= LONG => {
                    let message = || {
                        format!(
                            "{in_use} of {total} packet buffers are in use, and have been for {} s: what is received on {names} is lost. \
                             Either {ADVICE}",
                            LONG.as_secs()
                        )
                    };
                    // One that was left out is written later, if it is still so.
                    if events.write(Kind::BuffersExhausted, subject, now, message) { State::Exhausted } else { *state }
                }
                (State::Exhausted, false) => {
                    let message =
                        || format!("Packet buffers of {names} are free again: {in_use} of {total} are in use");
                    events.write(Kind::BuffersBack, subject, now, message);
                    State::Well
                }
                (state, true) => state,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ctl::request::EventQuery;

    use super::*;

    fn pool(ports: &[&str], in_use: u32, total: u32) -> Pool {
        Pool { ports: ports.iter().map(ToString::to_string).collect(), buffers: PacketBuffers { in_use, total } }
    }

    /// What is written when pools look like this at these half seconds.
    fn written(looks: &[Vec<Pool>]) -> Vec<(String, Option<String>, String)> {
        let current = Arc::new(Mutex::new(Vec::new()));
        let shown = current.clone();
        let mut watch = BufferWatch::new(Box::new(move || shown.lock().unwrap().clone()));
        let (events, begin) = (EventLog::default(), Instant::now());
        for (number, pools) in looks.iter().enumerate() {
            current.lock().unwrap().clone_from(pools);
            watch.look(&events, begin + Duration::from_millis(500) * u32::try_from(number).unwrap());
        }
        let events = events.list(EventQuery::default()).into_iter();
        events.map(|event| (event.kind, event.subject.port, event.message)).collect()
    }

    #[test]
    fn buffers_that_are_gone_are_reported_once_and_again_when_they_are_back() {
        let of = |in_use| vec![pool(&["lan0", "lan1"], in_use, 16_383)];
        let looks = [vec![of(2_000); 4], vec![of(16_383); 12], vec![of(900); 4]].concat();
        let events = written(&looks);
        let kinds: Vec<&str> = events.iter().map(|(kind, _, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["buffers-exhausted", "buffers-back"]);
        assert_eq!(events[0].1.as_deref(), Some("lan0"));
        let message = &events[0].2;
        assert!(
            message.starts_with("16383 of 16383 packet buffers are in use") && message.contains("lan0, lan1"),
            "{message}"
        );
        assert!(message.contains("Restart shuntd"), "{message}");
    }

    #[test]
    fn a_short_burst_and_a_busy_pool_are_no_events() {
        let burst = |number: usize| vec![pool(&["lan0"], if number % 6 < 5 { 16_383 } else { 9_000 }, 16_383)];
        let busy = vec![vec![pool(&["lan0"], 15_000, 16_383)]; 20];
        assert_eq!(written(&(0..40).map(burst).collect::<Vec<_>>()), []);
        assert_eq!(written(&busy), []);
    }

    #[test]
    fn one_of_two_pools_is_enough() {
        let events = written(&vec![vec![pool(&["lan0"], 10, 16_383), pool(&["lan1"], 16_380, 16_383)]; 10]);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].1.as_deref(), Some("lan1"));
    }

    #[test]
    fn a_driver_that_asks_for_a_batch_gets_none_from_the_last_few() {
        let free = |free: u32, total| nearly_all_in_use(PacketBuffers { in_use: total - free, total });
        assert!(free(64, 400) && !free(65, 400));
        assert!(free(511, 16_383) && !free(512, 16_383));
        assert!(!nearly_all_in_use(PacketBuffers::default()), "no pool at all, as in tests");
    }
}
