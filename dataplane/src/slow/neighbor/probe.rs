//! Probes: ARP requests and neighbor solicitations, when they are due.

use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::NeighborState;

use crate::base::truth::Losses;
use crate::control::compile::Compiled;
use crate::slow::neighbor::nud::{Neighbor, REACHABLE, RETRANSMIT};
use crate::slow::neighbor::table::Neighbors;
use crate::slow::neighbor::witness::Group;
use crate::slow::view::Frame;
use crate::slow::{arp, ndp};

impl Neighbors {
    /// Takes note of the ports' links. Behind a link that is down, no backend is probed or given up, and all are lost until
    /// they answer again. Where a port has joined its network again, all backends are probed anew.
    pub fn set_links(&mut self, current: &Compiled, now: Instant) {
        if *self.links == *current.ports {
            return;
        }
        let before = std::mem::replace(&mut self.links, current.ports.to_vec());
        let joined: Vec<bool> =
            current.ports.iter().zip(&before).map(|(now, before)| now.joins != before.joins).collect();
        let has_joined = |neighbor: &Neighbor| {
            let port = current.network(neighbor.network).port.index();
            joined.get(port).copied().unwrap_or(false) && neighbor.state != NeighborState::Permanent
        };
        let concerned = self.table.values_mut().filter(|neighbor| has_joined(neighbor));
        concerned.for_each(|neighbor| neighbor.probe_anew_at(now));
        for neighbor in self.table.values_mut().filter(|neighbor| neighbor.state != NeighborState::Permanent) {
            neighbor.lost |= !current.network(neighbor.network).link.up;
        }
        self.next_due = None;
        self.judged = false;
    }

    /// Has all backends probed now, whatever is known of them.
    pub fn ask_all(&mut self, now: Instant) {
        let probed = self.table.values_mut().filter(|neighbor| neighbor.state != NeighborState::Permanent);
        probed.for_each(|neighbor| neighbor.suspect(now));
        self.next_due = None;
    }

    /// Has a backend probed now: something else says that it may not be there. One that is asked already is not asked more.
    pub fn ask(&mut self, address: IpAddr, now: Instant) {
        if let Some(neighbor) = self.table.get_mut(&address)
            && neighbor.state == NeighborState::Reachable
        {
            neighbor.suspect(now);
            self.next_due = None;
        }
    }

    /// Whether all backends that can be asked have answered since then, but those that were given up.
    pub fn have_answered_since(&self, then: Instant, current: &Compiled) -> bool {
        let asked = self.table.values().filter(|neighbor| {
            let out = matches!(neighbor.state, NeighborState::Permanent | NeighborState::Failed);
            !out && current.network(neighbor.network).link.up
        });
        asked.into_iter().all(|neighbor| neighbor.confirmed.is_some_and(|confirmed| confirmed >= then))
    }

    /// The probes that are due, but at most `room`. The others wait for the next call. A probe that the director may not have
    /// sent, or whose answer it may have lost, is repeated, and counts for nothing.
    pub fn poll(&mut self, current: &Compiled, losses: Losses<'_>, now: Instant, room: usize) -> Vec<Frame> {
        if self.next_due.is_some_and(|due| due > now) || room == 0 {
            return Vec::new();
        }
        let (mut frames, mut silent, mut given_up) = (Vec::new(), Vec::new(), Vec::new());
        // From where the last call has ended, so that each backend gets its turn, however many there are.
        let from = self.next_probed.take();
        let (before, behind): (Vec<_>, Vec<_>) = self.table.iter_mut().partition(|(key, _)| Some(**key) < from);
        for (&address, neighbor) in behind.into_iter().chain(before) {
            if neighbor.state == NeighborState::Permanent || neighbor.due > now {
                continue;
            }
            if frames.len() == room {
                self.next_probed = Some(address);
                break;
            }
            let port = current.network(neighbor.network).port;
            if !self.links.get(port.index()).is_none_or(|link| link.up) {
                neighbor.due = now + RETRANSMIT;
                continue;
            }
            let (state, lost) = (neighbor.state, losses(port));
            let (before, voids) =
                (std::mem::replace(&mut neighbor.before, self.truth.before(lost)), &mut neighbor.voids);
            if neighbor.probes > 0 && state != NeighborState::Failed && self.truth.is_void(before, lost, port, voids) {
                neighbor.repeat_probe(now);
                frames.extend(probe(current, address, neighbor));
                continue;
            }
            if let (Some(group), Some(since), 1..) =
                (Group::of(address, neighbor), neighbor.silent_since, neighbor.probes)
            {
                silent.push((group, since));
            }
            neighbor.count_probe(now);
            if neighbor.state == NeighborState::Failed && state != NeighborState::Failed {
                given_up.push(address);
            }
            frames.extend(probe(current, address, neighbor));
        }
        self.note_given_up(&given_up);
        self.probe_witnesses(&silent, now);
        let resolved = self.table.values().filter(|neighbor| neighbor.state != NeighborState::Permanent);
        let due = resolved.map(|neighbor| neighbor.due).min();
        // Without a backend to probe, any later time will do: a new model resets this.
        self.next_due = Some(due.unwrap_or(now + REACHABLE));
        frames
    }
}

/// A probe of a neighbor, from the director's own address in its network, never from a VIP.
fn probe(current: &Compiled, address: IpAddr, neighbor: &Neighbor) -> Option<Frame> {
    let network = &current.network(neighbor.network);
    let own = network.addresses.iter().find(|net| net.contains(&address))?.addr();
    let last = neighbor.mac.filter(|_| neighbor.is_asked_by_unicast());
    let bytes = match (own, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => arp::request(network.link.mac, own, address, last),
        (IpAddr::V6(own), IpAddr::V6(address)) => ndp::request(network.link.mac, own, address, last),
        _ => return None,
    };
    Some(Frame { network: neighbor.network, bytes })
}
