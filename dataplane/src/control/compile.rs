//! The compiler: from the model (what the operator wants) and the MAC addresses to the snapshot that workers forward
//! by.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use ctl::{FlowHash, Mac, Tracking};
use ipnet::{IpNet, Ipv6Net};

use crate::base::clock::idle_ticks;
use crate::base::ids::{NetworkNo, ServiceNo};
use crate::control::model::{Model, Network, Service};
use crate::state::vips::VipMap;
use crate::state::{
    networks::{LocalNetwork, PortLink, PortVlans},
    snapshot::{Owner, ServiceEntry, Snapshot, Target},
};
use crate::wire::flow::FlowHasher;
use crate::wire::ipv6::link_local;

/// A snapshot, and the model that it was made from.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The model.
    pub model: Arc<Model>,
    /// The snapshot, which workers forward by.
    pub snapshot: Arc<Snapshot>,
}

impl Deref for Compiled {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// Makes a snapshot from a model. `resolve` returns a backend's MAC address, if it is known. `ports` are the ports that
/// the networks are on.
pub fn compile(
    model: Arc<Model>,
    resolve: impl Fn(IpAddr) -> Option<Mac>,
    ports: &[PortLink],
    generation: u64,
) -> Compiled {
    compile_from(None, model, resolve, ports, generation)
}

/// The same, but copies what has not changed from the previous snapshot. `moved` are the backends whose MAC addresses
/// have changed since. The networks must be the same. If a port has changed, all of the snapshot is made anew.
pub fn recompile(
    previous: &Compiled,
    moved: &[IpAddr],
    model: Arc<Model>,
    resolve: impl Fn(IpAddr) -> Option<Mac>,
    ports: &[PortLink],
    generation: u64,
) -> Compiled {
    let same = moved.len() <= MANY_MOVED && *previous.ports == *ports;
    let previous = Some(Previous { compiled: previous, moved }).filter(|_| same);
    compile_from(previous, model, resolve, ports, generation)
}

/// If more MAC addresses have changed than this, all of them are looked up again.
const MANY_MOVED: usize = 256;

/// The previous snapshot, from which unchanged parts are copied, and the backends whose MAC addresses have changed
/// since.
#[derive(Clone, Copy)]
struct Previous<'a> {
    compiled: &'a Compiled,
    moved: &'a [IpAddr],
}

fn compile_from(
    previous: Option<Previous<'_>>,
    model: Arc<Model>,
    resolve: impl Fn(IpAddr) -> Option<Mac>,
    ports: &[PortLink],
    generation: u64,
) -> Compiled {
    let networks: Box<[LocalNetwork]> = model.networks.iter().map(|network| local_network(network, ports)).collect();
    let mut vlans: Box<[PortVlans]> = ports.iter().map(|_| PortVlans::default()).collect();
    for (index, network) in networks.iter().enumerate() {
        vlans[network.port.index()].insert(network.tags, NetworkNo::new(index));
    }

    let mut parts = Parts::new(&model, &networks, previous.map(|previous| previous.compiled));
    let old = previous.map(|Previous { compiled, .. }| compiled.model.services.values().zip(&compiled.services));
    let mut old = old.map(Iterator::enumerate);
    // Bound: the services of the previous model.
    let mut old = std::iter::from_fn(|| old.as_mut()?.next()).peekable();
    for service in model.services.values() {
        // Bound: each round takes a service of the previous model.
        while let Some((_, (gone, _))) = old.next_if(|(_, (old, _))| old.id < service.id) {
            parts.forget(gone);
        }
        let before = old.next_if(|(_, (old, _))| old.id == service.id);
        match (previous, before) {
            (Some(previous), Some((number, (same, entry)))) if Arc::ptr_eq(same, service) => {
                parts.take_over(service, number, entry, previous, &resolve);
            }
            (Some(previous), Some((_, (other, entry)))) => {
                parts.forget(other);
                parts.add(service, |number| unchanged_target(previous, other, entry, service, number), &resolve);
            }
            _ => parts.add(service, |_| None, &resolve),
        }
    }
    old.for_each(|(_, (gone, _))| parts.forget(gone));
    let Parts { services, targets, owners, .. } = parts;

    let snapshot = Snapshot {
        generation,
        hasher: FlowHasher::new(&model.hash_key),
        vips: vip_map(&model, &networks, previous.map(|previous| previous.compiled)),
        services: services.into(),
        targets: targets.into(),
        owners: owners.into(),
        backends: model.backend_uses.clone(),
        networks,
        ports: ports.into(),
        vlans,
        source: model.clone(),
    };
    Compiled { model, snapshot: Arc::new(snapshot) }
}

/// The previous target of a changed service's backend, if nothing that the target depends on has changed.
fn unchanged_target(
    previous: Previous<'_>,
    old: &Service,
    entry: &ServiceEntry,
    service: &Service,
    number: usize,
) -> Option<Target> {
    let backend = &service.backends[number];
    // In most cases, the backend has the same number as before.
    let same = old.backends.get(number).filter(|old| Arc::ptr_eq(&old.target, &backend.target))?;
    let known = same.pinned == backend.pinned && !previous.moved.contains(&backend.address);
    known.then(|| previous.compiled.targets[entry.first_target + number])
}

/// The map of VIPs and own addresses. It is copied from the previous snapshot if the services are the same.
fn vip_map(model: &Model, networks: &[LocalNetwork], previous: Option<&Compiled>) -> VipMap {
    if let Some(previous) = previous.filter(|previous| previous.model.services.keys().eq(model.services.keys())) {
        return previous.vips.clone();
    }
    let mut vips = VipMap::default();
    for (index, id) in model.services.keys().enumerate() {
        vips.insert_service(*id, ServiceNo::new(index));
    }
    for network in networks {
        for address in &network.addresses {
            vips.insert_own(address.addr());
            // A network of two addresses has no broadcast address (RFC 3021 §2.1).
            if let IpNet::V4(net) = address
                && net.prefix_len() < 31
            {
                vips.insert_broadcast(net.network());
                vips.insert_broadcast(net.broadcast());
            }
        }
    }
    vips
}

/// The parts of a snapshot to which the services are added, one after the other.
struct Parts<'a> {
    model: &'a Model,
    networks: &'a [LocalNetwork],
    services: Vec<ServiceEntry>,
    targets: Vec<Target>,
    owners: Vec<Owner>,
}

impl<'a> Parts<'a> {
    fn new(model: &'a Model, networks: &'a [LocalNetwork], previous: Option<&Compiled>) -> Self {
        Parts {
            model,
            networks,
            services: Vec::with_capacity(model.services.len()),
            // Room for some more than there were.
            targets: Vec::with_capacity(previous.map_or(0, |previous| previous.targets.len() + 64)),
            owners: previous.map_or_else(Vec::new, |previous| previous.owners.to_vec()),
        }
    }

    /// Adds a service that has not changed, and had this number. Some of its backends may have other MAC addresses.
    fn take_over(
        &mut self,
        service: &Service,
        number: usize,
        entry: &ServiceEntry,
        previous: Previous<'_>,
        resolve: &impl Fn(IpAddr) -> Option<Mac>,
    ) {
        let first_target = self.targets.len();
        let moved_by = first_target != entry.first_target || self.services.len() != number;
        let end = entry.first_target + entry.backends;
        self.targets.extend_from_slice(&previous.compiled.targets[entry.first_target..end]);
        self.services.push(ServiceEntry { first_target, ..entry.clone() });
        for &address in previous.moved {
            if let Ok(number) = service.number_of(address) {
                let number = number.index();
                self.targets[first_target + number] = self.target(service, number, resolve);
            }
        }
        if moved_by {
            self.set_owners(service, first_target);
        }
    }

    /// Adds a new or changed service. `known` returns the target of a backend by its number, if it has not changed.
    fn add(
        &mut self,
        service: &Service,
        known: impl Fn(usize) -> Option<Target>,
        resolve: &impl Fn(IpAddr) -> Option<Mac>,
    ) {
        let first_target = self.targets.len();
        let handover = service.handover.as_deref();
        let had = handover.map(|handover| &handover.had);
        let had = had.or(service.outage.as_ref().map(|_| self.model.no_backends()));
        let (source_bits, tracks) = (source_bits(service), service.tracking == Tracking::All);
        self.services.push(ServiceEntry {
            table: service.table.clone(),
            had: had.cloned(),
            first_target,
            backends: service.backends.len(),
            counter: service.counter.number(),
            source_bits,
            tracks,
            needs_more: had.is_some() || tracks || source_bits.is_some(),
            schedule: service.schedule.clone(),
            cursors: service.cursors.clone(),
            outage: service.outage.clone(),
            unknown_is_new: service.unknown_is_new(),
            away: handover.and_then(|handover| handover.away.clone()),
        });
        for number in 0..service.backends.len() {
            let target = known(number).unwrap_or_else(|| self.target(service, number, resolve));
            self.targets.push(target);
        }
        self.set_owners(service, first_target);
    }

    fn target(&self, service: &Service, number: usize, resolve: &impl Fn(IpAddr) -> Option<Mac>) -> Target {
        let backend = &service.backends[number];
        let mac = backend.pinned.or_else(|| resolve(backend.address));
        let network = &self.networks[backend.network.index()];
        Target::new(mac, network, backend.target.publish(), service.counter.number())
    }

    /// Sets the owners of the last service, whose backends begin at that target.
    fn set_owners(&mut self, service: &Service, first_target: usize) {
        let idle_ticks = idle_ticks(service.idle_ms);
        let service_number = u16::try_from(self.services.len() - 1).expect("below MAX_SERVICES");
        for (number, backend) in service.backends.iter().enumerate().filter(|(_, backend)| !backend.is_gone()) {
            let out = if service.serves(backend) { 0 } else { Owner::OUT };
            let counter = self.targets[first_target + number].counter.index();
            if self.owners.len() <= counter {
                self.owners.resize(counter + 1, Owner::NONE);
            }
            let target = u32::try_from(first_target + number).expect("below MAX_TARGETS");
            self.owners[counter] = Owner { target: target | out, service: service_number, idle_ticks };
        }
    }

    /// Removes the owners of a service that is gone or has changed. The old snapshot still holds the counters of its
    /// backends, so no other backend has them yet.
    fn forget(&mut self, service: &Service) {
        for backend in &service.backends {
            if let Some(owner) = self.owners.get_mut(backend.target.number().index()) {
                *owner = Owner::NONE;
            }
        }
    }
}

/// How many leading bits of the client's address choose the backend. `None`: the whole 5-tuple does.
fn source_bits(service: &Service) -> Option<u8> {
    match service.hash {
        FlowHash::FiveTuple => None,
        FlowHash::Source { prefix } => Some(prefix.unwrap_or(if service.id.vip.is_ipv4() { 32 } else { 128 })),
    }
}

/// A network with its configured addresses, and the link-local address that every IPv6 interface has (RFC 4291 §2.1).
fn local_network(network: &Network, ports: &[PortLink]) -> LocalNetwork {
    let link = ports[network.port.index()];
    let link_local = Ipv6Net::new(link_local(link.mac), 64).expect("64 is a prefix length");
    let mut addresses = network.addresses.clone();
    addresses.push(IpNet::V6(link_local));
    LocalNetwork { port: network.port, tags: network.tags, link, addresses: addresses.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{PORT, backend_mac, leases, model, service};

    /// A service in front of the others moves their numbers, even if it has no backends that would move their targets.
    #[test]
    fn what_is_copied_from_the_previous_snapshot_is_as_if_it_were_made_anew() {
        let leases = leases();
        let mut model = model();
        for vip in ["192.168.0.101:80", "192.168.0.102:80", "192.168.0.103:80"] {
            model.add_service(&service(vip, &[("192.168.0.3", 1), ("192.168.0.4", 1)]), &leases).unwrap();
        }
        let resolve = |address| Some(backend_mac(address));
        let before = compile(Arc::new(model.clone()), resolve, &[PORT], 1);
        model.add_service(&service("192.168.0.100:80", &[]), &leases).unwrap();
        model.remove_service(&"192.168.0.102:80".parse().unwrap()).unwrap();
        model.add_service(&service("192.168.0.99:80", &[("192.168.0.5", 1)]), &leases).unwrap();
        let model = Arc::new(model);
        let copied = recompile(&before, &[], model.clone(), resolve, &[PORT], 2);
        let made = compile(model, resolve, &[PORT], 2);
        assert_eq!(copied.targets, made.targets);
        for (counter, owner) in made.owners.iter().enumerate() {
            assert_eq!(copied.owners[counter], *owner);
            let service = &made.services[usize::from(owner.service)];
            let targets = service.first_target..service.first_target + service.backends;
            assert!(*owner == Owner::NONE || targets.contains(&((owner.target & !Owner::OUT) as usize)));
        }
        let owned = |compiled: &Compiled| compiled.owners.iter().filter(|owner| **owner != Owner::NONE).count();
        assert_eq!((owned(&copied), owned(&made)), (5, 5));
    }
}
