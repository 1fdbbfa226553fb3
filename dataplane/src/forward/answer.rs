//! Exceptions: asks the exception table about the packets that it may know of.

use arrayvec::ArrayVec;

use crate::base::exit::Exit;
use crate::base::ids::NOBODY;
use crate::base::packet::{BURST, PacketIo};
use crate::forward::context::Context;
use crate::forward::exceptions::Around;
use crate::forward::target::{no_backend, target};
use crate::forward::way::{Question, Questions, Staged, Way};
use crate::state::snapshot::ServiceEntry;

/// Between the stages: asks the exception table, and finds the targets of those whom that concerns.
#[inline(never)]
pub(super) fn answer<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    questions: &Questions<'w, T>,
    ways: &mut [Way<'w>; BURST],
    exits: &mut [Exit; BURST],
) {
    let (snapshot, around) = (context.snapshot, Around { snapshot: context.snapshot, counters: context.counters });
    let mut answered = |service: &ServiceEntry, backend: u16, place: usize| {
        if backend == NOBODY {
            exits[place] = no_backend(service);
        } else {
            ways[place].target = target(&snapshot.targets, service, backend);
        }
    };
    let mut far = ArrayVec::<&Question<'w, T>, BURST>::new();
    for question @ &Question { flow, ref asked, place } in questions {
        match context.exceptions.resolve_near(flow, asked, around) {
            Some(backend) => answered(asked.service, backend, place),
            None => far.push(question),
        }
    }
    for &&Question { flow, ref asked, place } in &far {
        answered(asked.service, context.exceptions.resolve_far(flow, asked, around), place);
    }
}
