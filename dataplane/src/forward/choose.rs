//! Parse, service, slot: which service a packet is for, and where its backend stands.

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::dpdk::prefetch;
use crate::forward::context::Context;
use crate::forward::door::{Door, parse_stage};
use crate::forward::exceptions::Asked;
use crate::forward::fragment::Verdict;
use crate::forward::way::{Aside, Choice, Question, Staged, Way};
use crate::select::maglev;
use crate::state::snapshot::{ServiceEntry, Snapshot};
use crate::state::vips::Local;
use crate::wire::ethernet::MacNumber;
use crate::wire::flow::{AnyTuple, Flow};
use crate::wire::headers::{Headers, Payload, Segment};
use crate::wire::l4::{has_ports, segment};
use crate::wire::plain::{plain_v4, plain_v6};

/// Finds the service of each packet, and where the number of its backend stands. Returns how many bytes there are.
#[inline(always)]
pub(super) fn choose<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &Burst<Io::Packet>,
    ways: &mut [Way<'w>; BURST],
    aside: &mut Aside<'w>,
) -> u64 {
    let door = context.door(from);
    // Where all networks have tags, no frame is plain.
    let ours = if door.vlans.has_untagged() { door.mac } else { MacNumber::NONE };
    let remembering = !context.exceptions.is_empty();
    let mut bytes = 0;
    for (index, (packet, way)) in burst.iter().zip(ways).enumerate() {
        let (frame, wire_len) = (packet.data(), packet.wire_len());
        bytes += wire_len as u64;
        // Each arm knows the IP version of its flow, and the compiler with it.
        let choice = if !packet.is_plain() {
            rare_choice(context, packet, door, index, aside)
        } else if let Some(tuple) = plain_v4(frame, wire_len, ours) {
            way.len = wire_len;
            choice(context, tuple, frame, remembering, index, aside)
        } else if let Some(tuple) = plain_v6(frame, wire_len, ours) {
            way.len = wire_len;
            choice(context, tuple, frame, remembering, index, aside)
        } else {
            rare_choice(context, packet, door, index, aside)
        };
        if let Some(choice) = choice {
            way.service = Some(choice.service);
            way.backend = choice.backend;
        }
    }
    bytes
}

/// Where the number of the backend of a plain frame's flow stands; has it fetched. `None` where no service takes the flow, or where the
/// exception table is asked.
#[inline(always)]
fn choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    tuple: T,
    frame: &[u8],
    remembering: bool,
    index: usize,
    aside: &mut Aside<'w>,
) -> Option<Choice<'w>> {
    let snapshot = context.snapshot;
    let found = tuple.service(&snapshot.vips).map(|number| &snapshot.services[number.index()]);
    let Some(service) = found.filter(|service| service.simple && !remembering) else {
        return close_choice(context, tuple, found, frame.get(T::L4..).unwrap_or_default(), index, aside);
    };
    let backend = &service.table[maglev::slot(tuple.hash(&snapshot.hasher), service.table.len())];
    prefetch(backend);
    Some(Choice { service, backend })
}

/// The same where it takes more than the table of VIPs and the hash of the 5-tuple to tell.
#[inline(never)]
fn close_choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    tuple: T,
    found: Option<&'w ServiceEntry>,
    l4: &[u8],
    index: usize,
    aside: &mut Aside<'w>,
) -> Option<Choice<'w>> {
    let snapshot = context.snapshot;
    let Some(service) = found.or_else(|| snapshot.service(&tuple.into(), &mut aside.last)) else {
        aside.exits[index] = stranger(tuple.into(), snapshot);
        return None;
    };
    watched_choice(context, tuple, service, segment(tuple.transport().protocol, l4), index, aside)
}

/// Has fetched what the exception table may know of the flow.
#[inline(always)]
fn watched_choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    flow: T,
    service: &'w ServiceEntry,
    segment: Segment,
    index: usize,
    aside: &mut Aside<'w>,
) -> Option<Choice<'w>> {
    let hasher = &context.snapshot.hasher;
    let hash = flow.hash(hasher);
    let slot = service.slot(flow, hash, hasher);
    if !context.exceptions.may_concern(service, hash) {
        let backend = &service.table[slot];
        prefetch(backend);
        return Some(Choice { service, backend });
    }
    context.exceptions.prefetch::<T>(hash);
    if let Some(before) = &service.before {
        prefetch(&before[slot]);
        prefetch(&service.table[slot]);
    }
    T::questions(aside).push(Question { flow, asked: Asked { hash, segment, service, slot }, index });
    None
}

/// The same for a frame that is not plain.
#[cold]
fn rare_choice<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    packet: &Io::Packet,
    door: Door<'w>,
    index: usize,
    aside: &mut Aside<'w>,
) -> Option<Choice<'w>> {
    let choice = try_choice(context, packet, door, index, aside);
    choice.unwrap_or_else(|exit| {
        aside.exits[index] = exit;
        None
    })
}

fn try_choice<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    packet: &Io::Packet,
    door: Door<'w>,
    index: usize,
    aside: &mut Aside<'w>,
) -> Result<Option<Choice<'w>>, Exit> {
    let snapshot = context.snapshot;
    let headers = with_ports(context, &parse_stage(packet, door)?)?;
    let Payload::Ports(segment) = headers.payload else { return Err(not_for_a_service(&headers, snapshot)) };
    let Some(service) = snapshot.service(&headers.flow, &mut aside.last) else {
        return Err(not_for_a_service(&headers, snapshot));
    };
    Ok(match headers.flow.into() {
        AnyTuple::V4(flow) => watched_choice(context, flow, service, segment, index, aside),
        AnyTuple::V6(flow) => watched_choice(context, flow, service, segment, index, aside),
    })
}

/// A fragment gets the ports of its packet, and goes on as if it were whole; or it leaves for a while.
fn with_ports<'w, Io: PacketIo>(context: &mut Context<'w, Io>, headers: &Headers) -> Result<Headers, Exit> {
    let Headers { flow, payload: Payload::Fragment(of) } = headers else { return Ok(*headers) };
    let to_vip = context.snapshot.vips.local(flow.destination()) == Some(Local::Vip);
    if !to_vip || !has_ports(flow.transport().protocol) {
        return Err(not_for_a_service(headers, context.snapshot));
    }
    match context.fragments.verdict(flow, *of, &context.snapshot.hasher, context.now_ms) {
        Verdict::Ports(ports) => Ok(Headers { flow: flow.with_ports(ports), payload: Payload::Ports(of.segment) }),
        Verdict::Hold => Err(Exit::Hold),
        Verdict::Worker(worker) => Err(Exit::Pass(worker)),
    }
}

/// What becomes of a plain frame that no service takes.
#[inline(never)]
fn stranger(flow: Flow, snapshot: &Snapshot) -> Exit {
    not_for_a_service(&Headers { flow, payload: Payload::Ports(Segment::Data) }, snapshot)
}

/// What becomes of a packet that no service takes.
fn not_for_a_service(headers: &Headers, snapshot: &Snapshot) -> Exit {
    let local = |address| snapshot.vips.local(address);
    match (local(headers.flow.destination()), headers.payload) {
        (Some(_), Payload::Echo) => PuntReason::Echo.into(),
        (Some(_), Payload::Ndp) => PuntReason::Ndp.into(),
        // What claims to come from our own addresses is nothing to answer, but the slow path may want to know.
        (Some(Local::Own), _) => PuntReason::OwnAddress.into(),
        (Some(Local::Vip), Payload::Fragment(_)) => DropReason::FragmentNoPorts.into(),
        (Some(Local::Vip), Payload::Icmp) => DropReason::IcmpUnhandled.into(),
        (Some(Local::Vip), Payload::Ports(_) | Payload::Other) => DropReason::NoService.into(),
        (None, _) if local(headers.flow.source()) == Some(Local::Vip) => DropReason::ReturnViaDirector.into(),
        (None, _) => DropReason::NotForUs.into(),
    }
}
