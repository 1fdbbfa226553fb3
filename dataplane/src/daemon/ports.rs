//! The ports: opened, and as the slow path and the control API see them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ctl::Mac;
use ctl::answer::XdpSockets;
use tracing::{info, warn};

use crate::api::{PortFacts, PortLive};
use crate::base::ids::PortNo;
use crate::config::Config;
use crate::daemon::eal::Dpdk;
use crate::daemon::followed::Followed;
use crate::dpdk::{Device, Port, PortSettings, PortStats, QueuePair, XdpStats};
use crate::slow::PortControl;
use crate::slow::port_watch::{self, PortCounts};
use crate::state::networks::PortLink;

/// The open ports, in the order of the configuration.
pub(super) struct Ports {
    names: Vec<String>,
    open: Arc<[Port]>,
}

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
    /// Opens the ports. Returns each worker's queue pairs, one of each port, too.
    pub(super) fn open(
        config: &Config,
        mtus: &[Option<u16>],
        dpdk: &Dpdk,
    ) -> anyhow::Result<(Ports, Vec<Vec<QueuePair>>)> {
        let workers = config.director.workers.len();
        let queues = u16::try_from(workers).context("There are more workers than a NIC can have queues")?;
        let mut by_worker: Vec<Vec<QueuePair>> = (0..workers).map(|_| Vec::new()).collect();
        let mut ports = Vec::new();
        for (index, configured) in config.ports.iter().enumerate() {
            let (device, vlan_strip) = (configured.device.clone(), configured.vlan_strip);
            let settings = PortSettings { index, device, queues, vlan_strip, mtu: mtus[index] };
            warn_of_kernel_addresses(&configured.device);
            let (port, pairs) = Port::open(&dpdk.eal, dpdk.buffers.of(index), &settings)
                .with_context(|| format!("Port {} does not open", configured.name))?;
            info!(
                device = %configured.device,
                driver = port.driver(),
                mac = %port.mac(),
                mtu = port.mtu(),
                queues,
                "port {} is open",
                configured.name
            );
            port.warnings().iter().for_each(|warning| warn!("port {}: {warning}", configured.name));
            for (worker, pair) in by_worker.iter_mut().zip(pairs) {
                worker.push(pair);
            }
            ports.push(port);
        }
        let names = config.ports.iter().map(|port| port.name.clone()).collect();
        Ok((Ports { names, open: ports.into() }, by_worker))
    }

    /// The ports, to be asked for their links.
    pub(super) fn open_ports(&self) -> Arc<[Port]> {
        self.open.clone()
    }

    /// As they are to be followed.
    pub(super) fn followed(&self, now: Instant) -> Vec<Followed> {
        let followed = self.names.iter().zip(&*self.open).map(|(name, port)| {
            let link = PortLink { up: port.link().up, ..PortLink::new(port.mac(), port.mtu()) };
            Followed::new(name, link, port.most_mtu(), interface(port), now)
        });
        followed.collect()
    }

    /// As the slow path controls them.
    pub(super) fn control(&self) -> Box<dyn PortControl> {
        Box::new(Control(self.open.clone()))
    }

    /// As the slow path watches them.
    pub(super) fn watched(&self) -> port_watch::Ports {
        let (names, open) = (self.names.clone(), self.open.clone());
        Box::new(move || names.iter().zip(&*open).map(|(name, port)| counts(name, &port.stats())).collect())
    }

    /// As the API tells of them.
    pub(super) fn facts(&self) -> Vec<PortFacts> {
        self.names.iter().enumerate().map(|(number, name)| port_facts(name, &self.open, number)).collect()
    }
}

/// The name and the index of the Linux interface that the kernel must be asked about.
fn interface(port: &Port) -> Option<(String, u32)> {
    let index = port.interface()?;
    let name = match port.device() {
        Device::Interface { name, .. } => name.clone(),
        _ => nix::net::if_::if_indextoname(index).ok()?.into_string().ok()?,
    };
    Some((name, index))
}

fn counts(name: &str, stats: &PortStats) -> PortCounts {
    PortCounts {
        name: name.into(),
        missed: stats.rx_missed,
        refused: stats.xdp.map_or([0, 0], |xdp| [xdp.rx_invalid, xdp.tx_invalid]),
        given: stats.tx_given,
        left: stats.tx_left,
        down: stats.down,
    }
}

struct Control(Arc<[Port]>);

impl PortControl for Control {
    fn listen(&mut self, port: PortNo, groups: &[Mac]) {
        let port = &self.0[port.index()];
        if let Err(problem) = port.listen(groups) {
            warn!("{}: takes no multicast ({problem}): neighbor discovery for IPv6 addresses may fail", port.device());
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

fn sockets(stats: XdpStats) -> XdpSockets {
    let XdpStats { rx_dropped, rx_ring_full, fill_ring_empty, rx_invalid, tx_invalid } = stats;
    XdpSockets { rx_dropped, rx_ring_full, fill_ring_empty, rx_invalid, tx_invalid }
}

/// The API's threads end with the process, so they must not be what keeps a port open.
fn port_facts(name: &str, ports: &Arc<[Port]>, number: usize) -> PortFacts {
    let (port, weak) = (&ports[number], Arc::downgrade(ports));
    let live = move || {
        let Some(ports) = weak.upgrade() else { return PortLive::default() };
        let (link, stats) = (ports[number].link(), ports[number].stats());
        PortLive {
            speed_mbps: link.speed_mbps,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_mbuf: stats.rx_no_mbuf,
            xdp: stats.xdp.map(sockets),
        }
    };
    PortFacts {
        name: name.into(),
        device: port.device().to_string(),
        driver: port.driver().into(),
        queues: port.queues(),
        warnings: port.warnings().to_vec(),
        live: Box::new(live),
    }
}
