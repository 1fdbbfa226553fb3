//! From the sections of the file to a checked [`Config`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ctl::request::{BackendSpec, ServiceAdd};
use ctl::{FlowHash, Mac, Ports, Protocol, Scheduler, ServiceId, Tracking};
use ipnet::IpNet;

use crate::base::ids::PortNo;
use crate::base::limits::{DEFAULT_TABLE_SIZE, MAX_TABLE_SIZE, MTUS};
use crate::config::file::{
    BackendSection, DirectorSection, File, Hugepages, PortNumber, PortSection, ServiceSection, VlanNumber, VlanSection,
};
use crate::config::problem::ConfigError;
use crate::config::source::Source;
use crate::control::model::{self, Model, ModelError};
use crate::count::lease::Leases;
use crate::dpdk::{Device, Driver};
use crate::forward::exceptions::Room;
use crate::select::maglev;
use crate::wire::vlan::Tags;

/// Keys the hashes where the configuration has no `hash_key`: fixed, so that a restart moves no flow.
const DEFAULT_HASH_KEY: [u8; 16] = *b"shunt-hash-key-0";

/// IPv4 flows that a worker can remember: 16 MiB.
const DEFAULT_EXCEPTIONS: usize = 1 << 20;
/// Pings a second that are answered: enough for any monitoring, and little work.
const DEFAULT_ECHO_RATE: u32 = 1_000;

/// What `shuntd` is to do, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `[director]` section.
    pub director: Director,
    /// The ports, in the order of the file.
    pub ports: Vec<Port>,
    /// The services.
    pub services: Vec<ServiceAdd>,
    /// What is legal, but probably not meant.
    pub warnings: Vec<String>,
}

/// The `[director]` section.
#[derive(Debug, Clone)]
pub struct Director {
    /// Cores that forward, one worker each.
    pub workers: Vec<usize>,
    /// The core of the slow path.
    pub slow_path: usize,
    /// Whether the slow path polls without a pause.
    pub slow_path_poll: bool,
    /// Pings a second that are answered, over all workers; 0: none.
    pub echo_rate: u32,
    /// Keys the flow hash and the Maglev tables.
    pub hash_key: [u8; 16],
    /// Slots of a Maglev table.
    pub maglev_table_size: u32,
    /// The control socket.
    pub socket: PathBuf,
    /// The group that may open the socket.
    pub socket_group: Option<String>,
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// Whether packet memory is to be in hugepages.
    pub hugepages: Hugepages,
    /// Packet buffers; `None`: as many as ports and workers need.
    pub mbufs: Option<u32>,
    /// How many flows a worker can remember.
    pub room: Room,
    /// More arguments for DPDK's EAL.
    pub eal_args: Vec<String>,
}

/// A port.
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
    /// The largest L3 packet; `None`: the device's.
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
    fn networks(&self, number: usize) -> impl Iterator<Item = model::Network> {
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

impl Config {
    /// Reads and checks a file, with the environment on top.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Self::from_source(Source::read(path)?)
    }

    /// Checks a file's text, with these environment variables on top. `name` is the file's, for messages.
    pub fn from_text(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Self::from_source(Source::from_text(name, text, variables)?)
    }

    fn from_source(mut source: Source) -> Result<Config, ConfigError> {
        let file: File = source.sections();
        let mut reader = Reader { source, warnings: Vec::new() };
        let director = reader.director(file.director);
        let ports = reader.ports(file.ports);
        let services = reader.services(file.services);
        let Reader { source, warnings } = reader;
        let mut config = Config { director, ports, services: Vec::new(), warnings };
        let mut source = source;
        // Against a model with the smallest of tables: what is checked does not depend on the size.
        let mut model = config.model(3);
        let leases = Leases::new(Vec::new());
        for (key, service) in services {
            for error in model.add_service(&service, &leases).err().into_iter().flatten() {
                source.problem(&place_of(&key, &error), error.to_string());
            }
            config.services.push(service);
        }
        source.finish()?;
        Ok(config)
    }

    /// The model of this configuration with its services.
    pub fn full_model(&self, leases: &std::sync::Arc<Leases>) -> Result<Model, Vec<ModelError>> {
        let mut model = self.model(self.director.maglev_table_size);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        model.add_services(&self.services, leases, threads)?;
        Ok(model)
    }

    fn model(&self, table_size: u32) -> Model {
        let networks = self.ports.iter().enumerate().flat_map(|(number, port)| port.networks(number));
        Model::new(self.director.hash_key, table_size, networks.collect())
    }
}

/// The key that a model's error is about. What concerns a service as a whole is said of its VIP.
fn place_of(service: &str, error: &ModelError) -> String {
    let field = match error {
        ModelError::InList { .. } => error.field(),
        ModelError::PortsOverlap { .. } => "port".into(),
        ModelError::HashOfSh
        | ModelError::HashPrefix { .. }
        | ModelError::HashWithout(_)
        | ModelError::MustTrack(_)
        | ModelError::IdleTimeout(_) => error.field(),
        _ => "vip".into(),
    };
    format!("{service}.{field}")
}

/// Turns sections into checked values, noting what is wrong.
struct Reader {
    source: Source,
    warnings: Vec<String>,
}

impl Reader {
    fn director(&mut self, section: DirectorSection) -> Director {
        let no_hash_key = section.hash_key.is_none();
        let hash_key = section.hash_key.map_or(DEFAULT_HASH_KEY, |text| {
            hash_key(&text).unwrap_or_else(|| {
                self.source
                    .problem("director.hash_key", "Not 32 hexadecimal digits: make one with `openssl rand -hex 16`");
                DEFAULT_HASH_KEY
            })
        });
        let table_size = section.maglev_table_size.unwrap_or(DEFAULT_TABLE_SIZE);
        if !maglev::is_table_size(table_size) {
            let message =
                format!("{table_size} is not a prime from 3 to {}: leave it out, or use 65537", MAX_TABLE_SIZE);
            self.source.problem("director.maglev_table_size", message);
        }
        let (workers, slow_path) = self.cores(section.workers, section.slow_path);
        if section.mbufs.is_some_and(|mbufs| !(1_024..=1 << 24).contains(&mbufs)) {
            self.source.problem("director.mbufs", "Use 1024 to 16777216, or leave it out");
        }
        let metrics = section.metrics.and_then(|text| {
            let address = text.parse().ok();
            if address.is_none() {
                let message = format!(
                    "\"{text}\" is no address with a port: use one of the management network's, or \"127.0.0.1:9747\""
                );
                self.source.problem("director.metrics", message);
            }
            address
        });
        if no_hash_key {
            let advice = "clients could work out which backend they get; make one with `openssl rand -hex 16`";
            self.warnings.push(format!("director.hash_key is not set: {advice}"));
        }
        Director {
            workers,
            slow_path,
            slow_path_poll: section.slow_path_poll,
            echo_rate: section.echo_rate.unwrap_or(DEFAULT_ECHO_RATE),
            hash_key,
            maglev_table_size: table_size,
            socket: section.socket.unwrap_or_else(|| ctl::DEFAULT_SOCKET.into()),
            socket_group: section.socket_group,
            metrics,
            hugepages: section.hugepages,
            mbufs: section.mbufs,
            room: self.room(section.exceptions, section.exceptions_ipv6),
            eal_args: section.eal_args,
        }
    }

    fn room(&mut self, v4: Option<usize>, v6: Option<usize>) -> Room {
        for (key, flows) in [("exceptions", v4), ("exceptions_ipv6", v6)] {
            if flows.is_some_and(|flows| !(1_024..=1 << 25).contains(&flows)) {
                self.source.problem(&format!("director.{key}"), "Use 1024 to 33554432, or leave it out");
            }
        }
        let v4 = v4.unwrap_or(DEFAULT_EXCEPTIONS);
        Room { v4, v6: v6.unwrap_or(v4 / 4) }
    }

    /// Defaults: core 0 for the slow path, core 1 for one worker; where there is but one core, both share it.
    fn cores(&mut self, workers: Option<Vec<usize>>, slow_path: Option<usize>) -> (Vec<usize>, usize) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let slow_path = slow_path.unwrap_or(0);
        let workers = workers.unwrap_or_else(|| vec![if cores > 1 && slow_path != 1 { 1 } else { 0 }]);
        if workers.is_empty() {
            self.source.problem("director.workers", "At least one core must forward");
        }
        let distinct: HashSet<&usize> = workers.iter().collect();
        if distinct.len() < workers.len() {
            self.source.problem("director.workers", "A core is named twice: each worker needs one of its own");
        }
        if workers.contains(&slow_path) {
            let message =
                "is the slow path's and a worker's, who never gives it away: ARP, ping and control will be slow";
            self.warnings.push(format!("Core {slow_path} {message}"));
        }
        (workers, slow_path)
    }

    fn ports(&mut self, sections: Vec<Option<PortSection>>) -> Vec<Port> {
        if sections.is_empty() {
            self.source.problem("ports", "At least one [[ports]] section is needed");
        }
        let (mut names, mut devices, mut addresses) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut ports = Vec::new();
        for (index, section) in sections.into_iter().enumerate() {
            let Some(section) = section else { continue };
            let key = format!("ports[{index}]");
            let port = self.port(&key, section);
            if !port.name.is_empty() && !names.insert(port.name.clone()) {
                self.source.problem(&format!("{key}.name"), format!("There is a port \"{}\" already", port.name));
            }
            if !devices.insert(port.device.to_string()) {
                self.source.problem(&format!("{key}.device"), "Another port has this device already");
            }
            let untagged = (format!("{key}.addresses"), &port.addresses);
            let tagged = port.vlans.iter().enumerate();
            let tagged = tagged.map(|(place, vlan)| (format!("{key}.vlans[{place}].addresses"), &vlan.addresses));
            for (key, address) in
                [untagged].into_iter().chain(tagged).flat_map(|(k, a)| a.iter().map(move |a| (k.clone(), a)))
            {
                if !addresses.insert(address.addr()) {
                    let message = format!("{} is an address of another port or VLAN already", address.addr());
                    self.source.problem(&key, message);
                }
            }
            ports.push(port);
        }
        ports
    }

    fn port(&mut self, key: &str, section: PortSection) -> Port {
        let name = self.required(key, "name", section.name).unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.source.is_good(&format!("{key}.name")) && (name.is_empty() || !name.chars().all(legal)) {
            self.source.problem(&format!("{key}.name"), "Not a name: use letters, digits, and _ - .");
        }
        let device = self.required(key, "device", section.device).and_then(|text| {
            device(&text, section.driver)
                .inspect_err(|message| self.source.problem(&format!("{key}.device"), message.as_str()))
                .ok()
        });
        let mtu = section.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| MTUS.contains(mtu));
        if section.mtu.is_some() && mtu.is_none() {
            let message = format!("Use {} to {}, or leave it out for the device's", MTUS.start(), MTUS.end());
            self.source.problem(&format!("{key}.mtu"), message);
        }
        Port {
            name,
            // A name that cannot be twice, so that what lacks a device is not called a duplicate on top.
            device: device.unwrap_or_else(|| Device::Vdev(format!("({key})"))),
            addresses: self.own_addresses(key, section.addresses),
            vlans: self.vlans(key, section.vlans),
            vlan_strip: section.vlan_strip,
            mtu,
        }
    }

    fn own_addresses(&mut self, key: &str, addresses: Vec<String>) -> Vec<IpNet> {
        let addresses = addresses.into_iter().enumerate().filter_map(|(index, text)| {
            own_address(&text)
                .inspect_err(|message| self.source.problem(&format!("{key}.addresses[{index}]"), message.as_str()))
                .ok()
        });
        addresses.collect()
    }

    fn vlans(&mut self, port: &str, sections: Vec<Option<VlanSection>>) -> Vec<Vlan> {
        let mut vlans: Vec<Vlan> = Vec::new();
        for (index, section) in sections.into_iter().enumerate() {
            let Some(section) = section else { continue };
            let key = format!("{port}.vlans[{index}]");
            let addresses = self.own_addresses(&key, section.addresses);
            let text = self.required(&key, "id", section.id).map(|id| match id {
                VlanNumber::Number(number) => number.to_string(),
                VlanNumber::Text(text) => text,
            });
            match text.map(|text| text.parse::<Tags>()) {
                Some(Ok(tags)) if vlans.iter().any(|vlan| vlan.tags == tags) => {
                    self.source.problem(&format!("{key}.id"), format!("This port has VLAN {tags} already"));
                }
                Some(Ok(tags)) => vlans.push(Vlan { tags, addresses }),
                Some(Err(error)) => self.source.problem(&format!("{key}.id"), error.to_string()),
                None => {}
            }
        }
        vlans
    }

    fn services(&mut self, sections: Vec<Option<ServiceSection>>) -> Vec<(String, ServiceAdd)> {
        let sections = sections.into_iter().enumerate();
        sections
            .filter_map(|(index, section)| {
                let key = format!("services[{index}]");
                self.service(&key, section?).map(|service| (key, service))
            })
            .collect()
    }

    fn service(&mut self, key: &str, section: ServiceSection) -> Option<ServiceAdd> {
        let vip = self.required(key, "vip", section.vip);
        let vip =
            vip.and_then(|text| self.parsed(key, "vip", &text, "an IP address, such as 192.0.2.1 or 2001:db8::1"));
        let port = self.required(key, "port", section.port).and_then(|port| self.service_port(key, &port));
        let protocol = section.protocol.as_deref().unwrap_or("tcp");
        let protocol: Option<Protocol> = self.named(key, "protocol", protocol);
        let scheduler = section.scheduler.as_deref().unwrap_or("maglev");
        let scheduler: Option<Scheduler> = self.named(key, "scheduler", scheduler);
        let hash: Option<FlowHash> = section.hash.and_then(|text| self.named(key, "hash", &text));
        let tracking: Option<Tracking> = section.tracking.and_then(|text| self.named(key, "tracking", &text));
        let idle_timeout_s = section.idle_timeout.and_then(|text| self.seconds(key, "idle_timeout", &text));
        let on_all_down = section.on_all_down.and_then(|text| self.named(key, "on_all_down", &text));
        if section.check.is_some() {
            self.source
                .problem(&format!("{key}.check"), "Health checks are not available in this release: take the key out");
        }
        let backends = section
            .backends
            .into_iter()
            .enumerate()
            .filter_map(|(index, backend)| self.backend(&format!("{key}.backends[{index}]"), backend?));
        let backends: Vec<BackendSpec> = backends.collect();
        if backends.iter().all(|backend| backend.weight == 0) {
            self.warnings.push(format!(
                "{key}: the service has no backend with a weight above 0; all its packets will be dropped"
            ));
        }
        Some(ServiceAdd {
            service: ServiceId { vip: vip?, port: port?, protocol: protocol? },
            scheduler: scheduler?,
            hash,
            tracking,
            idle_timeout_s,
            on_all_down: on_all_down.unwrap_or_default(),
            backends,
        })
    }

    /// A length of time, in whole seconds.
    fn seconds(&mut self, section: &str, key: &str, text: &str) -> Option<u32> {
        let seconds = humantime::parse_duration(text).ok().and_then(|time| u32::try_from(time.as_secs()).ok());
        if seconds.is_none() {
            self.source.problem(&format!("{section}.{key}"), format!("\"{text}\" is not a time: write 90s, 15m or 2h"));
        }
        seconds
    }

    fn service_port(&mut self, key: &str, port: &PortNumber) -> Option<Ports> {
        let text = match port {
            PortNumber::Number(number) => number.to_string(),
            PortNumber::Text(text) => text.clone(),
        };
        self.named(key, "port", &text)
    }

    fn backend(&mut self, key: &str, section: BackendSection) -> Option<BackendSpec> {
        let address = self.required(key, "address", section.address);
        let address = address.and_then(|text| {
            ctl::parse_backend(&text)
                .inspect_err(|error| self.source.problem(&format!("{key}.address"), error.to_string()))
                .ok()
        });
        let mac: Option<Mac> = section.mac.and_then(|text| self.named(key, "mac", &text));
        let (address, port) = address?;
        Some(BackendSpec { address, port, weight: section.weight.unwrap_or(1), mac })
    }

    /// A value that must be there. One that was there and of the wrong type has been complained about already.
    fn required<T>(&mut self, section: &str, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.source.missing(section, key);
        }
        value
    }

    fn parsed<T: std::str::FromStr>(&mut self, section: &str, key: &str, text: &str, what: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.source.problem(&format!("{section}.{key}"), format!("\"{text}\" is not {what}"));
        }
        value
    }

    fn named<T: std::str::FromStr<Err = ctl::NameError>>(&mut self, section: &str, key: &str, text: &str) -> Option<T> {
        text.parse()
            .inspect_err(|error: &ctl::NameError| self.source.problem(&format!("{section}.{key}"), error.to_string()))
            .ok()
    }
}

fn hash_key(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).filter_map(|pair| Some(pair[0] << 4 | pair.get(1)?)).collect();
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

fn device(text: &str, driver: Option<Driver>) -> Result<Device, String> {
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

fn own_address(text: &str) -> Result<IpNet, String> {
    let net: IpNet =
        text.parse().map_err(|_| format!("\"{text}\" is not ADDRESS/PREFIX: write 192.0.2.2/24 or 2001:db8::2/64"))?;
    model::check_unicast(net.addr()).map_err(|error| error.to_string())?;
    let IpNet::V4(v4) = net else { return Ok(net) };
    if v4.prefix_len() < 31 && (v4.network() == v4.addr() || v4.broadcast() == v4.addr()) {
        return Err(format!("{} is the network's own or its broadcast address, not a host's", v4.addr()));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problem;

    const EXAMPLE: &str = r#"
[director]
workers = [1]
slow_path = 0
hash_key = "000102030405060708090a0b0c0d0e0f"
[[ports]]
name = "lan0"
device = "0000:03:00.1"
addresses = ["192.168.0.2/24", "fd00::2/64"]
[[services]]
vip = "192.168.0.101"
port = 80
protocol = "tcp"
scheduler = "maglev"
backends = [ { address = "192.168.0.3", weight = 1 }, { address = "192.168.0.4", weight = 3 } ]
[[services]]
vip = "fd00::101"
port = "53"
protocol = "udp"
backends = [ { address = "fd00::3", mac = "02:00:00:00:00:03" } ]
"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_source(Source::from_text("shunt.toml", text, &[])?)
    }

    fn problems(text: &str) -> Vec<String> {
        load(text).unwrap_err().problems.iter().map(Problem::to_string).collect()
    }

    /// The example with one line replaced.
    fn with(line: &str, instead: &str) -> String {
        assert!(EXAMPLE.contains(line), "{line}");
        EXAMPLE.replacen(line, instead, 1)
    }

    #[test]
    fn the_example_is_understood() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(config.director.hash_key, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(config.director.echo_rate, 1_000);
        assert_eq!(config.ports[0].device, Device::Pci("0000:03:00.1".into()));
        assert_eq!(config.services[0].backends[1].weight, 3);
        assert_eq!(config.services[1].service.to_string(), "[fd00::101]:53/udp");
        assert_eq!(config.services[1].backends[0].mac, Some(Mac([2, 0, 0, 0, 0, 3])));
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_core_with_two_masters_is_worth_a_warning() {
        let config = load(&with("slow_path = 0", "slow_path = 1")).unwrap();
        assert!(config.warnings[0].starts_with("Core 1 is"), "{:?}", config.warnings);
    }

    #[test]
    fn every_mistake_is_said_at_once_with_its_place() {
        let text = EXAMPLE
            .replace("slow_path = 0", "slow_path = 0\nslowpath_poll = true")
            .replace("\"192.168.0.2/24\"", "\"192.168.0.2\"")
            .replace("port = 80", "port = 80000")
            .replace("weight = 3", "weight = \"three\"")
            .replace("protocol = \"udp\"", "protocol = \"icmp\"")
            .replace("name = \"lan0\"\n", "");
        let problems = problems(&text);
        for expected in [
            "shunt.toml:5: director.slowpath_poll: ",
            "shunt.toml:7: ports[0].name: ",
            "shunt.toml:9: ports[0].addresses[0]: ",
            "shunt.toml:12: services[0].port: ",
            "shunt.toml:15: services[0].backends[1].weight: ",
            "shunt.toml:19: services[1].protocol: ",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} in {problems:#?}");
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }

    #[test]
    fn mistakes_are_explained() {
        let hint = |line, instead: &str| problems(&with(line, instead)).join("\n");
        for (line, instead, says) in [
            ("workers = [1]", "workers = []", "At least one core"),
            ("workers = [1]", "workers = [1, 1]", "twice"),
            ("workers = [1]", "workers = 1", "director.workers"),
            ("slow_path = 0", "slow_path = -1", "director.slow_path"),
            ("slow_path = 0", "echo_rate = -1", "director.echo_rate"),
            ("hash_key = \"00", "hash_key = \"0g", "32 hexadecimal digits"),
            ("slow_path = 0", "maglev_table_size = 65536", "prime"),
            ("slow_path = 0", "metrics = \":9747\"", "director.metrics: \":9747\" is no address with a port"),
            ("slow_path = 0", "metrics = 9747", "director.metrics"),
            ("device = \"0000:03:00.1\"", "device = \"eth1\"", "iface:NAME"),
            ("device = \"0000:03:00.1\"", "device = \"iface:\"", "iface:eth1"),
            ("\"fd00::2/64\"", "\"192.168.0.0/24\"", "network's own"),
            ("slow_path = 0", "slow_path = 0\nmtu = 9000", "director.mtu"),
            ("device = ", "mtu = 1000\ndevice = ", "Use 1280 to 64000"),
            ("device = ", "mtu = 70000\ndevice = ", "Use 1280 to 64000"),
            ("device = ", "vlan_strip = 1\ndevice = ", "ports[0].vlan_strip"),
            ("device = ", "vlans = [{ id = 4095 }]\ndevice = ", "ports[0].vlans[0].id: \"4095\" is no VLAN"),
            ("device = ", "vlans = [{ id = \"7.0\" }]\ndevice = ", "is no VLAN"),
            ("device = ", "vlans = [{ id = 7.5 }]\ndevice = ", "text such as \"200.30\""),
            (
                "device = ",
                "vlans = [{ id = 7 }, { id = \"7\" }]\ndevice = ",
                "ports[0].vlans[1].id: This port has VLAN 7 already",
            ),
            ("device = ", "vlans = [{ addresses = [] }]\ndevice = ", "ports[0].vlans[0].id: Missing"),
            (
                "device = ",
                "vlans = [{ id = 7, addresses = [\"10.0.0.1\"] }]\ndevice = ",
                "ports[0].vlans[0].addresses[0]",
            ),
            (
                "device = ",
                "vlans = [{ id = 7, addresses = [\"192.168.0.2/24\"] }]\ndevice = ",
                "of another port or VLAN already",
            ),
            ("device = ", "vlans = [{ id = 7, adresses = [] }]\ndevice = ", "did you mean `addresses`?"),
            ("\"192.168.0.3\"", "\"192.168.0.3:8080\"", "8080"),
            ("\"192.168.0.3\"", "\"10.0.0.3\"", "192.168.0.0/24 (lan0)"),
            ("weight = 3", "weight = 65536", "65535"),
            ("weight = 3", "weight = -1", "services[0].backends[1].weight"),
            ("port = 80", "port = \"80,http\"", "a range (8000-8100)"),
            ("scheduler = \"maglev\"", "scheduler = \"lblc\"", "use maglev, sh, wrr"),
            ("scheduler = \"maglev\"", "scheduler = \"wlc\"\nhash = \"source\"", "services[0].hash"),
            ("scheduler = \"maglev\"", "scheduler = \"wlc\"\ntracking = \"exceptions\"", "services[0].tracking"),
            ("scheduler = \"maglev\"", "tracking = \"none\"", "use exceptions or all"),
            ("scheduler = \"maglev\"", "idle_timeout = \"15\"", "write 90s, 15m or 2h"),
            ("scheduler = \"maglev\"", "idle_timeout = \"3h\"", "services[0].idle_timeout"),
            ("scheduler = \"maglev\"", "on_all_down = \"pray\"", "use drop or all"),
            ("slow_path = 0", "exceptions = 7", "1024 to"),
            ("scheduler = \"maglev\"", "scheduler = \"sh\"\nhash = \"5tuple\"", "services[0].hash"),
            ("scheduler = \"maglev\"", "hash = \"source/33\"", "use 1 to 32"),
            ("scheduler = \"maglev\"", "hash = \"client\"", "source/PREFIX"),
            ("scheduler = \"maglev\"", "check = { type = \"http\" }", "Health checks are not available"),
            ("vip = \"192.168.0.101\"", "vip = \"192.168.0.2\"", "own address"),
            ("vip = \"192.168.0.101\"", "vip = \"192.168.0.255\"", "single host"),
            ("name = \"lan0\"", "name = \"\"", "Not a name"),
            ("vip = \"192.168.0.101\"", "VIP = \"192.168.0.101\"", "did you mean `vip`?"),
        ] {
            let said = hint(line, instead);
            assert!(said.contains(says), "{instead}: {said}");
            assert!(said.contains("shunt.toml:"), "{instead}: {said}");
        }
    }

    #[test]
    fn a_port_may_have_networks_with_tags_and_no_other() {
        let vlans = "[[ports.vlans]]\nid = 100\naddresses = [\"192.168.0.2/24\"]\n\
                     [[ports.vlans]]\nid = \"200.30\"\naddresses = [\"fd00::2/64\"]";
        let config = load(&with("addresses = [\"192.168.0.2/24\", \"fd00::2/64\"]", vlans)).unwrap();
        let networks = |config: &Config| -> Vec<String> {
            config
                .model(3)
                .networks
                .iter()
                .map(|network| format!("{} {:?}", network.name(), network.addresses))
                .collect()
        };
        assert_eq!(networks(&config), ["lan0.100 [192.168.0.2/24]", "lan0.200.30 [fd00::2/64]"]);
        let mixed = with("device = ", "vlans = [{ id = 7, addresses = [\"10.7.0.2/24\"] }]\ndevice = ");
        assert_eq!(networks(&load(&mixed).unwrap()), ["lan0 [192.168.0.2/24, fd00::2/64]", "lan0.7 [10.7.0.2/24]"]);
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let said = problems("[director\nworkers = 1").join("\n");
        assert!(said.contains("shunt.toml:1"), "{said}");
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let variables = [("SHUNT_DIRECTOR__SLOW_PATH", "2"), ("SHUNT_DIRECTOR__WORKERS", "3,4")];
        let config = Config::from_source(Source::from_text("f", EXAMPLE, &variables).unwrap()).unwrap();
        assert_eq!((config.director.slow_path, config.director.workers), (2, vec![3, 4]));

        let digits = "12345678901234567890123456789012";
        let variables = [("SHUNT_DIRECTOR__HASH_KEY", digits), ("SHUNT_DIRECTOR__SOCKET_GROUP", "100")];
        let config = Config::from_source(Source::from_text("f", EXAMPLE, &variables).unwrap()).unwrap();
        assert_eq!(config.director.hash_key[..2], [0x12, 0x34]);

        let variables = [("SHUNT_DIRECTOR__SLOWPATH", "2"), ("SHUNT_DIRECTOR__SLOW_PATH", "x")];
        let error = Config::from_source(Source::from_text("f", EXAMPLE, &variables).unwrap()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("environment SHUNT_DIRECTOR__SLOWPATH: "), "{said}");
        assert!(said.contains("environment SHUNT_DIRECTOR__SLOW_PATH: "), "{said}");
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
