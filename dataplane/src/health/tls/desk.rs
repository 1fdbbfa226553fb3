//! The queues between the slow path and the thread with the TLS sessions. They are bounded, and the slow path never waits: of a
//! probe whose bytes find no room, nothing is known.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::control::model::health::Https;
use crate::health::finding::Finding;
use crate::health::tls::certificate::Report;

/// What a queue has room for. A probe has one thing in it at most.
const ROOM: usize = 1_024;

/// The probe that a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The probe's local port.
    pub local: u16,
    /// Tells it from those that had the port before.
    pub number: u64,
}

/// What a session is to do.
#[derive(Debug)]
pub enum Job {
    /// It begins.
    Begin {
        /// The probe.
        key: Key,
        /// What is asked.
        check: Arc<Https>,
        /// The address and the port that are asked.
        target: (IpAddr, u16),
        /// How long it may take.
        timeout: Duration,
    },
    /// It takes bytes.
    Hear {
        /// The probe.
        key: Key,
        /// What has come from the server.
        data: Vec<u8>,
        /// Whether nothing follows.
        end: bool,
    },
    /// Its probe is over.
    Forget(Key),
}

/// What a session has to say after each job.
#[derive(Debug)]
pub struct Said {
    /// The probe.
    pub key: Key,
    /// What is to be sent to the server.
    pub send: Vec<u8>,
    /// How far it has come.
    pub phase: Phase,
    /// What the server's certificate is like; once.
    pub certificate: Option<Report>,
    /// What it has found; once, and then it is over.
    pub finding: Option<Finding>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The server has sent nothing yet.
    Silent,
    /// In the handshake.
    Handshake,
    /// The request was sent.
    Asked,
    /// The answer has begun.
    Answer,
}

/// The slow path's side.
#[derive(Debug)]
pub struct Desk {
    jobs: SyncSender<Job>,
    said: Receiver<Said>,
    number: u64,
}

/// Where a probe hands in its jobs.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) key: Key,
    jobs: SyncSender<Job>,
}

/// Two sides that belong together: the slow path's, and the queues of the sessions' thread.
pub fn desk() -> (Desk, (Receiver<Job>, SyncSender<Said>)) {
    let ((jobs, to_do), (done, said)) = (sync_channel(ROOM), sync_channel(ROOM));
    (Desk { jobs, said, number: 0 }, (to_do, done))
}

impl Desk {
    /// What some session has said, the oldest first.
    pub fn next_said(&self) -> Option<Said> {
        self.said.try_recv().ok()
    }

    /// A counter for a new probe.
    pub(crate) fn counter(&mut self, local: u16) -> Counter {
        self.number += 1;
        Counter { key: Key { local, number: self.number }, jobs: self.jobs.clone() }
    }
}

impl Counter {
    /// Hands in a job. Returns whether there was room for it.
    pub(crate) fn hand_in(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
