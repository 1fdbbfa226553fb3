//! How long an entry is worth its room.

use crate::forward::exceptions::table::{Meta, Phase};
use crate::state::snapshot::Snapshot;

/// After so many ticks without a second packet, an entry on probation gives way to anybody.
const PROBATION: u32 = 2;
/// Ticks for which a connection is remembered of which there was nothing but a SYN (60 s, as LVS's SYN_RECV).
const OPENING: u32 = 15;
/// Ticks for which a connection is remembered after the client's FIN (120 s, as LVS's FIN_WAIT).
const CLOSING: u32 = 30;
/// Ticks for which a connection is remembered after the client's RST (at least 10 s, as LVS's CLOSE).
const CLOSED: u32 = 4;
/// A connection that was heard of so few ticks ago is alive, and a SYN for it a late repetition or a forgery.
pub(super) const LIVELY: u32 = 1;

/// Whether an entry is worth nothing any more: its backend does not serve, or it was not heard of for too long.
pub(super) fn is_outlived(meta: Meta, tick: u32, snapshot: &Snapshot) -> bool {
    let Some(owner) = snapshot.owner(meta.counter()) else { return true };
    let idle = u32::from(owner.idle_ticks);
    let limit = match meta.phase() {
        Phase::Opening => OPENING.min(idle),
        Phase::Heard | Phase::Open => idle,
        Phase::Closing => CLOSING.min(idle),
        Phase::Closed => CLOSED.min(idle),
    };
    meta.age(tick) > limit
}

/// How readily an entry gives way to a newcomer: the lower, the sooner. A newcomer in the phase `Opening` is a new flow, one
/// in `Heard` an old flow (or a datagram, which tells nothing of its flow's age).
pub(super) fn rank(meta: Meta, newcomer: Phase, tick: u32, snapshot: &Snapshot) -> Option<u32> {
    let age = meta.age(tick);
    let oldest_first = |class: u32| Some(class << 16 | (u32::from(u16::MAX) - age));
    match meta.phase() {
        _ if is_outlived(meta, tick, snapshot) => Some(1),
        // A SYN that was never followed up is worth less than a flow that speaks seldom.
        Phase::Opening if age >= PROBATION => oldest_first(2),
        Phase::Heard if age >= PROBATION => oldest_first(3),
        phase if phase.is_probation() && newcomer == Phase::Heard => oldest_first(4),
        _ => None,
    }
}
