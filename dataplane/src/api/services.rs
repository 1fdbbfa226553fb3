//! Services and backends: listing and changing them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ctl::ServiceId;
use ctl::answer::{self, BackendState, Done, NeighborState, Refusal, Subject};
use ctl::request::{BackendAdd, BackendDrain, BackendEdit, BackendName, MacChange, ServiceAdd};

use crate::api::facts::Facts;
use crate::base::exit::DropReason;
use crate::control::events::Kind;
use crate::control::model::{Backend, Duty, ModelError, Service};
use crate::count::lease::Traffic;
use crate::slow::neighbor::Neighbor;

pub(super) fn list(facts: &Facts) -> Vec<answer::Service> {
    let snapshot = facts.director.current();
    let (neighbors, now_ms) = (facts.neighbors(), facts.director.now_ms());
    snapshot.model.services.values().map(|listed| service(listed, &neighbors, now_ms)).collect()
}

pub(super) fn show(facts: &Facts, id: &ServiceId) -> Result<answer::Service, Refusal> {
    let snapshot = facts.director.current();
    Ok(service(snapshot.model.service(id)?, &facts.neighbors(), facts.director.now_ms()))
}

pub(super) fn add(facts: &Facts, add: &ServiceAdd) -> Result<Done, Refusal> {
    let message = format!("Added service {} with {}", add.service, backends(add.backends.len()));
    let change = facts.director.change(|model, leases| model.add_service(add, leases));
    let generation = change.map_err(|errors| {
        let fields: Vec<String> = errors.iter().map(ModelError::field).collect();
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Refusal { field: fields.join(", "), message: messages.join("; ") }
    })?;
    Ok(done(facts, Kind::ServiceAdded, of_service(&add.service), message, generation))
}

pub(super) fn remove(facts: &Facts, id: &ServiceId) -> Result<Done, Refusal> {
    let generation = facts.director.change(|model, _| model.remove_service(id))?;
    Ok(done(facts, Kind::ServiceRemoved, of_service(id), format!("Removed service {id}"), generation))
}

pub(super) fn add_backend(facts: &Facts, add: &BackendAdd) -> Result<Done, Refusal> {
    let BackendAdd { service, backend } = add;
    let generation = facts.director.change(|model, leases| model.add_backend(service, backend, leases))?;
    let message = format!("Added backend {} to {service} with weight {}", backend.address, backend.weight);
    Ok(done(facts, Kind::BackendAdded, of_backend(service, backend.address), message, generation))
}

pub(super) fn edit_backend(facts: &Facts, edit: &BackendEdit) -> Result<Done, Refusal> {
    let generation = facts.director.change(|model, _| model.edit_backend(edit))?;
    let weight = edit.weight.map(|weight| format!("weight {weight}"));
    let mac = edit.mac.map(|mac| match mac {
        MacChange::Pin(mac) => format!("MAC address {mac}"),
        MacChange::Resolve => "its MAC address resolved".into(),
    });
    let changes: Vec<String> = weight.into_iter().chain(mac).collect();
    let message = format!("Backend {} of {} has {} now", edit.address, edit.service, changes.join(" and "));
    Ok(done(facts, Kind::BackendEdited, of_backend(&edit.service, edit.address), message, generation))
}

pub(super) fn drain_backend(facts: &Facts, drain: &BackendDrain) -> Result<Done, Refusal> {
    let BackendDrain { service, address, deadline_s } = drain;
    let deadline_ms = deadline_s.map(|seconds| u64::from(seconds) * 1_000);
    let generation = facts.director.change(|model, _| model.drain_backend(service, *address, deadline_ms))?;
    let fate = match deadline_s {
        None => "its old ones stay until they end".into(),
        Some(0) => "its old ones go elsewhere, too".into(),
        Some(seconds) => format!("its old ones may stay for {seconds} s"),
    };
    let message = format!("Backend {address} of {service} gets no new flows; {fate}");
    Ok(done(facts, Kind::BackendEdited, of_backend(service, *address), message, generation))
}

pub(super) fn enable_backend(facts: &Facts, name: &BackendName) -> Result<Done, Refusal> {
    let BackendName { service, address } = name;
    let generation = facts.director.change(|model, _| model.enable_backend(service, *address))?;
    let message = format!("Backend {address} of {service} gets new flows");
    Ok(done(facts, Kind::BackendEdited, of_backend(service, *address), message, generation))
}

pub(super) fn remove_backend(facts: &Facts, remove: &BackendName) -> Result<Done, Refusal> {
    let BackendName { service, address } = remove;
    let generation = facts.director.change(|model, _| model.remove_backend(service, *address))?;
    let message = format!("Removed backend {address} from {service}");
    Ok(done(facts, Kind::BackendRemoved, of_backend(service, *address), message, generation))
}

/// The answer to a change, which is an event, too.
fn done(facts: &Facts, kind: Kind, subject: Subject, message: String, generation: u64) -> Done {
    facts.events.write(kind, subject, Instant::now(), || message.clone());
    Done { message, generation }
}

fn of_service(id: &ServiceId) -> Subject {
    Subject { service: Some(*id), ..Subject::default() }
}

fn of_backend(id: &ServiceId, address: IpAddr) -> Subject {
    Subject { backend: Some(address), ..of_service(id) }
}

fn backends(count: usize) -> String {
    if count == 1 { "1 backend".into() } else { format!("{count} backends") }
}

fn service(service: &Service, neighbors: &BTreeMap<IpAddr, Neighbor>, now_ms: u64) -> answer::Service {
    let slots = service.table.len().max(1) as f64;
    let share = |listed: &Backend| f64::from(listed.slots) / slots;
    let listed = service.backends.iter().map(|listed| backend(listed, share(listed), neighbors, now_ms));
    let backends: Vec<answer::Backend> = listed.collect();
    answer::Service {
        id: service.id,
        scheduler: service.scheduler,
        hash: service.hash,
        tracking: service.tracking,
        idle_timeout_s: service.idle_ms / 1_000,
        on_all_down: service.on_all_down,
        slots: slot_count(service.table.len()),
        slots_in_handover: slot_count(service.handover.as_ref().map_or(0, |handover| handover.slots())),
        packets: backends.iter().map(|backend| backend.packets).sum(),
        bytes: backends.iter().map(|backend| backend.bytes).sum(),
        drops: service.counter.drops().into_iter().map(reason_count).collect(),
        backends,
    }
}

fn slot_count(count: usize) -> u32 {
    u32::try_from(count).expect("tables are bounded")
}

fn reason_count((reason, packets): (DropReason, u64)) -> answer::ReasonCount {
    answer::ReasonCount { reason: reason.name().into(), packets }
}

fn backend(backend: &Backend, share: f64, neighbors: &BTreeMap<IpAddr, Neighbor>, now_ms: u64) -> answer::Backend {
    let Traffic { packets, bytes } = backend.target.traffic();
    let (active_flows, inactive_flows) = backend.target.flows();
    let (state, mac) = state(backend, neighbors);
    let drain_left_s = match backend.duty {
        Duty::Drain { until_ms: Some(until) } => Some(until.saturating_sub(now_ms).div_ceil(1_000)),
        Duty::Drain { until_ms: None } | Duty::Serve | Duty::Drained => None,
    };
    answer::Backend {
        address: backend.address,
        weight: backend.weight,
        share,
        state,
        mac,
        mac_pinned: backend.pinned.is_some(),
        drain_left_s,
        active_flows,
        inactive_flows,
        packets,
        bytes,
    }
}

/// Whether packets can be sent to a backend, and to which MAC address.
pub(super) fn state(backend: &Backend, neighbors: &BTreeMap<IpAddr, Neighbor>) -> (BackendState, Option<ctl::Mac>) {
    let neighbor = neighbors.get(&backend.address);
    let mac = backend.pinned.or_else(|| neighbor.and_then(|neighbor| neighbor.mac));
    let state = match (mac, neighbor.map(|neighbor| neighbor.state)) {
        _ if backend.duty == Duty::Drained => BackendState::Drained,
        (Some(_), _) if backend.duty != Duty::Serve => BackendState::Draining,
        (Some(_), _) => BackendState::Up,
        (None, Some(NeighborState::Failed)) => BackendState::Unreachable,
        (None, _) => BackendState::Resolving,
    };
    (state, mac)
}
