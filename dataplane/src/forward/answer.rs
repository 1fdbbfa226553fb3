//! Exceptions: asks the exception table about the packets whose flows it may have.

use arrayvec::ArrayVec;

use crate::base::exit::Exit;
use crate::base::ids::BackendNo;
use crate::base::packet::{BURST, PacketIo};
use crate::forward::context::Context;
use crate::forward::decision::{Decision, Question, Questions, Staged};
use crate::forward::exceptions::Around;
use crate::forward::target::{no_backend, target};
use crate::state::snapshot::ServiceEntry;

/// Asks the exception table about some packets of a burst, and finds their targets.
#[inline(never)]
pub(super) fn answer<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    questions: &Questions<'w, T>,
    decisions: &mut [Decision<'w>; BURST],
    exits: &mut [Exit; BURST],
) {
    let (snapshot, around) = (context.snapshot, Around { snapshot: context.snapshot, counters: context.counters });
    let mut answered = |service: &ServiceEntry, backend: BackendNo, index: usize| {
        if backend == BackendNo::NONE {
            exits[index] = no_backend(service);
        } else {
            decisions[index].target = target(&snapshot.targets, service, backend);
        }
    };
    let mut far = ArrayVec::<&Question<'w, T>, BURST>::new();
    for question @ &Question { flow, ref asked, index } in questions {
        match context.exceptions.resolve_near(flow, asked, around) {
            Some(backend) => answered(asked.service, backend, index),
            None => far.push(question),
        }
    }
    for &&Question { flow, ref asked, index } in &far {
        answered(asked.service, context.exceptions.resolve_far(flow, asked, around), index);
    }
}
