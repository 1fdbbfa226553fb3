//! Addresses in the model: which addresses a VIP and a backend may have, and which network an address lies in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::{Ports, Protocol, ServiceId};
use ipnet::IpNet;

use crate::base::ids::NetworkNo;
use crate::control::model::changes::Model;
use crate::control::model::checks::check_unicast;
use crate::control::model::error::ModelError;
use crate::control::model::network::Network;
use crate::control::model::service::Service;

impl Model {
    /// The network of this number.
    pub fn network(&self, network: NetworkNo) -> &Network {
        &self.networks[network.index()]
    }

    pub(super) fn check_vip(&self, id: ServiceId) -> Result<(), ModelError> {
        check_unicast(id.vip)?;
        self.check_no_edge(id.vip)?;
        let others = self.services_of(id.vip).filter(|(other, _)| other.protocol == id.protocol);
        if let Some((other, _)) = others.into_iter().find(|(other, _)| other.port.conflicts(&id.port)) {
            return Err(ModelError::PortsOverlap { service: Box::new(id), other: Box::new(*other) });
        }
        if self.is_own(id.vip) {
            return Err(ModelError::VipIsOwn(id.vip));
        }
        if self.backend_uses.contains(id.vip) {
            return Err(ModelError::VipIsBackend(id.vip));
        }
        Ok(())
    }

    pub(super) fn check_backend_address(&self, service: ServiceId, address: IpAddr) -> Result<(), ModelError> {
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

    /// Refuses the first and the last address of an IPv4 network: the network's own and the broadcast address.
    pub(super) fn check_no_edge(&self, address: IpAddr) -> Result<(), ModelError> {
        let edge = |net: &IpNet| {
            net.addr().is_ipv4() && net.prefix_len() < 31 && (net.network() == address || net.broadcast() == address)
        };
        let is_edge = self.networks.iter().flat_map(|network| &network.addresses).any(edge);
        if is_edge { Err(ModelError::NotUnicast(address)) } else { Ok(()) }
    }

    pub(super) fn off_link(&self, address: IpAddr) -> ModelError {
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == address.is_ipv4();
        let networks = self.networks.iter().flat_map(|network| {
            network.addresses.iter().filter(same_family).map(|net| format!("{} ({})", net.trunc(), network.name()))
        });
        ModelError::OffLink { address, networks: networks.collect() }
    }

    /// The most specific network that an address lies in.
    pub fn network_towards(&self, address: IpAddr) -> Option<NetworkNo> {
        let prefixes = self
            .networks
            .iter()
            .enumerate()
            .flat_map(|(index, network)| network.addresses.iter().map(move |net| (index, net)));
        prefixes
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|&(index, net)| (net.prefix_len(), std::cmp::Reverse(index)))
            .map(|(index, _)| NetworkNo::new(index))
    }

    /// Whether an address is one of the director's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.addresses.iter().any(|net| net.addr() == address))
    }

    /// Whether a service has this VIP.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.services_of(address).next().is_some()
    }

    /// The services that have this VIP.
    pub(super) fn services_of(&self, vip: IpAddr) -> impl Iterator<Item = (&ServiceId, &Arc<Service>)> {
        let first = ServiceId { vip, port: Ports::NONE, protocol: Protocol::Tcp };
        self.services.range(first..).take_while(move |(id, _)| id.vip == vip)
    }

    /// The number of services that have each backend address.
    pub fn backend_addresses(&self) -> BTreeMap<IpAddr, usize> {
        let mut addresses = BTreeMap::new();
        for backend in self.services.values().flat_map(|service| &service.backends) {
            *addresses.entry(backend.address).or_default() += 1;
        }
        addresses
    }
}
