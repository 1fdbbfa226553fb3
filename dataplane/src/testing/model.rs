//! Models for tests: one port, `lan0`, with 192.168.0.2/24 and fd00::2/64.

use std::sync::Arc;

use ctl::Mac;
use ctl::request::{BackendSpec, ServiceAdd};

use crate::base::ids::PortNo;
use crate::control::compile::{Compiled, compile};
use crate::control::model::{Model, Network};
use crate::count::lease::Leases;
use crate::state::networks::PortLink;
use crate::wire::vlan::Tags;

/// The MAC address of `lan0`.
pub const PORT_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x02]);

/// The properties of `lan0` that its device reports.
pub const PORT: PortLink = PortLink::new(PORT_MAC, 1_500);

/// A network of a port.
pub fn network(port_name: &str, port: usize, tags: &str, addresses: &[&str]) -> Network {
    let tags = if tags.is_empty() { Tags::NONE } else { tags.parse().expect("a VLAN") };
    let addresses = addresses.iter().map(|net| net.parse().expect("a network")).collect();
    Network { port: PortNo::new(port), port_name: port_name.into(), tags, addresses }
}

/// A model without services.
pub fn model() -> Model {
    Model::new([1; 16], 1_021, vec![network("lan0", 0, "", &["192.168.0.2/24", "fd00::2/64"])])
}

/// Leases of counters, without workers.
pub fn leases() -> Arc<Leases> {
    Leases::new(vec![])
}

/// A request for a TCP service with these backends.
pub fn service(id: &str, backends: &[(&str, u32)]) -> ServiceAdd {
    let backends = backends.iter().map(|(address, weight)| backend(address, *weight)).collect();
    ServiceAdd::new(id.parse().expect("a service"), backends)
}

/// A request for a backend.
pub fn backend(address: &str, weight: u32) -> BackendSpec {
    BackendSpec { weight, ..BackendSpec::new(address.parse().expect("an address")) }
}

/// The MAC address of a test's backend. Its last byte is that of the IP address.
pub fn backend_mac(address: std::net::IpAddr) -> Mac {
    let last = match address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(address) => address.octets()[15],
    };
    Mac([0x02, 0, 0, 0, 0, last])
}

/// A snapshot in which all backends are resolved by [`backend_mac`].
pub fn snapshot(model: Model) -> Compiled {
    compile(Arc::new(model), |address| Some(backend_mac(address)), &[PORT], 1)
}
