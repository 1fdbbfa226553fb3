//! The time that frames spent in the workers in the last minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::count::counters::WorkerCounters;
use crate::count::histogram::Histogram;

/// The length of the recent time. It may be up to a [`STEP`] longer.
const WINDOW: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_secs(10);

/// The workers' samples of the last minute. It keeps past histograms, which are subtracted from the present ones.
#[derive(Debug)]
pub struct Recent {
    workers: Vec<Arc<WorkerCounters>>,
    /// The oldest first; never empty.
    past: Mutex<VecDeque<(Instant, Vec<Histogram>)>>,
}

impl Recent {
    /// The samples of these workers, from now on.
    pub fn new(workers: &[Arc<WorkerCounters>], now: Instant) -> Self {
        let recent = Recent { workers: workers.to_vec(), past: Mutex::default() };
        recent.past().push_back((now, recent.read()));
        recent
    }

    /// Keeps the present histograms once every `STEP`. Call it a few times a second.
    pub fn tick(&self, now: Instant) {
        let mut past = self.past();
        let age = |(then, _): &(Instant, Vec<Histogram>)| now.saturating_duration_since(*then);
        if past.back().is_some_and(|newest| age(newest) < STEP) {
            return;
        }
        past.push_back((now, self.read()));
        // Bound: each round removes an entry, and each call adds one.
        while past.get(1).is_some_and(|second| age(second) >= WINDOW) {
            past.pop_front();
        }
    }

    /// The time span, and each worker's samples in it.
    pub fn histograms(&self, now: Instant) -> (Duration, Vec<Histogram>) {
        let past = self.past();
        let (then, before) = past.front().expect("the first entry is there from the start");
        let since = self.read().iter().zip(before).map(|(now, before)| now.since(before)).collect();
        (now.saturating_duration_since(*then), since)
    }

    fn read(&self) -> Vec<Histogram> {
        self.workers.iter().map(|worker| Histogram::of(&worker.latency)).collect()
    }

    fn past(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Vec<Histogram>)>> {
        self.past.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Vec<Arc<WorkerCounters>> {
        (0..count).map(|_| Arc::new(WorkerCounters::with_room(2, 1, 1))).collect()
    }

    #[test]
    fn recent_samples_are_those_of_the_last_minute() {
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
        // A tick each second. Each 10 s, right after the histograms are kept, a frame of the second worker.
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
        // Without ticks for long, the time span is longer, and says so.
        assert_eq!(samples(1_000).0, 760);
    }
}
