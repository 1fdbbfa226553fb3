//! What the stages of a burst hand on to each other.

use arrayvec::ArrayVec;

use crate::base::exit::Exit;
use crate::base::ids::BackendNo;
use crate::base::packet::BURST;
use crate::forward::exceptions::{Asked, Kept};
use crate::state::snapshot::{ServiceEntry, Target};
use crate::state::vips::{LastService, Near};
use crate::wire::flow::{TupleV4, TupleV6};
use crate::wire::plain::{PLAIN_V4, PLAIN_V6};

/// Where the number of a packet's backend stands: in memory that may be on its way.
#[derive(Clone, Copy)]
pub(super) struct Choice<'s> {
    pub(super) service: &'s ServiceEntry,
    /// In the service's table.
    pub(super) backend: &'s BackendNo,
}

/// A question to the exception table.
#[derive(Clone, Copy)]
pub(super) struct Question<'s, T> {
    pub(super) flow: T,
    pub(super) asked: Asked<'s>,
    /// The packet's index in the burst.
    pub(super) index: usize,
}

/// In the order of the packets.
pub(super) type Questions<'s, T> = ArrayVec<Question<'s, T>, BURST>;

/// A flow of an IP version, on its way through the stages.
pub(super) trait Staged: Near + Kept {
    /// Where the transport header of a plain frame begins.
    const L4: usize;

    /// The questions about such flows.
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self>;
}

impl Staged for TupleV4 {
    const L4: usize = PLAIN_V4;

    #[inline(always)]
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self> {
        &mut aside.questions_v4
    }
}

impl Staged for TupleV6 {
    const L4: usize = PLAIN_V6;

    #[inline(always)]
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self> {
        &mut aside.questions_v6
    }
}

/// What the stages know of a packet. Each field is written on its own: a `Result` or a pair is put together in memory and
/// read as a whole at once, for which the CPU waits until the parts are written.
#[derive(Clone, Copy)]
pub(super) struct Way<'s> {
    pub(super) service: Option<&'s ServiceEntry>,
    pub(super) backend: &'s BackendNo,
    pub(super) target: &'s Target,
    /// Its length on the wire; [`WITH_CARE`] where it is not plain.
    pub(super) len: usize,
}

/// Longer than any frame that new MAC addresses alone bring to a backend ([`Target::plain_len`]).
pub(super) const WITH_CARE: usize = usize::MAX;

pub(super) static NOWHERE: Target = Target::NOWHERE;

impl Way<'_> {
    pub(super) const UNKNOWN: Self = Way { service: None, backend: &BackendNo::NONE, target: &NOWHERE, len: WITH_CARE };
}

/// What is beside the way of most packets.
pub(super) struct Aside<'s> {
    /// Why a packet leaves that has no service, or no target.
    pub(super) exits: [Exit; BURST],
    pub(super) questions_v4: Questions<'s, TupleV4>,
    pub(super) questions_v6: Questions<'s, TupleV6>,
    pub(super) last: LastService,
}
