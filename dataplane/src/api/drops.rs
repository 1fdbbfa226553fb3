//! Why frames were dropped or punted.

use ctl::answer::{self, Fate, PortCount, Refusal, ServiceCount, WorkerCount};
use ctl::verb::{self, Answers};

use crate::api::facts::Facts;
use crate::base::exit::{DropReason, PuntReason, UnsentReason};
use crate::count::counters::PortCounters;

/// The most services that are named for a reason; the others are as many as there are.
const MOST_SERVICES: usize = 10;

impl Answers<verb::Drops> for Facts {
    fn answer(&self, (): ()) -> Result<Vec<answer::Drop>, Refusal> {
        Ok(list(self))
    }
}

fn list(facts: &Facts) -> Vec<answer::Drop> {
    let mut services = by_service(facts);
    let drops = DropReason::ALL.iter().map(|&reason| {
        let counted = counted(facts, |port| port.drops[reason.index()].read());
        let services = std::mem::take(&mut services[reason.index()]);
        row(reason.name(), Fate::Drop, [reason.meaning(), reason.advice()], counted, services)
    });
    let drops: Vec<answer::Drop> = drops.collect();
    let punts = PuntReason::ALL.iter().map(|&reason| {
        let counted = counted(facts, |port| port.punts[reason.index()].read());
        row(reason.name(), Fate::Punt, [reason.meaning(), reason.advice()], counted, Vec::new())
    });
    let unsent = UnsentReason::ALL.iter().map(|&reason| {
        let ports = facts.ports.iter().zip(facts.director.unsent());
        let ports = ports.map(|(port, unsent)| (&port.name, unsent[reason.index()].read()));
        let ports = ports.filter(|&(_, packets)| packets > 0);
        let ports = ports.map(|(port, packets)| PortCount { port: port.clone(), packets }).collect();
        let counted = (ports, Vec::new());
        row(reason.name(), Fate::Unsent, [reason.meaning(), reason.advice()], counted, Vec::new())
    });
    drops.into_iter().chain(punts).chain(unsent).collect()
}

fn row(
    reason: &str,
    fate: Fate,
    [meaning, advice]: [&str; 2],
    (ports, workers): (Vec<PortCount>, Vec<WorkerCount>),
    mut services: Vec<ServiceCount>,
) -> answer::Drop {
    services.sort_by_key(|service| std::cmp::Reverse(service.packets));
    let more_services = services.len().saturating_sub(MOST_SERVICES);
    services.truncate(MOST_SERVICES);
    answer::Drop {
        reason: reason.into(),
        fate,
        packets: ports.iter().map(|port| port.packets).sum(),
        ports,
        workers,
        services,
        more_services,
        meaning: meaning.into(),
        advice: advice.into(),
    }
}

/// By port and by worker, without those that had none.
fn counted(facts: &Facts, count: impl Fn(&PortCounters) -> u64) -> (Vec<PortCount>, Vec<WorkerCount>) {
    let workers = facts.director.workers();
    let ports = facts.ports.iter().enumerate().map(|(number, port)| PortCount {
        port: port.name.clone(),
        packets: workers.iter().map(|worker| count(&worker.ports[number])).sum(),
    });
    let by_worker = workers.iter().enumerate();
    let by_worker = by_worker.map(|(worker, counters)| WorkerCount { worker, packets: counters.over_ports(&count) });
    (ports.filter(|port| port.packets > 0).collect(), by_worker.filter(|worker| worker.packets > 0).collect())
}

/// By reason, the services of which something was dropped.
fn by_service(facts: &Facts) -> Vec<Vec<ServiceCount>> {
    let mut reasons = vec![Vec::new(); DropReason::COUNT];
    let snapshot = facts.director.current();
    for service in snapshot.model.services.values() {
        for (reason, packets) in service.counter.drops() {
            reasons[reason.index()].push(ServiceCount { service: service.id, packets });
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::answer::tests::{ask, example};

    #[test]
    fn the_services_with_the_most_drops_are_named() {
        let count = |number: u64| ServiceCount {
            service: format!("192.168.0.101:{number}").parse().unwrap(),
            packets: if number == 7 { 1_000 } else { number },
        };
        let row = row("no_backend", Fate::Drop, ["", ""], (Vec::new(), Vec::new()), (1..=12).map(count).collect());
        let packets: Vec<u64> = row.services.iter().map(|service| service.packets).collect();
        assert_eq!(packets, [1_000, 12, 11, 10, 9, 8, 6, 5, 4, 3]);
        assert_eq!(row.more_services, 2);
    }

    #[test]
    fn every_reason_is_listed_with_its_ports_and_workers() {
        let facts = example();
        facts.director.workers()[0].ports[0].drops[DropReason::NoService.index()].add(7);
        let answer = ask(&facts, "drops", Value::Null);
        let listed = answer["ok"]["drops"].as_array().unwrap();
        assert_eq!(listed.len(), DropReason::ALL.len() + PuntReason::ALL.len() + UnsentReason::ALL.len());
        let counted: Vec<&Value> = listed.iter().filter(|reason| reason["packets"] != 0).collect();
        let [reason] = counted[..] else { panic!("{counted:?}") };
        let said = ["reason", "fate", "packets", "ports", "workers"].map(|field| reason[field].clone());
        let (port, worker) = (json!([{ "port": "lan0", "packets": 7 }]), json!([{ "worker": 0, "packets": 7 }]));
        assert_eq!(said, [json!("no_service"), json!("drop"), json!(7), port, worker]);
    }

    #[test]
    fn the_director_s_own_frames_that_were_not_sent_are_listed() {
        let facts = example();
        facts.director.unsent()[0][UnsentReason::RingFull.index()].add(3);
        let listed = list(&facts);
        let row = listed.iter().find(|row| row.reason == "ring_full").unwrap();
        let port = PortCount { port: "lan0".into(), packets: 3 };
        assert_eq!((row.fate, row.packets, &row.ports[..]), (Fate::Unsent, 3, &[port][..]));
    }
}
