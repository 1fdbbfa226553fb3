//! The forwarding decisions of a burst, which its stages make and hand on to each other.

use arrayvec::ArrayVec;

use crate::base::exit::Exit;
use crate::base::ids::BackendNo;
use crate::base::packet::BURST;
use crate::forward::exceptions::{Asked, Kept};
use crate::state::snapshot::{ServiceEntry, Target};
use crate::state::vips::{LastService, Near};
use crate::wire::flow::{TupleV4, TupleV6};
use crate::wire::plain::{PLAIN_V4, PLAIN_V6, mark_v4, mark_v6};
use crate::wire::source::Marks;

/// The table entry that holds the number of a packet's backend. Its memory may still be on the way to the cache.
#[derive(Clone, Copy)]
pub(super) struct Choice<'s> {
    pub(super) service: &'s ServiceEntry,
    /// The entry of the service's table.
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

/// The questions of a burst, in the order of the packets.
pub(super) type Questions<'s, T> = ArrayVec<Question<'s, T>, BURST>;

/// A flow of one IP version, as the stages handle it.
pub(super) trait Staged: Near + Kept {
    /// The offset of a plain frame's transport header.
    const L4: usize;

    /// The mark of a plain frame's source.
    fn mark(frame: &[u8], marks: &Marks) -> u8;

    /// The questions about flows of this IP version.
    fn questions<'a, 's>(rare: &'a mut Rare<'s>) -> &'a mut Questions<'s, Self>;
}

impl Staged for TupleV4 {
    const L4: usize = PLAIN_V4;

    #[inline(always)]
    fn mark(frame: &[u8], marks: &Marks) -> u8 {
        mark_v4(frame, marks)
    }

    #[inline(always)]
    fn questions<'a, 's>(rare: &'a mut Rare<'s>) -> &'a mut Questions<'s, Self> {
        &mut rare.questions_v4
    }
}

impl Staged for TupleV6 {
    const L4: usize = PLAIN_V6;

    #[inline(always)]
    fn mark(frame: &[u8], marks: &Marks) -> u8 {
        mark_v6(frame, marks)
    }

    #[inline(always)]
    fn questions<'a, 's>(rare: &'a mut Rare<'s>) -> &'a mut Questions<'s, Self> {
        &mut rare.questions_v6
    }
}

/// The forwarding decision of a packet. Each field is written on its own, and not as part of a `Result` or a pair.
/// Those are written in parts and read as a whole, and the CPU waits until the parts are written.
#[derive(Clone, Copy)]
pub(super) struct Decision<'s> {
    pub(super) service: Option<&'s ServiceEntry>,
    pub(super) backend: &'s BackendNo,
    pub(super) target: &'s Target,
    /// Its length on the wire, or [`WITH_CARE`] if it is not plain.
    pub(super) len: usize,
}

/// A length above that of any frame that needs new MAC addresses only ([`Target::plain_len`]).
pub(super) const WITH_CARE: usize = usize::MAX;

pub(super) static NOWHERE: Target = Target::NOWHERE;

impl Decision<'_> {
    pub(super) const UNKNOWN: Self =
        Decision { service: None, backend: &BackendNo::NONE, target: &NOWHERE, len: WITH_CARE };
}

/// The data that only a few packets of a burst need.
pub(super) struct Rare<'s> {
    /// By the packet's index: the exit of a packet without a service or a target.
    pub(super) exits: [Exit; BURST],
    pub(super) questions_v4: Questions<'s, TupleV4>,
    pub(super) questions_v6: Questions<'s, TupleV6>,
    pub(super) last: LastService,
}
