//! How long frames were with the workers in the last minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::count::counters::WorkerCounters;
use crate::count::histogram::Histogram;

/// What is recent is of so long, and up to a [`STEP`] longer.
const WINDOW: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_secs(10);

/// What the workers have sampled in the last minute: histograms of the past, to subtract.
#[derive(Debug)]
pub struct Recent {
    workers: Vec<Arc<WorkerCounters>>,
    /// The oldest first; never empty.
    past: Mutex<VecDeque<(Instant, Vec<Histogram>)>>,
}

impl Recent {
    /// Of these workers, from now on.
    pub fn new(workers: &[Arc<WorkerCounters>], now: Instant) -> Self {
        let recent = Recent { workers: workers.to_vec(), past: Mutex::default() };
        recent.past().push_back((now, recent.read()));
        recent
    }

    /// Keeps what there is, where it is time to; to be called some times a second.
    pub fn tick(&self, now: Instant) {
        let mut past = self.past();
        let age = |(then, _): &(Instant, Vec<Histogram>)| now.saturating_duration_since(*then);
        if past.back().is_some_and(|newest| age(newest) < STEP) {
            return;
        }
        past.push_back((now, self.read()));
        while past.get(1).is_some_and(|second| age(second) >= WINDOW) {
            past.pop_front();
        }
    }

    /// What each worker has sampled lately, and in how long a time.
    pub fn histograms(&self, now: Instant) -> (Duration, Vec<Histogram>) {
        let past = self.past();
        let (then, before) = past.front().expect("there is one from the start");
        let since = self.read().iter().zip(before).map(|(now, before)| now.since(before)).collect();
        (now.saturating_duration_since(*then), since)
    }

    fn read(&self) -> Vec<Histogram> {
        self.workers.iter().map(|worker| Histogram::of(&worker.latency)).collect()
    }

    fn past(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Vec<Histogram>)>> {
        self.past.lock().expect("nobody panics while holding the past")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Vec<Arc<WorkerCounters>> {
        (0..count).map(|_| Arc::new(WorkerCounters::with_room(2, 1, 1))).collect()
    }

    #[test]
    fn what_is_recent_is_of_the_last_minute() {
        let (workers, start) = (workers(2), Instant::now());
        let recent = Recent::new(&workers, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let samples = |seconds| {
            let (over, of) = recent.histograms(at(seconds));
            (over.as_secs(), of.iter().map(Histogram::samples).collect::<Vec<_>>())
        };
        workers[0].latency.record(1_000, 3);
        workers[1].latency.record(9_000, 1);
        assert_eq!(samples(5), (5, vec![3, 1]));
        // A tick each second; a frame of the second worker each 10 s, right after what is kept.
        for second in 1..=300 {
            recent.tick(at(second));
            if second % 10 == 0 {
                workers[1].latency.record(500, 1);
            }
            if second >= 70 {
                let (over, counts) = samples(second);
                assert!((60..70).contains(&over), "{over}");
                assert_eq!(counts, [0, 7], "after {second} s");
            }
        }
        assert_eq!(recent.histograms(at(300)).1[1].per_mille(1_000), Some(503), "the first, slow frame is forgotten");
        // Nobody ticked for long: what is told is of a longer time, and says so.
        assert_eq!(samples(1_000).0, 760);
    }
}
