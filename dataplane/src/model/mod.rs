//! What the operator asked for: ports with their networks, services, backends.
//!
//! A [`Model`] is a value. A change makes a new one from the old ([`Model::clone`] is cheap: services are shared),
//! checks it, and either all of it is right or a [`ModelError`] says what is not. [`compile`] turns a model into
//! the [`Snapshot`](crate::snapshot::Snapshot) that workers forward by.

pub mod compile;
mod error;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ctl::request::{BackendEdit, BackendSpec, MacChange, ServiceAdd};
use ctl::{FlowHash, MAX_WEIGHT, Mac, Ports, Protocol, Scheduler, ServiceId};
use ipnet::IpNet;

use crate::counters::{ServicePlace, TargetId, TargetIds};
use crate::maglev::{self, Candidate};

pub use error::ModelError;

/// The most services.
pub const MAX_SERVICES: usize = 16_384;

/// All that forwarding depends on, except what the network itself tells (MAC addresses).
#[derive(Debug, Clone)]
pub struct Model {
    /// Keys the flow hash and the Maglev tables; the same on every director of the same VIPs.
    pub hash_key: [u8; 16],
    /// Slots of a Maglev table, a prime.
    pub table_size: u32,
    /// The ports, in the order of the configuration.
    pub ports: Arc<[Port]>,
    /// The services by VIP, port and protocol.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
}

/// A port's part in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the configuration.
    pub name: String,
    /// The director's own addresses there, each with its network's prefix length.
    pub addresses: Vec<IpNet>,
}

/// A service and its backends.
#[derive(Debug, Clone)]
pub struct Service {
    /// VIP, port, protocol.
    pub id: ServiceId,
    /// How backends are chosen.
    pub scheduler: Scheduler,
    /// What decides the backend of a flow.
    pub hash: FlowHash,
    /// In ascending order of their addresses.
    pub backends: Vec<Backend>,
    /// The Maglev table over `backends`; empty where nobody has a weight.
    pub table: Arc<[u16]>,
    /// Where what is dropped of its packets is counted.
    pub counter: Arc<ServicePlace>,
}

/// A backend of one service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight, 0 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Its MAC address, where the operator gives it.
    pub pinned: Option<Mac>,
    /// The port by whose network it is reached, an index into [`Model::ports`].
    pub port: usize,
    /// Where its traffic is counted.
    pub target: Arc<TargetId>,
    /// Its slots of the service's table.
    pub slots: u32,
    /// Whether it takes part. A backend that is added to a running service does when its MAC address is known for the
    /// first time: before that, its share of the flows would be lost.
    pub joined: bool,
}

impl Model {
    /// Without services.
    pub fn new(hash_key: [u8; 16], table_size: u32, ports: Vec<Port>) -> Self {
        Model { hash_key, table_size, ports: ports.into(), services: BTreeMap::new() }
    }

    /// The service of this name.
    pub fn service(&self, id: &ServiceId) -> Result<&Arc<Service>, ModelError> {
        self.services.get(id).ok_or(ModelError::NoSuchService(*id))
    }

    /// Adds a service. All that is wrong with it is said at once; then the model is as it was.
    pub fn add_service(&mut self, wanted: &ServiceAdd, ids: &Arc<TargetIds>) -> Result<(), Vec<ModelError>> {
        let id = wanted.service;
        if self.services.contains_key(&id) {
            return Err(vec![ModelError::DuplicateService(id)]);
        }
        if self.services.len() >= MAX_SERVICES {
            return Err(vec![ModelError::TooManyServices]);
        }
        let mut errors: Vec<ModelError> = self.check_vip(id).err().into_iter().collect();
        let hash = flow_hash(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let counter = ids.take_service().ok_or_else(|| vec![ModelError::TooManyServices])?.into();
        let (backends, table) = (Vec::new(), Arc::new([]));
        let mut service = Service { id, scheduler: wanted.scheduler, hash, backends, table, counter };
        for (index, backend) in wanted.backends.iter().enumerate() {
            if let Err(error) = self.insert_backend(&mut service, backend, ids) {
                errors.push(ModelError::InList { index, error: Box::new(error) });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.put(service);
        Ok(())
    }

    /// Removes a service with its backends.
    pub fn remove_service(&mut self, id: &ServiceId) -> Result<(), ModelError> {
        self.services.remove(id).map(drop).ok_or(ModelError::NoSuchService(*id))
    }

    /// Adds a backend to a service.
    pub fn add_backend(
        &mut self,
        id: &ServiceId,
        wanted: &BackendSpec,
        ids: &Arc<TargetIds>,
    ) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let place = self.insert_backend(&mut service, wanted, ids)?;
        // To a service that has nobody else, there is nothing to lose.
        service.backends[place].joined = wanted.mac.is_some() || service.backends.len() == 1;
        self.put(service);
        Ok(())
    }

    /// Changes a backend's weight or MAC address.
    pub fn edit_backend(&mut self, edit: &BackendEdit) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(&edit.service)?);
        let place = service.place(edit.address)?;
        let backend = &mut service.backends[place];
        if edit.weight.is_none() && edit.mac.is_none() {
            return Err(ModelError::NothingToChange);
        }
        if let Some(weight) = edit.weight {
            backend.weight = checked_weight(weight)?;
        }
        match edit.mac {
            Some(MacChange::Pin(mac)) => {
                backend.pinned = Some(checked_mac(mac)?);
                backend.joined = true;
            }
            Some(MacChange::Resolve) => backend.pinned = None,
            None => {}
        }
        self.put(service);
        Ok(())
    }

    /// Removes a backend from a service.
    pub fn remove_backend(&mut self, id: &ServiceId, address: IpAddr) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let place = service.place(address)?;
        service.backends.remove(place);
        self.put(service);
        Ok(())
    }

    /// Whether somebody waits for one of these addresses to be resolved.
    pub fn awaits(&self, resolved: impl Fn(IpAddr) -> bool) -> bool {
        self.services.values().flat_map(|service| &service.backends).any(|b| !b.joined && resolved(b.address))
    }

    /// Has the backends that waited for their MAC addresses take part.
    pub fn join(&mut self, resolved: impl Fn(IpAddr) -> bool) {
        let waiting = |service: &&Arc<Service>| service.backends.iter().any(|b| !b.joined && resolved(b.address));
        let services: Vec<Arc<Service>> = self.services.values().filter(waiting).cloned().collect();
        for service in services {
            let mut service = Arc::unwrap_or_clone(service);
            for backend in service.backends.iter_mut().filter(|backend| resolved(backend.address)) {
                backend.joined = true;
            }
            self.put(service);
        }
    }

    /// The port whose network an address lies in, the most specific network first.
    pub fn port_towards(&self, address: IpAddr) -> Option<usize> {
        let networks =
            self.ports.iter().enumerate().flat_map(|(port, p)| p.addresses.iter().map(move |net| (port, net)));
        networks
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|&(port, net)| (net.prefix_len(), std::cmp::Reverse(port)))
            .map(|(port, _)| port)
    }

    /// Whether an address is one of the director's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.ports.iter().any(|port| port.addresses.iter().any(|net| net.addr() == address))
    }

    /// Whether a service has this VIP.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.services_of(address).next().is_some()
    }

    /// The services that have this VIP.
    fn services_of(&self, vip: IpAddr) -> impl Iterator<Item = (&ServiceId, &Arc<Service>)> {
        let first = ServiceId { vip, port: Ports::NONE, protocol: Protocol::Tcp };
        self.services.range(first..).take_while(move |(id, _)| id.vip == vip)
    }

    /// How often each backend address is used, over all services.
    pub fn backend_addresses(&self) -> BTreeMap<IpAddr, usize> {
        let mut addresses = BTreeMap::new();
        for backend in self.services.values().flat_map(|service| &service.backends) {
            *addresses.entry(backend.address).or_default() += 1;
        }
        addresses
    }

    /// Puts a new or changed service in its place, with its table.
    fn put(&mut self, mut service: Service) {
        let candidates: Vec<Candidate> = service.backends.iter().map(Backend::candidate).collect();
        let unchanged = self
            .services
            .get(&service.id)
            .filter(|old| old.backends.iter().map(Backend::candidate).eq(candidates.iter().copied()));
        service.table = match unchanged {
            Some(old) => old.table.clone(),
            None => maglev::build(&self.hash_key, self.table_size, &candidates).into(),
        };
        let slots = maglev::slot_counts(&service.table, service.backends.len());
        for (backend, slots) in service.backends.iter_mut().zip(slots) {
            backend.slots = slots;
        }
        self.services.insert(service.id, Arc::new(service));
    }

    fn insert_backend(
        &self,
        service: &mut Service,
        wanted: &BackendSpec,
        ids: &Arc<TargetIds>,
    ) -> Result<usize, ModelError> {
        let address = wanted.address;
        self.check_backend_address(service.id, address)?;
        if let Some(port) = wanted.port.filter(|&port| service.id.port.single() != Some(port)) {
            return Err(ModelError::BackendPort { backend: port, service: service.id.port });
        }
        let place = match service.place(address) {
            Ok(_) => return Err(ModelError::DuplicateBackend { service: service.id, address }),
            Err(_) => service.backends.partition_point(|backend| backend.address < address),
        };
        if service.backends.len() >= maglev::MAX_BACKENDS {
            return Err(ModelError::TooManyBackends(service.id));
        }
        let backend = Backend {
            address,
            weight: checked_weight(wanted.weight)?,
            pinned: wanted.mac.map(checked_mac).transpose()?,
            port: self.port_towards(address).ok_or_else(|| self.off_link(address))?,
            target: Arc::new(ids.take().ok_or(ModelError::TooManyTargets)?),
            slots: 0,
            joined: true,
        };
        service.backends.insert(place, backend);
        Ok(place)
    }

    fn check_vip(&self, id: ServiceId) -> Result<(), ModelError> {
        check_unicast(id.vip)?;
        self.check_no_edge(id.vip)?;
        let others = self.services_of(id.vip).filter(|(other, _)| other.protocol == id.protocol);
        if let Some((other, _)) = others.into_iter().find(|(other, _)| other.port.conflicts(&id.port)) {
            return Err(ModelError::PortsOverlap { service: Box::new(id), other: Box::new(*other) });
        }
        if self.is_own(id.vip) {
            return Err(ModelError::VipIsOwn(id.vip));
        }
        if self.services.values().any(|service| service.place(id.vip).is_ok()) {
            return Err(ModelError::VipIsBackend(id.vip));
        }
        Ok(())
    }

    fn check_backend_address(&self, service: ServiceId, address: IpAddr) -> Result<(), ModelError> {
        check_unicast(address)?;
        if address.is_ipv4() != service.vip.is_ipv4() {
            return Err(ModelError::Family { vip: service.vip, backend: address });
        }
        if self.is_own(address) {
            return Err(ModelError::BackendIsOwn(address));
        }
        if address == service.vip || self.is_vip(address) {
            return Err(ModelError::BackendIsVip(address));
        }
        self.check_no_edge(address)
    }

    /// The first and the last address of an IPv4 network are its own and its broadcast address.
    fn check_no_edge(&self, address: IpAddr) -> Result<(), ModelError> {
        let edge = |net: &IpNet| {
            net.addr().is_ipv4() && net.prefix_len() < 31 && (net.network() == address || net.broadcast() == address)
        };
        let is_edge = self.ports.iter().flat_map(|port| &port.addresses).any(edge);
        if is_edge { Err(ModelError::NotUnicast(address)) } else { Ok(()) }
    }

    fn off_link(&self, address: IpAddr) -> ModelError {
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == address.is_ipv4();
        let networks = self.ports.iter().flat_map(|port| {
            port.addresses.iter().filter(same_family).map(|net| format!("{} ({})", net.trunc(), port.name))
        });
        ModelError::OffLink { address, networks: networks.collect() }
    }
}

impl Backend {
    fn candidate(&self) -> Candidate {
        Candidate { address: self.address, weight: if self.joined { self.weight } else { 0 } }
    }
}

impl Service {
    /// Where a backend stands in `backends`.
    pub fn place(&self, address: IpAddr) -> Result<usize, ModelError> {
        self.backends
            .binary_search_by_key(&address, |backend| backend.address)
            .map_err(|_| ModelError::NoSuchBackend { service: self.id, address })
    }
}

/// What decides: what is asked for, if it goes together with scheduler and VIP, else what the scheduler stands for.
fn flow_hash(wanted: &ServiceAdd) -> Result<FlowHash, ModelError> {
    let bits = if wanted.service.vip.is_ipv4() { 32 } else { 128 };
    match (wanted.scheduler, wanted.hash) {
        (Scheduler::Maglev, None) => Ok(FlowHash::FiveTuple),
        (Scheduler::Sh, None) => Ok(FlowHash::Source { prefix: None }),
        (Scheduler::Sh, Some(FlowHash::FiveTuple)) => Err(ModelError::HashOfSh),
        (_, Some(FlowHash::Source { prefix: Some(prefix) })) if prefix > bits => {
            Err(ModelError::HashPrefix { prefix, bits })
        }
        (_, Some(hash)) => Ok(hash),
    }
}

fn checked_weight(weight: u32) -> Result<u32, ModelError> {
    if weight <= MAX_WEIGHT { Ok(weight) } else { Err(ModelError::Weight(weight)) }
}

fn checked_mac(mac: Mac) -> Result<Mac, ModelError> {
    if mac.is_unicast() { Ok(mac) } else { Err(ModelError::MacNotUnicast(mac)) }
}

/// An address that one host may have, as seen by other hosts.
pub fn check_unicast(address: IpAddr) -> Result<(), ModelError> {
    let broadcast = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let mapped = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast(address) {
        return Err(ModelError::NotUnicast(address));
    }
    if mapped(address) {
        return Err(ModelError::Mapped(address));
    }
    if link_local(address) {
        return Err(ModelError::LinkLocal(address));
    }
    Ok(())
}

/// The link-local address that a MAC address makes (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{backend, ids, model, service};

    #[test]
    fn backends_stand_in_the_order_of_their_addresses() {
        let (mut one, mut other) = (model(), model());
        one.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 3)]), &ids()).unwrap();
        other.add_service(&service("192.168.0.101:80", &[("192.168.0.4", 3)]), &ids()).unwrap();
        let id = service("192.168.0.101:80", &[]).service;
        other.add_backend(&id, &backend("192.168.0.3", 1), &ids()).unwrap();
        assert!(other.awaits(|_| true));
        other.join(|_| true);
        assert_eq!(one.services[&id].table, other.services[&id].table);
    }

    #[test]
    fn an_edit_that_leaves_weights_alone_keeps_the_table() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &ids()).unwrap();
        let id = service("192.168.0.101:80", &[]).service;
        let before = model.services[&id].table.clone();
        let mac = Some(MacChange::Pin("02:00:00:00:00:03".parse().unwrap()));
        let address = "192.168.0.3".parse().unwrap();
        model.edit_backend(&BackendEdit { service: id, address, weight: None, mac }).unwrap();
        assert!(Arc::ptr_eq(&model.services[&id].table, &before));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let add = |vip: &str, backends: &[(&str, u32)]| {
            let mut model = model();
            let error = model.add_service(&service(vip, backends), &ids()).unwrap_err();
            assert!(model.services.is_empty());
            error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
        };
        for (vip, backends, says) in [
            ("192.168.0.2:80", &[][..], "own address"),
            ("224.0.0.1:80", &[], "not an address that a single host"),
            ("[::ffff:192.0.2.1]:80", &[], "IPv4"),
            ("[fe80::1]:80", &[], "link-local"),
            ("192.168.0.101:80", &[("10.9.9.9", 1)], "192.168.0.0/24 (lan0)"),
            ("192.168.0.101:80", &[("192.168.0.3", 65_536)], "65535"),
            ("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.3", 2)], "already"),
            ("192.168.0.101:80", &[("fd00::3", 1)], "family"),
            ("192.168.0.101:80", &[("192.168.0.101", 1)], "is a VIP"),
            ("192.168.0.101:80", &[("192.168.0.2", 1)], "own address"),
            ("192.168.0.101:80", &[("192.168.0.255", 1)], "not an address that a single host"),
        ] {
            assert!(add(vip, backends).contains(says), "{vip} {backends:?}: {}", add(vip, backends));
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = service("192.168.0.2:80", &[("10.9.9.9", 1), ("192.168.0.3", 1), ("192.168.0.4", 99_999)]);
        assert_eq!(model().add_service(&wrong, &ids()).unwrap_err().len(), 3);
    }

    #[test]
    fn a_backends_port_is_the_services() {
        let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
        wanted.backends[0].port = Some(8080);
        let errors = model().add_service(&wanted, &ids()).unwrap_err();
        assert!(errors[0].to_string().contains("8080"), "{errors:?}");
        wanted.backends[0].port = Some(80);
        assert!(model().add_service(&wanted, &ids()).is_ok());
    }

    #[test]
    fn services_of_one_vip_may_overlap_where_one_is_more_specific() {
        let mut model = model();
        let mut add = |vip| model.add_service(&service(vip, &[]), &ids());
        for vip in ["192.168.0.101:80", "192.168.0.101:any", "192.168.0.101:1-100", "192.168.0.102:80"] {
            assert_eq!(add(vip), Ok(()), "{vip}");
        }
        for vip in ["192.168.0.101:80,443", "192.168.0.101:50-149", "192.168.0.101:79,80"] {
            let errors = add(vip);
            let overlaps = errors.as_ref().is_err_and(|errors| errors[0].to_string().contains("overlap"));
            assert_eq!(overlaps, vip != "192.168.0.101:79,80", "{vip}: {errors:?}");
        }
    }

    #[test]
    fn a_vip_is_found_whatever_its_ports() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:443", &[]), &ids()).unwrap();
        assert!(model.is_vip("192.168.0.101".parse().unwrap()));
        assert!(!model.is_vip("192.168.0.100".parse().unwrap()));
        assert!(!model.is_vip("192.168.0.102".parse().unwrap()));
    }

    #[test]
    fn the_most_specific_network_wins() {
        let port = |name: &str, net: &str| Port { name: name.into(), addresses: vec![net.parse().unwrap()] };
        let model = Model::new([0; 16], 31, vec![port("wide", "10.0.0.1/8"), port("narrow", "10.1.0.1/16")]);
        assert_eq!(model.port_towards("10.1.0.9".parse().unwrap()), Some(1));
        assert_eq!(model.port_towards("10.2.0.9".parse().unwrap()), Some(0));
        assert_eq!(model.port_towards("11.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn link_local_addresses_come_from_the_mac() {
        assert_eq!(link_local("52:54:00:12:34:56".parse().unwrap()).to_string(), "fe80::5054:ff:fe12:3456");
    }
}
