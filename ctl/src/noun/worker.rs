//! Workers, and how long frames are with them.

use serde::{Deserialize, Serialize};

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number, from 0; also the number of its queue pair on each port.
    pub id: usize,
    /// The core it runs on.
    pub lcore: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns that found frames.
    pub busy_turns: u64,
    /// Share of its time spent on frames since the start, 0 to 1, in TSC cycles.
    pub load: f64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames forwarded to backends.
    pub forwarded_packets: u64,
    /// Frames dropped.
    pub dropped_packets: u64,
    /// Frames given to the slow path.
    pub punted_packets: u64,
    /// Flows that it remembers now.
    pub remembered_flows: u64,
    /// How many it has room for.
    pub room_for_flows: u64,
    /// Flows that should have been remembered, but there was no room; packets that met that.
    pub unremembered_packets: u64,
    /// The number of the snapshot it works with.
    pub generation: u64,
    /// How long frames were with it, from before the call that received them until after the one that sent them: of one burst in
    /// 32. `None` from daemons that do not tell.
    #[serde(default)]
    pub latency: Option<Latency>,
}

/// How long frames were with a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// In the last minute, and up to 10 s more.
    pub recent: LatencySamples,
    /// Since the start.
    pub since_start: LatencySamples,
}

/// Samples of how long frames were with a worker: those of one burst in 32 that were forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySamples {
    /// Over how long a time, in seconds.
    pub seconds: u64,
    /// How many frames.
    pub samples: u64,
    /// The sum over all of them.
    pub sum_ns: u64,
    /// `None` where there are no samples.
    pub percentiles: Option<Percentiles>,
    /// As in a Prometheus histogram: bounds, always the same ones, and how many samples are not above each; the last has all.
    pub buckets: Vec<LatencyBucket>,
}

/// What so many samples do not exceed; up to 3.2 % too large, never too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// All.
    pub max_ns: u64,
}

/// How many samples are up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// The bound, itself included.
    pub up_to_ns: u64,
    /// Samples up to it, those of the smaller bounds among them.
    pub samples: u64,
}
