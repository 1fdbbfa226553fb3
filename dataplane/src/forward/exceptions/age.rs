//! The age of entries: when they expire, and which of them a new entry may replace.

use crate::forward::exceptions::table::{Meta, Phase};
use crate::state::snapshot::Snapshot;

/// After this many ticks without a second packet, any new entry may replace an entry on probation.
const PROBATION: u32 = 2;
/// Ticks for which a connection is remembered after a SYN without a further packet (60 s, as LVS's SYN_RECV).
const OPENING: u32 = 15;
/// Ticks for which a connection is remembered after the client's FIN (120 s, as LVS's FIN_WAIT).
const CLOSING: u32 = 30;
/// Ticks for which a connection is remembered after the client's RST (at least 10 s, as LVS's CLOSE).
const CLOSED: u32 = 4;

/// Whether an entry has expired: its backend does not serve, or its flow had no packet for too long.
pub(super) fn is_outlived(meta: Meta, tick: u32, snapshot: &Snapshot) -> bool {
    let Some(owner) = snapshot.owner(meta.counter()) else { return true };
    let idle = u32::from(owner.idle_ticks);
    let limit = match meta.phase() {
        Phase::Opening => OPENING.min(idle),
        Phase::Heard | Phase::Open => idle,
        Phase::Closing | Phase::Leaving => CLOSING.min(idle),
        Phase::Closed => CLOSED.min(idle),
    };
    meta.age(tick) > limit
}

/// Whether a SYN goes to the backend that the entry names. Until the client has closed the connection, that backend
/// alone can tell a late repetition, a forgery and a new connection on old ports from each other (RFC 9293 §3.10.7.4,
/// RFC 5961 §4, RFC 6191). In the last tick of a silent connection, the SYN begins anew: the client's next packet would
/// find no entry.
pub(super) fn keeps_syn(meta: Meta, tick: u32, snapshot: &Snapshot) -> bool {
    match meta.phase() {
        Phase::Opening => !is_outlived(meta, tick, snapshot),
        Phase::Heard | Phase::Open => {
            snapshot.owner(meta.counter()).is_some_and(|owner| meta.age(tick) < u32::from(owner.idle_ticks))
        }
        Phase::Closing | Phase::Closed | Phase::Leaving => false,
    }
}

/// The rank of an entry when a new one needs room: the entry of the lowest rank is replaced. `None`: it may not be
/// replaced. A new entry in the phase `Opening` is of a new flow. In another phase, it is of an old flow, or of a
/// datagram, which does not show the age of its flow.
pub(super) fn rank(meta: Meta, newcomer: Phase, tick: u32, snapshot: &Snapshot) -> Option<u32> {
    let age = meta.age(tick);
    let oldest_first = |class: u32| Some(class << 16 | (u32::from(u16::MAX) - age));
    match meta.phase() {
        _ if is_outlived(meta, tick, snapshot) => Some(1),
        // A SYN or a FIN without a further packet is worth less than a flow that sends seldom.
        Phase::Opening | Phase::Leaving if age >= PROBATION => oldest_first(2),
        Phase::Heard if age >= PROBATION => oldest_first(3),
        phase if phase.is_probation() && newcomer != Phase::Opening => oldest_first(4),
        _ => None,
    }
}
