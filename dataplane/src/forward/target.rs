//! Where a backend is: its MAC address, and the port that it is behind.

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::NOBODY;
use crate::dpdk::prefetch;
use crate::forward::way::{Aside, Way};
use crate::state::snapshot::{ServiceEntry, Snapshot, Target};

/// Second stage: how a frame gets to its backend. Returns the port that the first of them leaves by; `u16::MAX`: none does.
#[inline(always)]
pub(super) fn find_targets<'w>(snapshot: &'w Snapshot, ways: &mut [Way<'w>], aside: &mut Aside<'w>) -> u16 {
    let targets = &*snapshot.targets;
    for (place, way) in ways.iter_mut().enumerate() {
        let Some(service) = way.service else { continue };
        let backend = *way.backend;
        if backend == NOBODY {
            aside.exits[place] = no_backend(service);
        } else {
            way.target = target(targets, service, backend);
        }
    }
    ways.iter().map(|way| way.target.port).find(|&port| port != u16::MAX).unwrap_or(u16::MAX)
}

/// A backend of a service; has its addresses fetched.
#[inline(always)]
pub(super) fn target<'s>(targets: &'s [Target], service: &ServiceEntry, backend: u16) -> &'s Target {
    let target = &targets[service.first_target + usize::from(backend)];
    prefetch(target);
    target
}

/// What becomes of a packet that none of a service's backends takes.
#[cold]
pub(super) fn no_backend(service: &ServiceEntry) -> Exit {
    Exit::DropOf(DropReason::NoBackend, service.counter)
}
