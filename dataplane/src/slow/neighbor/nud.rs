//! Neighbor unreachability detection (NUD, RFC 4861 §7.3): the states of one neighbor, and when its next probe is due.

use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::NeighborState;

use crate::base::ids::NetworkNo;
use crate::base::truth::{Before, Voids};

/// How long a confirmation is valid. This is less than the aging time of any switch's table (usually 300 s), so the
/// probes keep those tables warm, too.
pub(super) const REACHABLE: Duration = Duration::from_secs(20);
/// Between two probes (RFC 4861 §10, RETRANS_TIMER).
pub(super) const RETRANSMIT: Duration = Duration::from_secs(1);
/// Between two probes of a neighbor that was given up.
const RETRY_FAILED: Duration = Duration::from_secs(2);
/// A neighbor that has not answered so long after its first probe has not answered three of them.
const SILENT: Duration = Duration::from_millis(2_200);
/// Probes by unicast before the first one by broadcast (RFC 4861 §10, MAX_UNICAST_SOLICIT).
pub(super) const UNICAST_PROBES: u32 = 3;
/// Probes by broadcast before the neighbor is given up (RFC 4861 §10, MAX_MULTICAST_SOLICIT).
const BROADCAST_PROBES: u32 = 3;

/// What is known of one backend.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// Its MAC address. A neighbor that was given up keeps its last one.
    pub mac: Option<Mac>,
    /// The state of its resolution.
    pub state: NeighborState,
    /// When the MAC address was last confirmed.
    pub confirmed: Option<Instant>,
    /// Probes since then.
    pub probes: u32,
    /// How often the MAC address has changed.
    pub changes: u64,
    /// When the MAC address last changed.
    pub(super) changed: Option<Instant>,
    /// When the first probe was sent that it has not answered.
    pub(super) silent_since: Option<Instant>,
    /// Whether it has not answered yet, or not since it was given up or its port had no link.
    pub(super) lost: bool,
    /// Whether something else says that it may not be there.
    suspected: bool,
    /// When the next probe is due.
    pub(super) due: Instant,
    /// How things stood when the last probe was sent.
    pub(super) before: Before,
    /// Its last probes in a row whose silence means nothing.
    pub(super) voids: Voids,
}

impl Neighbor {
    pub(super) fn new(network: NetworkNo, pinned: Option<Mac>, now: Instant) -> Self {
        let state = if pinned.is_some() { NeighborState::Permanent } else { NeighborState::Incomplete };
        Neighbor {
            network,
            mac: pinned,
            state,
            confirmed: None,
            probes: 0,
            changes: 0,
            changed: None,
            silent_since: None,
            lost: pinned.is_none(),
            suspected: false,
            due: now,
            before: Before::default(),
            voids: Voids::default(),
        }
    }

    /// Takes a new MAC address.
    pub(super) fn set_mac(&mut self, mac: Mac, now: Instant) {
        self.mac = Some(mac);
        self.confirm(now);
    }

    /// The neighbor has said that its MAC address is still the same.
    pub(super) fn confirm(&mut self, now: Instant) {
        self.state = NeighborState::Reachable;
        self.confirmed = Some(now);
        self.lost = false;
        self.suspected = false;
        self.probes = 0;
        self.due = now + REACHABLE;
    }

    /// Has the next probe go out at this time, and by broadcast: another station may have the address now.
    pub(super) fn broadcast_probe_at(&mut self, at: Instant) {
        if self.state == NeighborState::Reachable {
            self.state = NeighborState::Probe;
            self.probes = UNICAST_PROBES;
            self.silent_since = Some(at);
            self.due = at;
        }
    }

    /// Has the next probe go out now: something says that the neighbor may not be there. The one after it goes out by
    /// broadcast, since the neighbor may have another MAC address.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.suspected |= self.state == NeighborState::Reachable;
        self.due = now;
    }

    /// Whether its probe goes to the MAC address that it had last, and not to all.
    pub(super) fn is_asked_by_unicast(&self) -> bool {
        self.probes <= if self.suspected { 1 } else { UNICAST_PROBES }
    }

    /// Has the next probe go out at this time. It is the first of a new series, since the earlier ones may not have reached the
    /// neighbor. One that was given up stays so until it answers.
    pub(super) fn probe_anew_at(&mut self, at: Instant) {
        if self.state != NeighborState::Failed {
            self.probes = 0;
        }
        self.due = at;
    }

    /// Whether it has not answered its last three probes.
    pub fn is_silent(&self, now: Instant) -> bool {
        let asked_in_vain = self.silent_since.is_some_and(|since| self.probes >= 3 && now >= since + SILENT);
        self.state == NeighborState::Failed || asked_in_vain
    }

    fn give_up(&mut self) {
        self.state = NeighborState::Failed;
        self.lost = true;
    }

    /// Gives one that was given up the time for an answer that a new neighbor has.
    pub(super) fn ask_again(&mut self, now: Instant) {
        self.silent_since = Some(now);
        (self.state, self.probes) = match self.mac {
            Some(_) => (NeighborState::Probe, UNICAST_PROBES),
            None => (NeighborState::Incomplete, 0),
        };
        self.due = now;
    }

    /// Has the last probe repeated, which the director may not have sent, or whose answer it may have lost.
    pub(super) fn repeat_probe(&mut self, now: Instant) {
        self.due = now + RETRANSMIT;
    }

    /// Counts the probe that is due now, and sets the time of the next one. Gives the neighbor up after its last probe.
    pub(super) fn count_probe(&mut self, now: Instant) {
        if self.probes == 0 {
            self.silent_since = Some(now);
        }
        match self.state {
            NeighborState::Reachable => self.state = NeighborState::Probe,
            NeighborState::Probe if self.probes >= UNICAST_PROBES + BROADCAST_PROBES => self.give_up(),
            NeighborState::Incomplete if self.probes >= BROADCAST_PROBES => self.give_up(),
            _ => {}
        }
        self.probes = self.probes.saturating_add(1);
        self.due = now + if self.state == NeighborState::Failed { RETRY_FAILED } else { RETRANSMIT };
    }
}
