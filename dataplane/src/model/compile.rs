//! From what the operator asked for to what workers forward by.

use std::net::IpAddr;
use std::sync::Arc;

use ctl::{FlowHash, Mac, Tracking};
use ipnet::{IpNet, Ipv6Net};

use super::{Model, Service, link_local};
use crate::exceptions;
use crate::flow::FlowHasher;
use crate::snapshot::{LocalNetwork, Place, PortLink, PortVlans, ServiceEntry, Snapshot, Target, VipMap};

/// Makes a snapshot of a model. `resolve` knows the backends' MAC addresses, `ports` are those that the networks are on.
pub fn compile(
    model: Arc<Model>,
    resolve: impl Fn(IpAddr) -> Option<Mac>,
    ports: &[PortLink],
    generation: u64,
) -> Snapshot {
    let networks: Box<[LocalNetwork]> = model.networks.iter().map(|network| local_network(network, ports)).collect();
    let mut vlans: Box<[PortVlans]> = ports.iter().map(|_| PortVlans::default()).collect();
    for (place, network) in networks.iter().enumerate() {
        vlans[network.port].insert(network.tags, place);
    }

    let mut vips = VipMap::default();
    let mut services = Vec::with_capacity(model.services.len());
    let mut targets = Vec::new();
    let mut places = Vec::new();
    for (number, service) in (0..).zip(model.services.values()) {
        vips.insert_service(service.id, number);
        services.push(ServiceEntry {
            table: service.table.clone(),
            before: service.handover.as_ref().map(|handover| handover.before.clone()),
            first_target: targets.len(),
            backends: service.backends.len(),
            counter: service.counter.place(),
            source_bits: source_bits(service),
            tracks: service.tracking == Tracking::All,
            simple: service.handover.is_none() && service.tracking != Tracking::All && source_bits(service).is_none(),
            schedule: service.schedule.clone(),
            cursors: service.cursors.clone(),
        });
        for (target, backend) in (targets.len()..).zip(&service.backends).filter(|(_, backend)| service.serves(backend))
        {
            let place = backend.target.publish() as usize;
            if places.len() <= place {
                places.resize(place + 1, Place::EMPTY);
            }
            let target = u32::try_from(target).expect("below MAX_TARGETS");
            places[place] = Place { target, idle_ticks: exceptions::idle_ticks(service.idle_ms) };
        }
        targets.extend(service.backends.iter().map(|backend| {
            let mac = backend.pinned.or_else(|| resolve(backend.address));
            let target = Target::new(mac, &networks[backend.network], backend.target.publish());
            Target { service: service.counter.place(), ..target }
        }));
    }
    for network in &networks {
        for address in &network.addresses {
            vips.insert_own(address.addr());
        }
    }
    Snapshot {
        generation,
        hasher: FlowHasher::new(&model.hash_key),
        vips,
        services: services.into(),
        targets: targets.into(),
        places: places.into(),
        networks,
        vlans,
        model,
    }
}

/// The leading bits of the client's address that decide, where nothing else does.
fn source_bits(service: &Service) -> Option<u8> {
    match service.hash {
        FlowHash::FiveTuple => None,
        FlowHash::Source { prefix } => Some(prefix.unwrap_or(if service.id.vip.is_ipv4() { 32 } else { 128 })),
    }
}

/// The configured addresses, and the link-local one that every IPv6 interface has (RFC 4291 §2.1).
fn local_network(network: &super::Network, ports: &[PortLink]) -> LocalNetwork {
    let link = ports[network.port];
    let link_local = Ipv6Net::new(link_local(link.mac), 64).expect("64 is a prefix length");
    let mut addresses = network.addresses.clone();
    addresses.push(IpNet::V6(link_local));
    LocalNetwork { port: network.port, tags: network.tags, link, addresses: addresses.into() }
}
