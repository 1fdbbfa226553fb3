//! `[[ports]]` and `[[ports.vlans]]`: devices, and the networks on them.

use std::collections::HashSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::base::ids::PortNo;
use crate::base::limits::{MTUS, VLAN_IDS};
use crate::config::rows::{Section, section, typed};
use crate::config::source::Source;
use crate::control::model;
use crate::dpdk::{Device, Driver, REASSEMBLES, fragments_come_as_they_are};
use crate::wire::vlan::Tags;

section! {
    /// A port: a device, and the director's networks on it. At least one is needed.
    pub(super) struct PortSection = Section::new("[[ports]]");

    /// What it is called in listings and metrics.
    name: Option<String> = None, written("letters, digits, \"_\", \"-\" or \".\""), required("lan0");
    /// A PCI address (also of a VF), `iface:` and a Linux interface, or a DPDK vdev string.
    device: Option<String> = None, written("such as \"0000:03:00.1\", \"iface:eth1\", \"net_tap0\""), required("iface:eth1");
    /// By what an `iface:` device is reached.
    driver: Option<Driver> = None, words_of::<Driver>(), or("\"auto\": AF_XDP, else AF_PACKET", Driver::Auto);
    /// The director's own addresses in the port's network without VLAN tags. Backends must be in one of the networks of these, or of a
    /// VLAN's.
    addresses: Vec<String> = vec![], written("ADDRESS/PREFIX each"), given(["192.168.0.2/24", "fd00::2/64"]);
    /// Networks with VLAN tags. Where there are some and no `addresses`, frames without tags are not taken.
    vlans: Vec<Option<VlanSection>> = vec![];
    /// Whether the device is to take VLAN tags out of what it receives.
    vlan_strip: bool = false;
    /// The largest L3 packet.
    mtu: Option<u16> = None, unit("bytes"), range(MTUS), or("the interface's; of other devices, 1500", 9_000);
}

section! {
    /// A network of a port with VLAN tags. Also written as `vlans = [{ id = 100, addresses = [...] }]` of the port.
    pub(super) struct VlanSection = Section::new("[[ports.vlans]]").optional();

    /// The VLAN; or two, for two tags (QinQ).
    id: Option<VlanNumber> = None, required(100),
        written(format!("{} to {}, or \"OUTER.INNER\"", VLAN_IDS.start(), VLAN_IDS.end()));
    /// The director's own addresses there.
    addresses: Vec<String> = vec![], written("ADDRESS/PREFIX each"), given(["10.1.0.2/24"]);
}

/// VLAN tags, as a number or as text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the number of a VLAN, or text such as \"200.30\"")]
pub(super) enum VlanNumber {
    Number(u64),
    Text(String),
}

typed! {
    Text: Driver;
    NumberOrText: VlanNumber;
}

/// A port, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its device.
    pub device: Device,
    /// The director's own addresses there, in the network without VLAN tags.
    pub addresses: Vec<IpNet>,
    /// The networks with VLAN tags.
    pub vlans: Vec<Vlan>,
    /// Whether the device is to take tags out of received frames.
    pub vlan_strip: bool,
    /// The largest L3 packet in bytes; `None`: the device's.
    pub mtu: Option<u16>,
}

/// A network of a port with VLAN tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The tags.
    pub tags: Tags,
    /// The director's own addresses there.
    pub addresses: Vec<IpNet>,
}

impl Port {
    /// Its networks. One with VLANs and no addresses of its own has no other network.
    pub(super) fn networks(&self, number: usize) -> impl Iterator<Item = model::Network> {
        let network = move |tags, addresses: &[IpNet]| model::Network {
            port: PortNo::new(number),
            port_name: self.name.clone(),
            tags,
            addresses: addresses.to_vec(),
        };
        let has_untagged = !self.addresses.is_empty() || self.vlans.is_empty();
        let untagged = has_untagged.then(|| network(Tags::NONE, &self.addresses));
        let tagged = self.vlans.iter().map(move |vlan| network(vlan.tags, &vlan.addresses));
        untagged.into_iter().chain(tagged)
    }
}

/// Turns the sections into checked ports. What no two ports may share is a name, a device, an address.
pub(super) fn check(sections: Vec<Option<PortSection>>, source: &mut Source) -> Vec<Port> {
    if sections.is_empty() {
        source.problem("ports", "At least one [[ports]] section is needed");
    }
    let (mut names, mut devices) = (HashSet::new(), HashSet::new());
    let (mut ports, mut addresses) = (Vec::new(), Vec::new());
    for (index, section) in sections.into_iter().enumerate() {
        let Some(section) = section else { continue };
        let key = format!("ports[{index}]");
        let port = port(&key, section, source);
        if !port.name.is_empty() && !names.insert(port.name.clone()) {
            source.problem(&format!("{key}.name"), format!("There is a port \"{}\" already", port.name));
        }
        if !devices.insert(port.device.to_string()) {
            source.problem(&format!("{key}.device"), "Another port has this device already");
        }
        let untagged = (format!("{key}.addresses"), &port.addresses);
        let tagged = port.vlans.iter().enumerate();
        let tagged = tagged.map(|(index, vlan)| (format!("{key}.vlans[{index}].addresses"), &vlan.addresses));
        for (key, own) in [untagged].into_iter().chain(tagged) {
            addresses.extend(own.iter().map(|&net| OwnAddress { key: key.clone(), net }));
        }
        ports.push(port);
    }
    check_networks(&addresses, source);
    for warning in fragments(&ports, fragments_come_as_they_are()) {
        source.warning(warning);
    }
    ports
}

/// One of the director's own addresses, with the key of the network that it is in.
struct OwnAddress {
    key: String,
    net: IpNet,
}

impl OwnAddress {
    /// The port or VLAN whose address it is: `ports[0].vlans[1]`.
    fn place(&self) -> &str {
        self.key.trim_end_matches(".addresses")
    }
}

/// Refuses what would leave open by which network a host is reached. A network inside another one leaves nothing open: the most specific
/// one wins.
fn check_networks(addresses: &[OwnAddress], source: &mut Source) {
    for (index, own) in addresses.iter().enumerate() {
        let earlier = &addresses[..index];
        if earlier.iter().any(|other| other.net.addr() == own.net.addr()) {
            let message = format!("{} is an address of another port or VLAN already", own.net.addr());
            source.problem(&own.key, message);
        } else if let Some(other) = earlier.iter().find(|o| o.key != own.key && o.net.trunc() == own.net.trunc()) {
            let message = format!(
                "{} is the network of {} already, and hosts there would never be reached by this one: give each port and VLAN \
                 a network of its own",
                own.net.trunc(),
                other.place()
            );
            source.problem(&own.key, message);
        }
        let holds_it = |o: &&OwnAddress| {
            o.key != own.key && o.net.prefix_len() > own.net.prefix_len() && o.net.contains(&own.net.addr())
        };
        if let Some(other) = addresses.iter().find(holds_it) {
            source.warning(format!(
                "{}: {} lies in {}, the network of {}, and hosts will take it for an address of that one: use an address \
                 outside of it",
                own.key,
                own.net.addr(),
                other.net.trunc(),
                other.place()
            ));
        }
    }
}

/// What is to be said of ports that the kernel would reassemble fragments for.
fn fragments(ports: &[Port], come_as_they_are: bool) -> Vec<String> {
    let packet = |device: &Device| match device {
        Device::Interface { driver, .. } => *driver != Driver::AfXdp,
        Device::Vdev(arguments) => arguments.starts_with("net_af_packet") || arguments.starts_with("eth_af_packet"),
        Device::Pci(_) => false,
    };
    let concerned = ports.iter().filter(|port| !come_as_they_are && packet(&port.device));
    concerned.map(|port| format!("Port {}: {REASSEMBLES}", port.name)).collect()
}

fn port(key: &str, section: PortSection, source: &mut Source) -> Port {
    let name = source.required(key, "name", section.name).unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if source.is_good(&format!("{key}.name")) && (name.is_empty() || !name.chars().all(legal)) {
        source.problem(&format!("{key}.name"), "Not a name: use letters, digits, and _ - .");
    }
    let device = source.required(key, "device", section.device);
    let device = device.and_then(|text| source.good(&format!("{key}.device"), device_of(&text, section.driver)));
    Port {
        name,
        // A name that cannot be twice, so that what lacks a device is not called a duplicate on top.
        device: device.unwrap_or_else(|| Device::Vdev(format!("({key})"))),
        addresses: own_addresses(key, section.addresses, source),
        vlans: vlans(key, section.vlans, source),
        vlan_strip: section.vlan_strip,
        mtu: section.mtu,
    }
}

fn vlans(port: &str, sections: Vec<Option<VlanSection>>, source: &mut Source) -> Vec<Vlan> {
    let mut vlans: Vec<Vlan> = Vec::new();
    for (index, section) in sections.into_iter().enumerate() {
        let Some(section) = section else { continue };
        let key = format!("{port}.vlans[{index}]");
        let addresses = own_addresses(&key, section.addresses, source);
        let text = source.required(&key, "id", section.id).map(|id| match id {
            VlanNumber::Number(number) => number.to_string(),
            VlanNumber::Text(text) => text,
        });
        match text.map(|text| text.parse::<Tags>()) {
            Some(Ok(tags)) if vlans.iter().any(|vlan| vlan.tags == tags) => {
                source.problem(&format!("{key}.id"), format!("This port has VLAN {tags} already"));
            }
            Some(Ok(tags)) => vlans.push(Vlan { tags, addresses }),
            Some(Err(error)) => source.problem(&format!("{key}.id"), error.to_string()),
            None => {}
        }
    }
    vlans
}

fn own_addresses(key: &str, addresses: Vec<String>, source: &mut Source) -> Vec<IpNet> {
    let addresses = addresses.into_iter().enumerate();
    addresses
        .filter_map(|(index, text)| source.good(&format!("{key}.addresses[{index}]"), own_address(&text)))
        .collect()
}

fn own_address(text: &str) -> Result<IpNet, String> {
    let net = network(text)
        .ok_or_else(|| format!("\"{text}\" is not ADDRESS/PREFIX: write 192.0.2.2/24 or 2001:db8::2/64"))?;
    model::check_unicast(net.addr()).map_err(|error| error.to_string())?;
    if net.prefix_len() == 0 {
        return Err(format!("With prefix length 0, the whole Internet would be in the network of {}", net.addr()));
    }
    let IpNet::V4(v4) = net else { return Ok(net) };
    if v4.prefix_len() < 31 && (v4.network() == v4.addr() || v4.broadcast() == v4.addr()) {
        return Err(format!("{} is the network's own or its broadcast address, not a host's", v4.addr()));
    }
    Ok(net)
}

/// `ADDRESS/PREFIX`. The crate's own parser takes leading zeros.
fn network(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    IpNet::new(address.parse().ok()?, ctl::parse_number(prefix)?).ok()
}

fn device_of(text: &str, driver: Option<Driver>) -> Result<Device, String> {
    let device = match text.strip_prefix("iface:") {
        Some("") => return Err("Name a network interface: iface:eth1".into()),
        Some(name) => return Ok(Device::Interface { name: name.into(), driver: driver.unwrap_or_default() }),
        None if text.starts_with("net_") || text.starts_with("eth_") => Device::Vdev(text.into()),
        None => Device::Pci(pci_address(text).ok_or_else(|| {
            format!("\"{text}\" is no device: write a PCI address (0000:03:00.1), iface:NAME, or a DPDK vdev (net_…)")
        })?),
    };
    if driver.is_some() { Err("`driver` goes with iface: devices only".into()) } else { Ok(device) }
}

/// `[domain:]bus:device.function`, as lspci writes it, in full.
fn pci_address(text: &str) -> Option<String> {
    let full = if text.matches(':').count() == 1 { format!("0000:{text}") } else { text.to_ascii_lowercase() };
    let (rest, function) = full.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|c| c.is_ascii_hexdigit());
    let [domain, bus, device] = parts[..] else { return None };
    let well_formed = hex(domain, 4) && hex(bus, 2) && hex(device, 2) && matches!(function.as_bytes(), [b'0'..=b'7']);
    well_formed.then_some(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuntd_whose_fragments_the_kernel_would_reassemble_says_so() {
        let interface = |driver| Device::Interface { name: "eth1".into(), driver };
        for (device, concerned) in [
            (interface(Driver::Auto), true),
            (interface(Driver::AfPacket), true),
            (interface(Driver::AfXdp), false),
            (Device::Vdev("net_af_packet3,iface=eth1".into()), true),
            (Device::Vdev("net_af_xdp0,iface=eth1".into()), false),
            (Device::Pci("0000:03:00.1".into()), false),
        ] {
            let name = device.to_string();
            let ports =
                [Port { name: "lan0".into(), device, addresses: vec![], vlans: vec![], vlan_strip: false, mtu: None }];
            assert_eq!(fragments(&ports, false).len(), usize::from(concerned), "{name}");
            assert!(fragments(&ports, true).is_empty(), "{name}");
        }
    }

    #[test]
    fn pci_addresses_come_long_and_short() {
        assert_eq!(pci_address("03:00.1").as_deref(), Some("0000:03:00.1"));
        assert_eq!(pci_address("0000:af:1f.7").as_deref(), Some("0000:af:1f.7"));
        for text in ["03:00", "0000:03:00.8", "0000:03:00.11", "x:03:00.1", "0:0:0:0.1"] {
            assert_eq!(pci_address(text), None, "{text}");
        }
    }
}
