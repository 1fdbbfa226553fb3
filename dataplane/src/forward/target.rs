//! Targets: finds each backend's MAC address, and the port that leads to it.

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::{BackendNo, PortNo};
use crate::dpdk::prefetch;
use crate::forward::decision::{Decision, Rare};
use crate::state::snapshot::{ServiceEntry, Snapshot, Target};

/// Finds the target of each packet. Returns the port of the first packet that has a target. [`PortNo::NONE`]: no packet
/// has one.
#[inline(always)]
pub(super) fn find_targets<'w>(snapshot: &'w Snapshot, decisions: &mut [Decision<'w>], rare: &mut Rare<'w>) -> PortNo {
    let targets = &*snapshot.targets;
    for (index, decision) in decisions.iter_mut().enumerate() {
        let Some(service) = decision.service else { continue };
        let backend = *decision.backend;
        if backend == BackendNo::NONE {
            rare.exits[index] = no_backend(service);
        } else {
            decision.target = target(targets, service, backend);
        }
    }
    decisions.iter().map(|decision| decision.target.port).find(|&port| port != PortNo::NONE).unwrap_or(PortNo::NONE)
}

/// The target of a service's backend; prefetches it.
#[inline(always)]
pub(super) fn target<'s>(targets: &'s [Target], service: &ServiceEntry, backend: BackendNo) -> &'s Target {
    let target = &targets[service.first_target + backend.index()];
    prefetch(target);
    target
}

/// The exit of a packet that no backend of the service takes.
#[cold]
pub(super) fn no_backend(service: &ServiceEntry) -> Exit {
    Exit::DropOf(DropReason::NoBackend, service.counter)
}
