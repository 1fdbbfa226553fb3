//! The ports: opened, and as the slow path and the control API see them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ctl::Mac;
use tracing::warn;

use crate::api::{PortFacts, PortLive};
use crate::base::ids::PortNo;
use crate::config::Config;
use crate::daemon::eal::Dpdk;
use crate::daemon::place::{Opened, Place, Properties};
use crate::dpdk::{Device, PortSettings, QueuePair};
use crate::slow::PortControl;

/// The ports, in the order of the configuration.
pub(super) struct Ports(Arc<[Place]>);

/// Each device must be there and free for DPDK. Returns what the ports' MTUs are to be: configured or, of Linux interfaces, those that
/// they have. `None`: the device's own.
pub(super) fn check(config: &Config) -> anyhow::Result<Vec<Option<u16>>> {
    for port in &config.ports {
        port.device.check().with_context(|| format!("Port {} does not open", port.name))?;
    }
    let mtus = config.ports.iter().map(|port| Ok(port.device.interface_mtu(port.mtu)?.or(port.mtu)));
    mtus.collect()
}

impl Ports {
    /// Opens the ports. Returns each worker's queue pairs, one of each port, too, and what is known of the ports.
    pub(super) fn open(
        config: &Config,
        mtus: &[Option<u16>],
        dpdk: &Dpdk,
    ) -> anyhow::Result<(Ports, Vec<Vec<QueuePair>>, Vec<Properties>)> {
        let workers = config.director.workers.len();
        let queues = u16::try_from(workers).context("There are more workers than a NIC can have queues")?;
        let mut by_worker: Vec<Vec<QueuePair>> = (0..workers).map(|_| Vec::new()).collect();
        let (mut places, mut opened) = (Vec::new(), Vec::new());
        for (index, port) in config.ports.iter().enumerate() {
            let (device, vlan_strip) = (port.device.clone(), port.vlan_strip);
            let settings = PortSettings { index, device, queues, vlan_strip, mtu: port.mtu };
            warn_of_kernel_addresses(&port.device);
            let place = Place::new(&port.name, settings, dpdk.buffers.of(index).clone(), dpdk.eal.clone());
            let fails = || format!("Port {} does not open", port.name);
            let Opened { queues: pairs, properties } = place.open(mtus[index]).with_context(fails)?;
            by_worker.iter_mut().zip(pairs).for_each(|(worker, pair)| worker.push(pair));
            places.push(place);
            opened.push(properties);
        }
        Ok((Ports(places.into()), by_worker, opened))
    }

    /// The places of the ports.
    pub(super) fn places(&self) -> Arc<[Place]> {
        self.0.clone()
    }

    /// As the slow path controls them.
    pub(super) fn control(&self) -> Box<dyn PortControl> {
        let missed = RefCell::new(vec![None; self.0.len()]);
        Box::new(Control { places: self.places(), missed })
    }

    /// As the API tells of them.
    pub(super) fn facts(&self) -> Vec<PortFacts> {
        (0..self.0.len()).map(|number| port_facts(&self.0, number)).collect()
    }
}

/// A port is asked for its counters no more often than this: some drivers take their time.
const MISSED_AGE: Duration = Duration::from_millis(50);

struct Control {
    places: Arc<[Place]>,
    /// By port, what was missed, and when that was asked.
    missed: RefCell<Vec<Option<(Instant, u64)>>>,
}

impl PortControl for Control {
    fn listen(&mut self, port: PortNo, groups: &[Mac]) {
        self.places[port.index()].listen(groups);
    }

    fn missed(&self, port: PortNo) -> u64 {
        let known = &mut self.missed.borrow_mut()[port.index()];
        match *known {
            Some((asked, missed)) if asked.elapsed() < MISSED_AGE => missed,
            before => {
                let before = before.map_or(0, |(_, missed)| missed);
                let missed = self.places[port.index()].missed().unwrap_or(before);
                *known = Some((Instant::now(), missed));
                missed
            }
        }
    }
}

/// With an address of its own there, the kernel takes part in what is the director's alone: it answers ARP, and
/// refuses connections.
fn warn_of_kernel_addresses(device: &Device) {
    let Device::Interface { name, .. } = device else { return };
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    for storage in interfaces.filter(|interface| interface.interface_name == *name).filter_map(|i| i.address) {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = storage.as_sockaddr_in6().map(|address| address.ip()).filter(|ip| !ip.is_unicast_link_local());
        if let Some(address) = v4.or(v6.map(IpAddr::V6)) {
            warn!("{name} has the address {address} in the kernel, too: remove it (ip address flush dev {name})");
        }
    }
}

/// The API's threads end with the process, so they must not be what keeps a port open.
fn port_facts(places: &Arc<[Place]>, number: usize) -> PortFacts {
    let (place, weak) = (&places[number], Arc::downgrade(places));
    let live = move || weak.upgrade().map_or_else(PortLive::default, |places| places[number].live());
    PortFacts {
        name: place.name.clone(),
        device: place.device().to_string(),
        queues: place.queues(),
        live: Box::new(live),
    }
}
