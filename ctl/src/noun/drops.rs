//! Why frames left the fast path, and why the director's own were not sent.

use serde::{Deserialize, Serialize};

use crate::name::ServiceId;

/// A reason for which frames left the fast path, or were not sent by the slow path, and how many did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason's name, as in the metrics.
    pub reason: String,
    /// What becomes of such frames.
    pub fate: Fate,
    /// How many, over all workers and ports.
    pub packets: u64,
    /// How many on each port that had any.
    pub ports: Vec<PortCount>,
    /// How many each worker had that had any.
    #[serde(default)]
    pub workers: Vec<WorkerCount>,
    /// The services whose packets they were, where that is known: those with the most, the most first.
    #[serde(default)]
    pub services: Vec<ServiceCount>,
    /// How many more services there were.
    #[serde(default)]
    pub more_services: usize,
    /// What the reason means, a sentence.
    pub meaning: String,
    /// What to do about it, a sentence.
    pub advice: String,
}

/// What becomes of a frame that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is thrown away.
    Drop,
    /// It is given to the slow path, which answers or learns from it.
    Punt,
    /// It is a frame of the director's own, and is not sent.
    Unsent,
}

/// So many of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCount {
    /// The worker's number.
    pub worker: usize,
    /// Frames.
    pub packets: u64,
}

/// So many of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCount {
    /// The service.
    pub service: ServiceId,
    /// Frames, since it was added.
    pub packets: u64,
}

/// So many on one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// The port's name.
    pub port: String,
    /// Frames.
    pub packets: u64,
}
