//! Services and backends: listing and changing them.

use std::net::IpAddr;
use std::time::Instant;

use ctl::ServiceId;
use ctl::answer::{self, BackendState, Done, NeighborState, Refusal, Subject};
use ctl::request::{BackendAdd, BackendEdit, BackendRemove, MacChange, ServiceAdd};

use super::Facts;
use crate::counters::Traffic;
use crate::events::Kind;
use crate::exit::DropReason;
use crate::model::{Backend, ModelError, Service};
use crate::slow::neighbor::Neighbors;

pub(super) fn list(facts: &Facts) -> Vec<answer::Service> {
    let snapshot = facts.director.snapshot();
    let neighbors = facts.neighbors();
    snapshot.model.services.values().map(|listed| service(listed, &neighbors)).collect()
}

pub(super) fn show(facts: &Facts, id: &ServiceId) -> Result<answer::Service, Refusal> {
    let snapshot = facts.director.snapshot();
    Ok(service(snapshot.model.service(id)?, &facts.neighbors()))
}

pub(super) fn add(facts: &Facts, add: &ServiceAdd) -> Result<Done, Refusal> {
    let message = format!("Added service {} with {}", add.service, backends(add.backends.len()));
    let change = facts.director.change(|model, ids| model.add_service(add, ids));
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
    let generation = facts.director.change(|model, ids| model.add_backend(service, backend, ids))?;
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

pub(super) fn remove_backend(facts: &Facts, remove: &BackendRemove) -> Result<Done, Refusal> {
    let BackendRemove { service, address } = remove;
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

fn service(service: &Service, neighbors: &Neighbors) -> answer::Service {
    let slots = service.table.len().max(1) as f64;
    let listed = service.backends.iter().map(|listed| backend(listed, f64::from(listed.slots) / slots, neighbors));
    let backends: Vec<answer::Backend> = listed.collect();
    answer::Service {
        id: service.id,
        scheduler: service.scheduler,
        hash: service.hash,
        slots: u32::try_from(service.table.len()).expect("tables are bounded"),
        packets: backends.iter().map(|backend| backend.packets).sum(),
        bytes: backends.iter().map(|backend| backend.bytes).sum(),
        drops: service.counter.drops().into_iter().map(reason_count).collect(),
        backends,
    }
}

fn reason_count((reason, packets): (DropReason, u64)) -> answer::ReasonCount {
    answer::ReasonCount { reason: reason.name().into(), packets }
}

fn backend(backend: &Backend, share: f64, neighbors: &Neighbors) -> answer::Backend {
    let Traffic { packets, bytes } = backend.target.traffic();
    let (state, mac) = state(backend, neighbors);
    answer::Backend {
        address: backend.address,
        weight: backend.weight,
        share,
        state,
        mac,
        mac_pinned: backend.pinned.is_some(),
        packets,
        bytes,
    }
}

/// Whether packets can be sent to a backend, and to which MAC address.
pub(super) fn state(backend: &Backend, neighbors: &Neighbors) -> (BackendState, Option<ctl::Mac>) {
    let neighbor = neighbors.get(backend.address);
    let mac = backend.pinned.or_else(|| neighbor.and_then(|neighbor| neighbor.mac));
    let state = match (mac, neighbor.map(|neighbor| neighbor.state)) {
        (Some(_), _) => BackendState::Up,
        (None, Some(NeighborState::Failed)) => BackendState::Unreachable,
        (None, _) => BackendState::Resolving,
    };
    (state, mac)
}
