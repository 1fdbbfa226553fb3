//! Where a backend is: its MAC address, and the port that it is behind.

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::{BackendNo, PortNo};
use crate::dpdk::prefetch;
use crate::forward::way::{Aside, Way};
use crate::state::snapshot::{ServiceEntry, Snapshot, Target};

/// Finds the target of each packet. Returns the port that the first of them leaves by; [`PortNo::NONE`]: none does.
#[inline(always)]
pub(super) fn find_targets<'w>(snapshot: &'w Snapshot, ways: &mut [Way<'w>], aside: &mut Aside<'w>) -> PortNo {
    let targets = &*snapshot.targets;
    for (index, way) in ways.iter_mut().enumerate() {
        let Some(service) = way.service else { continue };
        let backend = *way.backend;
        if backend == BackendNo::NONE {
            aside.exits[index] = no_backend(service);
        } else {
            way.target = target(targets, service, backend);
        }
    }
    ways.iter().map(|way| way.target.port).find(|&port| port != PortNo::NONE).unwrap_or(PortNo::NONE)
}

/// A backend of a service; has its addresses fetched.
#[inline(always)]
pub(super) fn target<'s>(targets: &'s [Target], service: &ServiceEntry, backend: BackendNo) -> &'s Target {
    let target = &targets[service.first_target + backend.index()];
    prefetch(target);
    target
}

/// What becomes of a packet that none of a service's backends takes.
#[cold]
pub(super) fn no_backend(service: &ServiceEntry) -> Exit {
    Exit::DropOf(DropReason::NoBackend, service.counter)
}
