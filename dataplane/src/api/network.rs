//! Ports and neighbors.

use std::time::Instant;

use ctl::answer;

use crate::api::facts::{Facts, PortFacts};
use crate::control::model::{Model, Network};
use crate::count::counters::PortCounters;

pub(super) fn ports(facts: &Facts) -> Vec<answer::Port> {
    let model = facts.director.current().model.clone();
    facts.ports.iter().enumerate().map(|(number, port)| one_port(facts, &model, number, port)).collect()
}

fn one_port(facts: &Facts, model: &Model, number: usize, port: &PortFacts) -> answer::Port {
    let networks = || model.networks.iter().filter(|network| network.port.index() == number);
    let addresses = |network: &Network| network.addresses.iter().map(ToString::to_string).collect();
    let (untagged, tagged): (Vec<&Network>, Vec<&Network>) = networks().partition(|network| network.tags.is_none());
    let live = (port.live)();
    let sum = |which: fn(&PortCounters) -> u64| {
        facts.director.workers().iter().map(|worker| which(&worker.ports[number])).sum::<u64>()
    };
    answer::Port {
        name: port.name.clone(),
        device: port.device.clone(),
        driver: port.driver.clone(),
        mac: port.mac,
        addresses: untagged.into_iter().flat_map(addresses).collect(),
        vlans: tagged
            .into_iter()
            .map(|network| answer::Vlan { id: network.tags.to_string(), addresses: addresses(network) })
            .collect(),
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
    let model = facts.director.current().model.clone();
    let uses = model.backend_addresses();
    let neighbors = facts.neighbors();
    neighbors
        .iter()
        .map(|(&address, neighbor)| answer::Neighbor {
            address,
            port: model.network(neighbor.network).name(),
            mac: neighbor.mac,
            state: neighbor.state,
            confirmed_s: neighbor.confirmed.map(|then| now.saturating_duration_since(then).as_secs()),
            probes: neighbor.probes,
            changes: neighbor.changes,
            services: uses.get(&address).copied().unwrap_or(0),
        })
        .collect()
}
