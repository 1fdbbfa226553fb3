//! The verbs of the API in one table, and a file for each noun with what its verbs take and what answers them.
//!
//! A new verb is a new row here. The compiler then demands the daemon's answer to it ([`Answers`], in `dataplane/src/api/`), and
//! tests demand its command in `shuntctl` and its line in the README.

mod backend;
mod check;
mod doctor;
mod drops;
mod events;
mod neighbor;
mod port;
mod service;
mod status;
mod table;
mod worker;

use serde::{Deserialize, Deserializer, Serialize};

use crate::name::ServiceId;
use crate::outcome::{Done, OtherAnswer, Refusal};
use table::{answers, verbs};
use verb::{Answers, Verb};

/// What requests are made of: the types of the rows' arguments, and of their parts.
pub(crate) mod arguments {
    pub use crate::noun::backend::{BackendAdd, BackendDrain, BackendEdit, BackendName, BackendSpec, MacChange};
    pub use crate::noun::check::CheckSpec;
    pub use crate::noun::doctor::DoctorQuery;
    pub use crate::noun::events::EventQuery;
    pub use crate::noun::service::{FallbackChange, ServiceAdd, ServiceEdit};
}

/// What answers are made of.
pub(crate) mod answers {
    pub use crate::noun::backend::{Backend, BackendState};
    pub use crate::noun::check::CheckResult;
    pub use crate::noun::doctor::{Check, CheckOutcome, CheckedBackend, CheckedService, Doctor, Fault};
    pub use crate::noun::drops::{Drop, Fate, PortCount, ServiceCount, WorkerCount};
    pub use crate::noun::events::{Event, Severity, Subject};
    pub use crate::noun::neighbor::{Neighbor, NeighborState};
    pub use crate::noun::port::{Port, Vlan, XdpSockets};
    pub use crate::noun::service::{ReasonCount, Service};
    pub use crate::noun::status::{Count, EventCount, FaultCount, PacketBuffers, Status};
    pub use crate::noun::worker::{Latency, LatencyBucket, LatencySamples, Percentiles, Worker};
}

use answers::{Doctor, Drop, Event, Neighbor, Port, Service, Status, Worker};
use arguments::{BackendAdd, BackendDrain, BackendEdit, BackendName, DoctorQuery, EventQuery, ServiceAdd, ServiceEdit};

verbs! {
    /// The director at a glance.
    Status = "status", changes: false -> Status;
    /// All services with their backends and counters.
    ServiceList = "service-list", changes: false -> Vec<Service>;
    /// One service with its backends and counters.
    ServiceShow(service: ServiceId) = "service-show", changes: false -> Service;
    /// The MAC addresses of the backends, and how fresh they are.
    NeighborList = "neighbor-list", changes: false -> Vec<Neighbor>;
    /// The ports: device, driver, link, addresses, counters.
    PortList = "port-list", changes: false -> Vec<Port>;
    /// The workers: core, packets, load.
    WorkerList = "worker-list", changes: false -> Vec<Worker>;
    /// Why frames were dropped or given to the slow path, and how many.
    Drops = "drops", changes: false -> Vec<Drop>;
    /// What has happened of late.
    Events(query: EventQuery) = "events", changes: false -> Vec<Event>;
    /// What is wrong: all checks are made now, and then answered.
    Doctor(query: DoctorQuery) = "doctor", changes: false -> Doctor;
    // These need root or the daemon's own user.
    /// A new service, with or without backends.
    ServiceAdd(add: ServiceAdd) = "service-add", changes: true -> Done;
    /// Changes how a service's backends are checked, and what follows from it.
    ServiceEdit(edit: ServiceEdit) = "service-edit", changes: true -> Done;
    /// Removes a service and its backends.
    ServiceRemove(service: ServiceId) = "service-remove", changes: true -> Done;
    /// A new backend for a service.
    BackendAdd(add: BackendAdd) = "backend-add", changes: true -> Done;
    /// Changes a backend's weight or MAC address.
    BackendEdit(edit: BackendEdit) = "backend-edit", changes: true -> Done;
    /// Has a backend take no new flows, and keep the old ones.
    BackendDrain(drain: BackendDrain) = "backend-drain", changes: true -> Done;
    /// Has a backend get nothing, whatever its checks say.
    BackendDisable(backend: BackendName) = "backend-disable", changes: true -> Done;
    /// Has a backend that was drained or disabled take new flows again.
    BackendEnable(backend: BackendName) = "backend-enable", changes: true -> Done;
    /// Removes a backend from a service.
    BackendRemove(backend: BackendName) = "backend-remove", changes: true -> Done;
}

answers! {
    /// To a request that changed something.
    Done(Done);
    /// To `status`.
    Status(Status);
    /// To `service-list`.
    Services(Vec<Service>);
    /// To `service-show`.
    Service(Service);
    /// To `neighbor-list`.
    Neighbors(Vec<Neighbor>);
    /// To `port-list`.
    Ports(Vec<Port>);
    /// To `worker-list`.
    Workers(Vec<Worker>);
    /// To `drops`.
    Drops(Vec<Drop>);
    /// To `events`, the oldest first.
    Events(Vec<Event>);
    /// To `doctor`.
    Doctor(Doctor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_requests_say() {
        for row in verb::ALL {
            let read = Request::read(row.name, serde_json::Value::Null).expect("the verb is known");
            let Ok(request) = read else { continue };
            assert_eq!((request.verb(), request.changes()), (row.name, row.changes));
            let line = serde_json::to_value(&request).expect("requests can be written");
            assert_eq!(line["command"], row.name);
            assert_eq!(line.get("arguments").is_some(), row.takes_arguments, "{}", row.name);
        }
        assert!(Request::read("reboot", serde_json::Value::Null).is_none());
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let answer = Answer::from(Vec::<Port>::new());
        assert_eq!(Vec::<Port>::try_from(answer.clone()), Ok(Vec::new()));
        assert_eq!(Vec::<Worker>::try_from(answer), Err(OtherAnswer));
    }

    #[test]
    fn the_readme_has_every_command() {
        let readme = include_str!("../../../README.md");
        let (_, section) = readme.split_once("\n## shuntctl\n").expect("the README has a section on shuntctl");
        let (section, _) = section.split_once("\n## ").expect("another one comes behind it");
        for row in verb::ALL {
            let command = format!("shuntctl {}", row.name.replacen('-', " ", 1));
            let mut behind = section.split(&command).skip(1);
            let is_there = behind.any(|rest| rest.starts_with([' ', '\n', ';', '`']));
            assert!(is_there, "`{command}` is not in the README");
        }
    }
}
