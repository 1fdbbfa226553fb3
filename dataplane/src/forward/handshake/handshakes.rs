//! A worker's handshakes: what it looks at now, and what it has sampled.

use crate::count::counters::WorkerCounters;
use crate::forward::handshake::sampled::Sampled;
use crate::forward::handshake::windows::{Look, Windows};

/// The handshakes that a worker knows of.
#[derive(Debug)]
pub(in crate::forward) struct Handshakes {
    now_ms: u64,
    look: Look,
    windows: Windows,
    pub(super) sampled: Sampled,
}

impl Handshakes {
    /// None yet. The worker's own thread calls this, when it is pinned.
    pub(in crate::forward) fn new() -> Self {
        Handshakes { now_ms: u64::MAX, look: Look::default(), windows: Windows::default(), sampled: Sampled::new() }
    }

    /// Lets the time pass; call it each turn.
    #[inline(always)]
    pub(in crate::forward) fn advance(&mut self, now_ms: u64, counters: &WorkerCounters) {
        if now_ms != self.now_ms {
            self.advance_to(now_ms, counters);
        }
    }

    #[cold]
    fn advance_to(&mut self, now_ms: u64, counters: &WorkerCounters) {
        self.now_ms = now_ms;
        self.look = self.windows.look(now_ms, counters.over_ports(|port| port.rx_packets.read()));
        if self.look.looks {
            self.sampled.sweep(now_ms);
        }
    }

    /// Whether the frames of this turn are looked at.
    #[inline(always)]
    pub(in crate::forward) fn looks(&self) -> bool {
        self.look.looks
    }

    /// Whether SYNs are sampled in this turn.
    pub(super) fn samples(&self) -> bool {
        self.look.samples
    }
}
