//! Backends: adding, editing, draining and removing them, and how they stand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::{self, BackendState, Done, NeighborState, Refusal};
use ctl::request::{BackendAdd, BackendDrain, BackendEdit, BackendName, MacChange};
use ctl::verb::{self, Answers};

use crate::api::facts::{Facts, of_backend};
use crate::control::events::Kind;
use crate::control::model::{Backend, Contact, Duty, Rise};
use crate::count::lease::Traffic;
use crate::slow::neighbor::Neighbor;

impl Answers<verb::BackendAdd> for Facts {
    fn answer(&self, BackendAdd { service, backend }: BackendAdd) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, leases| model.add_backend(&service, &backend, leases))?;
        let message = format!("Added backend {} to {service} with weight {}", backend.address, backend.weight);
        Ok(self.done(Kind::BackendAdded, of_backend(&service, backend.address), message, generation))
    }
}

impl Answers<verb::BackendEdit> for Facts {
    fn answer(&self, edit: BackendEdit) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, _| model.edit_backend(&edit))?;
        let weight = edit.weight.map(|weight| format!("weight {weight}"));
        let mac = edit.mac.map(|mac| match mac {
            MacChange::Pin(mac) => format!("MAC address {mac}"),
            MacChange::Resolve => "its MAC address resolved".into(),
        });
        let changes: Vec<String> = weight.into_iter().chain(mac).collect();
        let message = format!("Backend {} of {} has {} now", edit.address, edit.service, changes.join(" and "));
        Ok(self.done(Kind::BackendEdited, of_backend(&edit.service, edit.address), message, generation))
    }
}

impl Answers<verb::BackendDrain> for Facts {
    fn answer(&self, BackendDrain { service, address, deadline_s }: BackendDrain) -> Result<Done, Refusal> {
        let deadline_ms = deadline_s.map(|seconds| u64::from(seconds) * 1_000);
        let generation = self.director.change(|model, _| model.drain_backend(&service, address, deadline_ms))?;
        let fate = match deadline_s {
            None => "its old ones stay until they end".into(),
            Some(0) => "its old ones go elsewhere, too".into(),
            Some(seconds) => format!("its old ones may stay for {seconds} s"),
        };
        let delay_ms = self.director.current().model.services.get(&service).map_or(0, |service| service.delay_ms());
        let when = match delay_ms.div_ceil(1_000) {
            _ if deadline_s == Some(0) => String::new(),
            0 => String::new(),
            seconds => format!(" after {seconds} s, the service's handover_time"),
        };
        let message = format!("Backend {address} of {service} gets no new flows{when}; {fate}");
        Ok(self.done(Kind::BackendEdited, of_backend(&service, address), message, generation))
    }
}

impl Answers<verb::BackendDisable> for Facts {
    fn answer(&self, BackendName { service, address }: BackendName) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, _| model.disable_backend(&service, address))?;
        let message = format!("Backend {address} of {service} is disabled: it gets nothing, whatever its checks say");
        Ok(self.done(Kind::BackendEdited, of_backend(&service, address), message, generation))
    }
}

impl Answers<verb::BackendEnable> for Facts {
    fn answer(&self, BackendName { service, address }: BackendName) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, _| model.enable_backend(&service, address))?;
        let mut health = self.health.lock().expect("no thread panics while it holds the health checks");
        health.forgive(&service, address, Instant::now());
        health.passive.forgive(&service, address, Instant::now());
        drop(health);
        let current = self.director.current();
        let is_out = |backend: &Backend| backend.address == address && backend.contact == Contact::Down;
        let is_out = current.model.service(&service).is_ok_and(|service| service.backends.iter().any(is_out));
        let when = if is_out { " when it is up: now it is down" } else { "" };
        let message = format!("Backend {address} of {service} gets new flows{when}");
        Ok(self.done(Kind::BackendEdited, of_backend(&service, address), message, generation))
    }
}

impl Answers<verb::BackendRemove> for Facts {
    fn answer(&self, BackendName { service, address }: BackendName) -> Result<Done, Refusal> {
        let generation = self.director.change(|model, _| model.remove_backend(&service, address))?;
        let message = format!("Removed backend {address} from {service}");
        Ok(self.done(Kind::BackendRemoved, of_backend(&service, address), message, generation))
    }
}

/// A backend, as a service lists it.
pub(super) fn listed(
    backend: &Backend,
    share: f64,
    neighbors: &BTreeMap<IpAddr, Neighbor>,
    now_ms: u64,
) -> answer::Backend {
    let Traffic { packets, bytes } = backend.target.traffic();
    let (active_flows, inactive_flows) = backend.target.flows();
    let (state, mac) = state(backend, neighbors);
    let drain_left_s = match backend.duty {
        Duty::Drain { until_ms: Some(until) } => Some(until.saturating_sub(now_ms).div_ceil(1_000)),
        Duty::Drain { until_ms: None } | Duty::Serve | Duty::Drained | Duty::Disabled => None,
    };
    answer::Backend {
        address: backend.address,
        weight: backend.weight,
        fallback: backend.fallback,
        share,
        state,
        checks: Vec::new(),
        damped_left_s: None,
        out_left_s: None,
        slow_start_percent: backend.rise.map(Rise::percent),
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
    let state = match backend.contact {
        _ if backend.duty == Duty::Drained => BackendState::Drained,
        _ if backend.duty == Duty::Disabled => BackendState::Disabled,
        Contact::Down if neighbor.is_some_and(|neighbor| neighbor.state != NeighborState::Failed) => BackendState::Down,
        Contact::Down | Contact::Lapsed => BackendState::Unreachable,
        Contact::CutOff | Contact::Suspended { .. } => BackendState::CutOff,
        Contact::Up if mac.is_none() => BackendState::Resolving,
        Contact::Up if backend.duty != Duty::Serve => BackendState::Draining,
        Contact::Up => BackendState::Up,
    };
    (state, mac)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::answer::tests::{ask, example};

    #[test]
    fn a_backend_is_added_edited_drained_enabled_and_removed() {
        let facts = example();
        let service = json!({ "vip": "192.168.0.101", "port": 80 });
        let named = json!({ "service": service, "address": "192.168.0.5" });
        let with = |field: &str, value: serde_json::Value| {
            let mut arguments = named.clone();
            arguments[field] = value;
            arguments
        };
        let new = json!({ "address": "192.168.0.5", "weight": 2, "mac": "02:00:00:00:00:05" });
        // What is asked, what is said, and how the backend stands then.
        for (verb, arguments, message, state) in [
            (
                "backend-add",
                json!({ "service": service, "backend": new }),
                "Added backend 192.168.0.5 to 192.168.0.101:80/tcp with weight 2",
                "up",
            ),
            (
                "backend-drain",
                named.clone(),
                "Backend 192.168.0.5 of 192.168.0.101:80/tcp gets no new flows; its old ones stay until they end",
                "draining",
            ),
            (
                "backend-drain",
                with("deadline_s", json!(60)),
                "Backend 192.168.0.5 of 192.168.0.101:80/tcp gets no new flows; its old ones may stay for 60 s",
                "draining",
            ),
            (
                "backend-drain",
                with("deadline_s", json!(0)),
                "Backend 192.168.0.5 of 192.168.0.101:80/tcp gets no new flows; its old ones go elsewhere, too",
                "drained",
            ),
            ("backend-enable", named.clone(), "Backend 192.168.0.5 of 192.168.0.101:80/tcp gets new flows", "up"),
            (
                "backend-disable",
                named.clone(),
                "Backend 192.168.0.5 of 192.168.0.101:80/tcp is disabled: it gets nothing, whatever its checks say",
                "disabled",
            ),
            ("backend-enable", named.clone(), "Backend 192.168.0.5 of 192.168.0.101:80/tcp gets new flows", "up"),
            (
                "backend-edit",
                with("mac", json!("resolve")),
                "Backend 192.168.0.5 of 192.168.0.101:80/tcp has its MAC address resolved now",
                "resolving",
            ),
        ] {
            let answer = ask(&facts, verb, arguments);
            assert_eq!(answer["ok"]["done"]["message"], message, "{answer}");
            let shown = &ask(&facts, "service-show", service.clone())["ok"]["service"]["backends"][2];
            assert_eq!(shown["state"], state, "after {message}");
        }
        assert_eq!(ask(&facts, "backend-edit", with("weight", json!(65_536)))["error"]["field"], "weight");
        assert_eq!(ask(&facts, "backend-edit", with("weight", json!(-1)))["error"]["field"], "arguments.weight");
        let message = "Removed backend 192.168.0.5 from 192.168.0.101:80/tcp";
        assert_eq!(ask(&facts, "backend-remove", named.clone())["ok"]["done"]["message"], message);
        let refusal = ask(&facts, "backend-remove", named.clone());
        assert!(refusal["error"]["message"].as_str().unwrap().contains("no backend"), "{refusal}");
        let of: Vec<_> = facts.events.list(Default::default()).iter().map(|event| event.subject.backend).collect();
        assert_eq!(of, [Some("192.168.0.5".parse().unwrap()); 9], "each change is an event about the backend");
    }
    #[test]
    fn a_drain_over_udp_says_when_new_flows_follow_it() {
        let facts = example();
        for (port, tracking, said) in [
            (53, "exceptions", "gets no new flows after 30 s, the service's handover_time; "),
            (54, "none", "gets no new flows; "),
        ] {
            let service = json!({ "vip": "192.168.0.101", "port": port, "protocol": "udp" });
            let backends = json!([{ "address": "192.168.0.5" }]);
            ask(&facts, "service-add", json!({ "service": service, "tracking": tracking, "backends": backends }));
            for (deadline_s, said) in [(json!(null), said), (json!(60), said), (json!(0), "gets no new flows; ")] {
                let drain = json!({ "service": service, "address": "192.168.0.5", "deadline_s": deadline_s });
                let message = ask(&facts, "backend-drain", drain)["ok"]["done"]["message"].to_string();
                assert!(message.contains(said), "{message}");
            }
        }
    }
}
