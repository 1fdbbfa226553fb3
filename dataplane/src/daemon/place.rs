//! A port's place: what stays of a port when its device goes away, and takes the one that comes in its stead.

use std::sync::{Arc, Mutex, MutexGuard};

use ctl::Mac;
use ctl::answer::XdpSockets;
use tracing::info;

use crate::api::PortLive;
use crate::dpdk::{Device, Driver, Eal, Mempool, Port, PortError, PortSettings, PortStats, QueuePair, XdpStats};
use crate::state::networks::PortLink;

/// So many times in a row, an interface that was reached by AF_XDP is tried so again, before it is reached as the configuration lets it:
/// the kernel may take a moment to let go of what was there before.
const SAME_DRIVER: u32 = 3;

/// A port of the configuration. Its device may be away.
pub(super) struct Place {
    /// The port's name.
    pub(super) name: String,
    settings: PortSettings,
    pool: Arc<Mempool>,
    eal: Arc<Eal>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    port: Option<Port>,
    /// The driver that runs it, or that ran it last.
    driver: String,
    /// How often the device could not be opened, since it was open last.
    failures: u32,
    /// What the ports have counted that were open here before.
    before: PortStats,
    /// Why it cannot be used, for the operator.
    trouble: Option<String>,
}

impl State {
    fn stats(&self) -> PortStats {
        self.port.as_ref().map_or(self.before, |port| self.before + port.stats())
    }
}

/// A port that has just been opened.
pub(super) struct Opened {
    /// A queue pair for each worker.
    pub(super) queues: Vec<QueuePair>,
    pub(super) properties: Properties,
}

/// What is known of a port that has just been opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) link: PortLink,
    /// The largest MTU that it was opened for.
    pub(super) most_mtu: u16,
    /// The name and the index of the Linux interface that the kernel must be asked about.
    pub(super) interface: Option<(String, u32)>,
    /// Whether it is to be opened anew after its interface was administratively down: frames that it had then would be sent late.
    pub(super) keeps_frames: bool,
}

impl Place {
    /// A place whose device is to be opened.
    pub(super) fn new(name: &str, settings: PortSettings, pool: Arc<Mempool>, eal: Arc<Eal>) -> Self {
        Place { name: name.into(), settings, pool, eal, state: Mutex::default() }
    }

    /// The device, as configured.
    pub(super) fn device(&self) -> &Device {
        &self.settings.device
    }

    /// Queue pairs that the port has while it is open.
    pub(super) fn queues(&self) -> u16 {
        self.settings.queues
    }

    /// Opens the device for the first time, at this MTU.
    pub(super) fn open(&self, mtu: Option<u16>) -> Result<Opened, PortError> {
        self.open_as(PortSettings { mtu, ..self.settings.clone() })
    }

    /// Opens the device that has come in the stead of the last one.
    pub(super) fn open_again(&self) -> Result<Opened, PortError> {
        let device = self.device_again();
        let opened = device.check().and_then(|()| {
            let mtu = device.interface_mtu(self.settings.mtu)?.or(self.settings.mtu);
            // The buffers are what they are.
            let mtu = mtu.map(|mtu| device.most_mtu_of_buffers(mtu, self.pool.room()));
            self.open_as(PortSettings { mtu, device, ..self.settings.clone() })
        });
        let mut state = self.state();
        state.failures = if opened.is_ok() { 0 } else { state.failures.saturating_add(1) };
        drop(state);
        opened
    }

    fn device_again(&self) -> Device {
        let state = self.state();
        match self.device() {
            Device::Interface { name, driver: Driver::Auto }
                if state.driver == "net_af_xdp" && state.failures < SAME_DRIVER =>
            {
                Device::Interface { name: name.clone(), driver: Driver::AfXdp }
            }
            device => device.clone(),
        }
    }

    fn open_as(&self, settings: PortSettings) -> Result<Opened, PortError> {
        let (port, queues) = Port::open(&self.eal, &self.pool, &settings)?;
        info!(
            device = %self.device(),
            driver = port.driver(),
            mac = %port.mac(),
            mtu = port.mtu(),
            queues = port.queues(),
            "port {} is open",
            self.name
        );
        port.warnings().iter().for_each(|warning| tracing::warn!("port {}: {warning}", self.name));
        let properties = Properties {
            link: PortLink { up: port.link().up, ..PortLink::new(port.mac(), port.mtu()) },
            most_mtu: port.most_mtu(),
            interface: interface(&port),
            keeps_frames: port.keeps_frames(),
        };
        let mut state = self.state();
        state.driver = port.driver().into();
        state.port = Some(port);
        Ok(Opened { queues, properties })
    }

    /// Closes the port, when all of its queue pairs are back.
    pub(super) fn close(&self, queues: Vec<QueuePair>) {
        let port = {
            let mut state = self.state();
            let port = state.port.take();
            if let Some(port) = &port {
                state.before = state.before + port.stats();
            }
            port
        };
        // Takes its time, and nobody is to wait for it.
        drop((queues, port));
    }

    /// What the open port says; `None` while the device is away.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Port) -> T) -> Option<T> {
        self.state().port.as_ref().map(question)
    }

    /// Notes why the port cannot be used, for the operator.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    /// What has been counted at the ports that were open here.
    pub(super) fn stats(&self) -> PortStats {
        self.state().stats()
    }

    /// As the API tells of it.
    pub(super) fn live(&self) -> PortLive {
        let state = self.state();
        let port = state.port.as_ref();
        let stats = state.stats();
        PortLive {
            driver: state.driver.clone(),
            speed_mbps: port.and_then(|port| port.link().speed_mbps),
            trouble: state.trouble.clone(),
            warnings: port.map_or_else(Vec::new, Port::warnings),
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_mbuf: stats.rx_no_mbuf,
            xdp: stats.xdp.map(sockets),
        }
    }

    /// The frames that came and that no worker took. `None` while the port is being opened or closed: nobody may wait for that.
    pub(super) fn missed(&self) -> Option<u64> {
        let stats = self.state.try_lock().ok()?.stats();
        Some(stats.rx_missed + stats.rx_no_mbuf)
    }

    /// Has the port receive these multicast addresses. While the device is away, that is left out: it is asked for again when it is back.
    pub(super) fn listen(&self, groups: &[Mac]) {
        if let Some(Err(problem)) = self.ask(|port| port.listen(groups)) {
            let device = self.device();
            tracing::warn!("{device}: takes no multicast ({problem}): neighbor discovery for IPv6 addresses may fail");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while asking a port")
    }
}

fn sockets(stats: XdpStats) -> XdpSockets {
    let XdpStats { rx_dropped, rx_ring_full, fill_ring_empty, rx_invalid, tx_invalid } = stats;
    XdpSockets { rx_dropped, rx_ring_full, fill_ring_empty, rx_invalid, tx_invalid }
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
