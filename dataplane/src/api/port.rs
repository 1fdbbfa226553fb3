//! The director's ports.

use ctl::answer::{self, Refusal};
use ctl::verb::{self, Answers};

use crate::api::facts::{Facts, PortFacts};
use crate::control::compile::Compiled;
use crate::control::model::Network;
use crate::count::counters::PortCounters;

impl Answers<verb::PortList> for Facts {
    fn answer(&self, (): ()) -> Result<Vec<answer::Port>, Refusal> {
        Ok(list(self))
    }
}

pub(super) fn list(facts: &Facts) -> Vec<answer::Port> {
    let current = facts.director.current();
    facts.ports.iter().enumerate().map(|(number, port)| one_port(facts, &current, number, port)).collect()
}

fn one_port(facts: &Facts, current: &Compiled, number: usize, port: &PortFacts) -> answer::Port {
    let networks = || current.model.networks.iter().filter(|network| network.port.index() == number);
    let addresses = |network: &Network| network.addresses.iter().map(ToString::to_string).collect();
    let (untagged, tagged): (Vec<&Network>, Vec<&Network>) = networks().partition(|network| network.tags.is_none());
    let (live, link) = ((port.live)(), current.ports[number]);
    let sum = |which: fn(&PortCounters) -> u64| {
        facts.director.workers().iter().map(|worker| which(&worker.ports[number])).sum::<u64>()
    };
    answer::Port {
        name: port.name.clone(),
        device: port.device.clone(),
        driver: live.driver,
        mac: link.mac,
        addresses: untagged.into_iter().flat_map(addresses).collect(),
        vlans: tagged
            .into_iter()
            .map(|network| answer::Vlan { id: network.tags.to_string(), addresses: addresses(network) })
            .collect(),
        link_up: link.up,
        trouble: live.trouble.filter(|_| !link.up),
        speed_mbps: live.speed_mbps.filter(|_| link.up),
        mtu: link.mtu,
        queues: port.queues,
        rx_packets: sum(|port| port.rx_packets.read()),
        rx_bytes: sum(|port| port.rx_bytes.read()),
        tx_packets: sum(|port| port.tx_packets.read()),
        forwarded_packets: sum(|port| port.forwarded.read()),
        tx_bytes: sum(|port| port.tx_bytes.read()),
        rx_missed: live.rx_missed,
        rx_errors: live.rx_errors,
        rx_no_mbuf: live.rx_no_mbuf,
        xdp: live.xdp,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::answer::tests::{ask, example};

    #[test]
    fn a_port_has_its_addresses_and_what_the_workers_count() {
        let facts = example();
        let counters = &facts.director.workers()[0].ports[0];
        counters.rx_packets.add(3);
        counters.tx_bytes.add(180);
        let ports = &ask(&facts, "port-list", Value::Null)["ok"]["ports"];
        let said = ["name", "addresses", "vlans", "rx_packets", "tx_bytes"].map(|field| ports[0][field].clone());
        let addresses = json!(["192.168.0.2/24", "fd00::2/64"]);
        assert_eq!(said, [json!("lan0"), addresses, json!([]), json!(3), json!(180)]);
    }
}
