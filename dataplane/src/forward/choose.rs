//! Parse, service, slot: finds the service of each packet, and the table entry that holds its backend's number.

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::dpdk::prefetch;
use crate::forward::context::Context;
use crate::forward::decision::{Choice, Decision, Question, Rare, Staged};
use crate::forward::exceptions::Asked;
use crate::forward::fragment::Verdict;
use crate::forward::ingress::{Ingress, parse_stage};
use crate::select::maglev;
use crate::state::snapshot::{ServiceEntry, Snapshot};
use crate::state::vips::{Local, VipMap};
use crate::wire::ethernet::MacNumber;
use crate::wire::flow::{AnyTuple, Flow};
use crate::wire::headers::{Headers, Payload, Segment};
use crate::wire::l4::{has_ports, segment};
use crate::wire::plain::{plain_v4, plain_v6};

/// Finds the service of each packet, and the table entry that holds its backend's number. Returns the bytes of the
/// burst.
#[inline(always)]
pub(super) fn choose<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &Burst<Io::Packet>,
    decisions: &mut [Decision<'w>; BURST],
    rare: &mut Rare<'w>,
) -> u64 {
    let ingress = context.ingress(from);
    // If all networks have tags, no frame is plain.
    let ours = if ingress.vlans.has_untagged() { ingress.mac } else { MacNumber::NONE };
    let remembering = !context.exceptions.is_empty();
    let mut bytes = 0;
    for (index, (packet, decision)) in burst.iter().zip(decisions).enumerate() {
        let (frame, wire_len) = (packet.data(), packet.wire_len());
        bytes += wire_len as u64;
        // In each arm the IP version is a type, so that the compiler specializes the code for it.
        let choice = if !packet.is_plain() {
            rare_choice(context, packet, ingress, index, rare)
        } else if let Some(tuple) = plain_v4(frame, wire_len, ours) {
            decision.len = wire_len;
            choice(context, tuple, frame, remembering, index, rare)
        } else if let Some(tuple) = plain_v6(frame, wire_len, ours) {
            decision.len = wire_len;
            choice(context, tuple, frame, remembering, index, rare)
        } else {
            rare_choice(context, packet, ingress, index, rare)
        };
        if let Some(choice) = choice {
            decision.service = Some(choice.service);
            decision.backend = choice.backend;
        }
    }
    bytes
}

/// The table entry that holds the number of a plain frame's backend; prefetches it. `None` if no service takes the
/// flow, or if the exception table must be asked.
#[inline(always)]
fn choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    tuple: T,
    frame: &[u8],
    remembering: bool,
    index: usize,
    rare: &mut Rare<'w>,
) -> Option<Choice<'w>> {
    let snapshot = context.snapshot;
    let found = tuple.service(&snapshot.vips).map(|number| &snapshot.services[number.index()]);
    // One branch for three questions.
    let is_simple = |service: &&ServiceEntry| {
        T::mark(frame, snapshot.vips.marks()) | u8::from(service.needs_more) | u8::from(remembering) == 0
    };
    let Some(service) = found.filter(is_simple) else {
        return close_choice(context, tuple, found, frame, index, rare);
    };
    let backend = &service.table[maglev::slot(tuple.hash(&snapshot.hasher), service.table.len())];
    prefetch(backend);
    Some(Choice { service, backend })
}

/// The same if the table of VIPs and the hash of the 5-tuple do not suffice.
#[inline(never)]
fn close_choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    tuple: T,
    found: Option<&'w ServiceEntry>,
    frame: &[u8],
    index: usize,
    rare: &mut Rare<'w>,
) -> Option<Choice<'w>> {
    let snapshot = context.snapshot;
    if T::mark(frame, snapshot.vips.marks()) != 0 && is_martian(tuple.into(), &snapshot.vips) {
        rare.exits[index] = DropReason::MartianSource.into();
        return None;
    }
    let Some(service) = found.or_else(|| snapshot.service(&tuple.into(), &mut rare.last)) else {
        rare.exits[index] = exit_without_service(tuple.into(), snapshot);
        return None;
    };
    let l4 = frame.get(T::L4..).unwrap_or_default();
    watched_choice(context, tuple, service, segment(tuple.transport().protocol, l4), index, rare)
}

#[inline(never)]
fn is_martian(flow: Flow, vips: &VipMap) -> bool {
    vips.is_martian(flow.source(), flow.destination())
}

/// The same for a flow whose service is known. If the exception table must be asked, prefetches its entries, notes the
/// question, and returns `None`.
#[inline(always)]
fn watched_choice<'w, Io: PacketIo, T: Staged>(
    context: &mut Context<'w, Io>,
    flow: T,
    service: &'w ServiceEntry,
    segment: Segment,
    index: usize,
    rare: &mut Rare<'w>,
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
    if let Some(had) = &service.had {
        prefetch(&had[slot]);
        prefetch(&service.table[slot]);
    }
    T::questions(rare).push(Question { flow, asked: Asked { hash, segment, service, slot }, index });
    None
}

/// The same for a frame that is not plain.
#[cold]
fn rare_choice<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    packet: &Io::Packet,
    ingress: Ingress<'w>,
    index: usize,
    rare: &mut Rare<'w>,
) -> Option<Choice<'w>> {
    let choice = try_choice(context, packet, ingress, index, rare);
    choice.unwrap_or_else(|exit| {
        rare.exits[index] = exit;
        None
    })
}

fn try_choice<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    packet: &Io::Packet,
    ingress: Ingress<'w>,
    index: usize,
    rare: &mut Rare<'w>,
) -> Result<Option<Choice<'w>>, Exit> {
    let snapshot = context.snapshot;
    let headers = parse_stage(packet, ingress)?;
    // Neighbor discovery is judged by the slow path: a station may have no address yet (RFC 4861 §4.3), and one that claims
    // an address of ours must be noticed.
    if headers.payload != Payload::Ndp && snapshot.vips.is_martian(headers.source(), headers.flow.destination()) {
        return Err(DropReason::MartianSource.into());
    }
    let headers = with_ports(context, &headers)?;
    let Payload::Ports(segment) = headers.payload else { return Err(not_for_a_service(&headers, snapshot)) };
    let Some(service) = snapshot.service(&headers.flow, &mut rare.last) else {
        return Err(not_for_a_service(&headers, snapshot));
    };
    Ok(match headers.flow.into() {
        AnyTuple::V4(flow) => watched_choice(context, flow, service, segment, index, rare),
        AnyTuple::V6(flow) => watched_choice(context, flow, service, segment, index, rare),
    })
}

/// Gives a fragment the ports and the protocol of its packet, so that it goes on like a whole packet. If they are not
/// known here, the fragment is held or passed to another worker.
fn with_ports<'w, Io: PacketIo>(context: &mut Context<'w, Io>, headers: &Headers) -> Result<Headers, Exit> {
    let Headers { flow, payload: Payload::Fragment(of), .. } = headers else { return Ok(*headers) };
    let to_vip = context.snapshot.vips.local(flow.destination()) == Some(Local::Vip);
    // In IPv6, the first fragment alone says what the packet is (RFC 8200 §4.5). A later one may name an extension header.
    let may_have_ports = of.extended || has_ports(flow.transport().protocol);
    if !to_vip || !may_have_ports && matches!(flow, Flow::V4 { .. }) {
        return Err(not_for_a_service(headers, context.snapshot));
    }
    match context.fragments.verdict(flow, *of, &context.snapshot.hasher, context.now_ms) {
        Verdict::Of(transport) if has_ports(transport.protocol) => {
            Ok(Headers::new(flow.with_transport(transport), Payload::Ports(of.segment)))
        }
        Verdict::Hold if may_have_ports => Err(Exit::Hold),
        Verdict::Of(_) | Verdict::Hold => Err(not_for_a_service(headers, context.snapshot)),
        Verdict::Worker(worker) => Err(Exit::Pass(worker)),
    }
}

/// The exit of a plain frame that no service takes.
#[inline(never)]
fn exit_without_service(flow: Flow, snapshot: &Snapshot) -> Exit {
    not_for_a_service(&Headers::new(flow, Payload::Ports(Segment::Data)), snapshot)
}

/// The exit of a packet that no service takes.
fn not_for_a_service(headers: &Headers, snapshot: &Snapshot) -> Exit {
    let local = |address| snapshot.vips.local(address);
    match (local(headers.flow.destination()), headers.payload) {
        (Some(_), Payload::Echo) => PuntReason::Echo.into(),
        (Some(_), Payload::Ndp) => PuntReason::Ndp.into(),
        (Some(Local::Own), Payload::MldQuery) => PuntReason::Mld.into(),
        (Some(Local::Own), _) => PuntReason::OwnAddress.into(),
        (Some(Local::Vip), Payload::Fragment(_)) => DropReason::FragmentNoPorts.into(),
        (Some(Local::Vip), Payload::Icmp | Payload::MldQuery) => DropReason::IcmpUnhandled.into(),
        (Some(Local::Vip), Payload::Ports(_) | Payload::Other) => DropReason::NoService.into(),
        (None, _) if local(headers.flow.source()) == Some(Local::Vip) => DropReason::ReturnViaDirector.into(),
        (None, _) => DropReason::NotForUs.into(),
    }
}
