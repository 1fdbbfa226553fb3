//! Services: listing, adding and removing them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ctl::ServiceId;
use ctl::answer::{self, Done, Refusal};
use ctl::request::{ServiceAdd, ServiceEdit};
use ctl::verb::{self, Answers};

use crate::api::backend;
use crate::api::facts::{Facts, Found, of_service};
use crate::base::exit::DropReason;
use crate::commands::file;
use crate::control::events::Kind;
use crate::control::model::{ModelError, Service};
use crate::slow::neighbor::Neighbor;

impl Answers<verb::ServiceList> for Facts {
    fn answer(&self, (): ()) -> Result<Vec<answer::Service>, Refusal> {
        Ok(list(self))
    }
}

impl Answers<verb::ServiceShow> for Facts {
    fn answer(&self, id: ServiceId) -> Result<answer::Service, Refusal> {
        let snapshot = self.director.current();
        let shown = snapshot.model.service(&id)?;
        Ok(service(shown, self.found(shown), &self.neighbors(), self.director.now_ms()))
    }
}

impl Answers<verb::ServiceAdd> for Facts {
    fn answer(&self, add: ServiceAdd) -> Result<Done, Refusal> {
        let message = format!("Added service {} with {}", add.service, backends(add.backends.len()));
        let change = self.director.change(|model, leases| {
            let errors = file::problems(add.checks.as_deref(), &add.service);
            if errors.is_empty() { model.add_service(&add, leases) } else { Err(errors) }
        });
        let generation = change.map_err(refusal)?;
        Ok(self.done(Kind::ServiceAdded, of_service(&add.service), message, generation))
    }
}

impl Answers<verb::ServiceEdit> for Facts {
    fn answer(&self, edit: ServiceEdit) -> Result<Done, Refusal> {
        let change = self.director.change(|model, leases| {
            let errors = file::problems(edit.checks.as_deref(), &edit.service);
            if errors.is_empty() { model.edit_service(&edit, leases) } else { Err(errors) }
        });
        let generation = change.map_err(refusal)?;
        let message = format!("Service {} has {} now", edit.service, in_words(&edit).join(", "));
        Ok(self.done(Kind::ServiceEdited, of_service(&edit.service), message, generation))
    }
}

/// What an edit changes.
fn in_words(edit: &ServiceEdit) -> Vec<String> {
    let checks = edit.checks.as_ref().map(|checks| {
        let checks: Vec<String> = checks.iter().map(ToString::to_string).collect();
        format!("check {}", checks.join(" and "))
    });
    let all = [
        edit.scheduler.map(|scheduler| format!("scheduler {scheduler}")),
        edit.on_all_down.map(|on_all_down| format!("on_all_down {on_all_down}")),
        checks,
        edit.min_up.map(|share| format!("min_up {share} %")),
        edit.start.map(|start| format!("start {start}")),
        edit.fallback.map(|fallback| format!("fallback {fallback}")),
        edit.slow_start_s.map(|seconds| format!("slow_start {seconds} s")),
        edit.passive.map(|wish| format!("passive {wish}")),
    ];
    all.into_iter().flatten().collect()
}

/// All that is wrong with a request.
fn refusal(errors: Vec<ModelError>) -> Refusal {
    let fields: Vec<String> = errors.iter().map(ModelError::field).collect();
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Refusal { field: fields.join(", "), message: messages.join("; ") }
}

impl Answers<verb::ServiceRemove> for Facts {
    fn answer(&self, id: ServiceId) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, _| model.remove_service(&id))?;
        Ok(self.done(Kind::ServiceRemoved, of_service(&id), format!("Removed service {id}"), generation))
    }
}

pub(super) fn list(facts: &Facts) -> Vec<answer::Service> {
    let snapshot = facts.director.current();
    let (neighbors, now_ms) = (facts.neighbors(), facts.director.now_ms());
    snapshot.model.services.values().map(|listed| service(listed, facts.found(listed), &neighbors, now_ms)).collect()
}

fn backends(count: usize) -> String {
    if count == 1 { "1 backend".into() } else { format!("{count} backends") }
}

fn service(service: &Service, found: Found, neighbors: &BTreeMap<IpAddr, Neighbor>, now_ms: u64) -> answer::Service {
    let Found { by_backend, damped, out, believed, .. } = found;
    let listed = service.backends.iter().zip(service.shares()).zip(by_backend).zip(damped).zip(out);
    let listed = listed.map(|((((listed, share), checks), damped_left_s), out_left_s)| answer::Backend {
        checks,
        damped_left_s,
        out_left_s,
        ..backend::listed(listed, share, neighbors, now_ms)
    });
    let backends: Vec<answer::Backend> = listed.collect();
    answer::Service {
        id: service.id,
        scheduler: service.scheduler,
        hash: service.hash,
        tracking: service.tracking,
        idle_timeout_s: service.idle_ms / 1_000,
        handover_time_s: service.handover_ms / 1_000,
        on_all_down: service.on_all_down,
        checks: service.checks.iter().map(|check| check.spec.clone()).collect(),
        min_up: service.min_up,
        slow_start_s: service.slow_start_ms / 1_000,
        passive: service.passive,
        checks_believed: believed,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::answer::tests::{ask, example};

    #[test]
    fn a_service_is_added_shown_listed_and_removed() {
        let facts = example();
        let id = json!({ "vip": "192.168.0.102", "port": "80,443", "protocol": "udp" });
        let add = json!({ "service": id, "scheduler": "sh", "backends": [{ "address": "192.168.0.5" }] });
        let message = "Added service 192.168.0.102:80,443/udp with 1 backend";
        assert_eq!(ask(&facts, "service-add", add.clone())["ok"]["done"]["message"], message);
        let shown = &ask(&facts, "service-show", id.clone())["ok"]["service"];
        let fields = ["scheduler", "hash", "tracking", "idle_timeout_s", "handover_time_s", "slots"];
        let said = fields.map(|field| shown[field].clone());
        assert_eq!(said, [json!("sh"), json!("source"), json!("exceptions"), json!(300), json!(30), json!(1_021)]);
        assert_eq!(shown["backends"][0]["address"], "192.168.0.5");
        let listed = ask(&facts, "service-list", Value::Null)["ok"]["services"].as_array().unwrap().len();
        assert_eq!(listed, 2);

        let edit = json!({ "service": id, "checks": [{ "type": "icmp" }], "min_up": 50, "start": "down" });
        let message = "Service 192.168.0.102:80,443/udp has check icmp, min_up 50 %, start down now";
        assert_eq!(ask(&facts, "service-edit", edit)["ok"]["done"]["message"], message);
        let shown = &ask(&facts, "service-show", id.clone())["ok"]["service"];
        assert_eq!((&shown["checks"], &shown["min_up"]), (&json!([{ "type": "icmp" }]), &json!(50)));
        let edit = json!({ "service": id, "scheduler": "wlc", "min_up": 101 });
        assert_eq!(ask(&facts, "service-edit", edit)["error"]["field"], "scheduler, min_up");

        assert!(ask(&facts, "service-add", add)["error"]["message"].as_str().unwrap().contains("already"));
        let message = "Removed service 192.168.0.102:80,443/udp";
        assert_eq!(ask(&facts, "service-remove", id.clone())["ok"]["done"]["message"], message);
        assert!(ask(&facts, "service-show", id)["error"]["message"].as_str().unwrap().contains("no service"));
        let kinds: Vec<Value> = facts.events.list(Default::default()).iter().map(|event| json!(event.kind)).collect();
        assert_eq!(kinds, ["service-added", "service-edited", "service-removed"], "a refusal is no event");
    }

    #[test]
    fn all_that_is_wrong_with_a_new_service_is_said_with_its_fields() {
        let facts = example();
        let service = json!({ "vip": "192.168.0.102", "port": 80 });
        let backends = json!([{ "address": "192.168.0.5", "weight": 65_536 }, { "address": "10.9.9.9" }]);
        let refusal = ask(&facts, "service-add", json!({ "service": service, "backends": backends }));
        assert_eq!(refusal["error"]["field"], "backends[0].weight, backends[1].address");
        assert!(refusal["error"]["message"].as_str().unwrap().contains("; "), "{refusal}");
        let refusal = ask(&facts, "service-add", json!({ "service": service, "backends": [{ "address": "web1" }] }));
        assert_eq!(refusal["error"]["field"], "arguments.backends[0].address");
        let check = json!([{ "type": "script", "command": "/not/there -x" }]);
        let refusal = ask(&facts, "service-add", json!({ "service": service, "checks": check, "backends": [] }));
        assert_eq!(refusal["error"]["field"], "checks[0].command");
        assert_eq!(refusal["error"]["message"], "There is no file /not/there");
    }
}
