//! Ports and neighbors.

use std::time::Instant;

use ctl::answer;

use super::{Facts, PortFacts};
use crate::counters::PortCounters;

pub(super) fn ports(facts: &Facts) -> Vec<answer::Port> {
    let model = facts.director.snapshot().model.clone();
    let ports = facts.ports.iter().zip(model.ports.iter()).enumerate();
    ports.map(|(number, (port, configured))| one_port(facts, number, port, &configured.addresses)).collect()
}

fn one_port(facts: &Facts, number: usize, port: &PortFacts, addresses: &[ipnet::IpNet]) -> answer::Port {
    let live = (port.live)();
    let sum = |which: fn(&PortCounters) -> u64| {
        facts.director.workers().iter().map(|worker| which(&worker.ports[number])).sum::<u64>()
    };
    answer::Port {
        name: port.name.clone(),
        device: port.device.clone(),
        driver: port.driver.clone(),
        mac: port.mac,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        link_up: live.link_up,
        speed_mbps: live.speed_mbps,
        mtu: port.mtu,
        queues: port.queues,
        rx_packets: sum(|port| port.rx_packets.read()),
        rx_bytes: sum(|port| port.rx_bytes.read()),
        tx_packets: sum(|port| port.tx_packets.read()),
        tx_bytes: sum(|port| port.tx_bytes.read()),
        rx_missed: live.rx_missed,
        rx_errors: live.rx_errors,
        rx_no_mbuf: live.rx_no_mbuf,
    }
}

pub(super) fn neighbors(facts: &Facts) -> Vec<answer::Neighbor> {
    let now = Instant::now();
    let uses = facts.director.snapshot().model.backend_addresses();
    let neighbors = facts.neighbors();
    neighbors
        .iter()
        .map(|(&address, neighbor)| answer::Neighbor {
            address,
            port: facts.ports[neighbor.port].name.clone(),
            mac: neighbor.mac,
            state: neighbor.state,
            confirmed_s: neighbor.confirmed.map(|then| now.saturating_duration_since(then).as_secs()),
            probes: neighbor.probes,
            changes: neighbor.changes,
            services: uses.get(&address).copied().unwrap_or(0),
        })
        .collect()
}
