//! Why frames were dropped or punted.

use ctl::answer::{self, Fate, PortCount};

use super::Facts;
use crate::counters::PortCounters;
use crate::exit::{DropReason, PuntReason};

pub(super) fn drops(facts: &Facts) -> Vec<answer::Drop> {
    let drops = DropReason::ALL.iter().map(|&reason| {
        let ports = by_port(facts, |port| port.drops[reason.index()].read());
        row(reason.name(), Fate::Drop, reason.meaning(), reason.advice(), ports)
    });
    let punts = PuntReason::ALL.iter().map(|&reason| {
        let ports = by_port(facts, |port| port.punts[reason.index()].read());
        row(reason.name(), Fate::Punt, reason.meaning(), reason.advice(), ports)
    });
    drops.chain(punts).collect()
}

fn row(reason: &str, fate: Fate, meaning: &str, advice: &str, ports: Vec<PortCount>) -> answer::Drop {
    answer::Drop {
        reason: reason.into(),
        fate,
        packets: ports.iter().map(|port| port.packets).sum(),
        ports,
        meaning: meaning.into(),
        advice: advice.into(),
    }
}

fn by_port(facts: &Facts, count: impl Fn(&PortCounters) -> u64) -> Vec<PortCount> {
    let ports = facts.ports.iter().enumerate().map(|(number, port)| PortCount {
        port: port.name.clone(),
        packets: facts.director.workers().iter().map(|worker| count(&worker.ports[number])).sum(),
    });
    ports.filter(|port| port.packets > 0).collect()
}
