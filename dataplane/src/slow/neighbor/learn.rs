//! What the table learns from ARP and neighbor discovery.

use std::time::{Duration, Instant};

use ctl::answer::NeighborState;

use crate::base::ids::NetworkNo;
use crate::slow::neighbor::table::{Neighbors, News};
use crate::slow::neighbor::witness::Group;
use crate::slow::view::{Evidence, Learned};

/// After a change of the MAC address, another change is not believed for this long.
const HOLD_DOWN: Duration = Duration::from_secs(5);

impl Neighbors {
    /// Takes note of a station's MAC address. Ignores stations that are no backends, and frames that came by another
    /// network than the backend's.
    pub fn learn(&mut self, learned: Learned, network: NetworkNo, now: Instant) {
        let Learned { address, mac, evidence } = learned;
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        if neighbor.network != network || neighbor.state == NeighborState::Permanent {
            return;
        }
        self.next_due = None;
        // Another MAC address than the known one is not always believed. Then the backend is asked. That of a backend that
        // was given up is believed at once.
        let was_given_up = neighbor.state == NeighborState::Failed;
        let ask_at = match neighbor.mac.filter(|_| !was_given_up) {
            Some(known) if known != mac && evidence == Evidence::Hint => Some(now),
            Some(known) if known != mac => neighbor.changed.map(|changed| changed + HOLD_DOWN).filter(|&at| at > now),
            _ => None,
        };
        if let Some(at) = ask_at {
            return neighbor.broadcast_probe_at(at);
        }
        // Looked for once at a time, however many frames arrive.
        let looks = (network, address.is_ipv4(), now);
        let given_up =
            if self.revived.replace(looks) == Some(looks) { Vec::new() } else { self.failed_without_witness() };
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        self.judged &= !neighbor.lost;
        if neighbor.probes > 0
            && let Some(model) = &self.model
        {
            self.truth.answered(model.network(network).port, &mut neighbor.voids);
        }
        let before = neighbor.mac.filter(|_| !was_given_up);
        if before != Some(mac) {
            self.news.push(News { address, network, before, now: Some(mac), others_answer: false });
        }
        if neighbor.mac == Some(mac) {
            neighbor.confirm(now);
        } else {
            if neighbor.mac.is_some() {
                neighbor.changes += 1;
                neighbor.changed = Some(now);
            }
            neighbor.set_mac(mac, now);
            self.changed.insert(address);
        }
        // This backend answers again. The others of its group that were given up could not answer until now, so each
        // gets the time that a new backend has.
        let group = Group::of(address, neighbor);
        for address in given_up {
            if let Some(neighbor) = self.table.get_mut(&address)
                && neighbor.state == NeighborState::Failed
                && Group::of(address, neighbor) == group
            {
                neighbor.ask_again(now);
                self.judged = false;
            }
        }
    }
}
