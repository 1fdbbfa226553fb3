//! Ethernet devices.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use ctl::Mac;
use dpdk_sys::{
    SHUNT_ETH_MQ_RX_RSS, SHUNT_ETH_RSS_FLOWS, rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_eth_stats,
    rte_ether_addr,
};

use crate::dpdk::descriptors::Descriptors;
use crate::dpdk::device::{Device, Driver, XDP, interface_speed};
use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;
use crate::dpdk::frame_size::{XDP_MTU, ring};
use crate::dpdk::interface_lock::{self, Claim};
use crate::dpdk::layout::Layout;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::null_device;
use crate::dpdk::open_port::OpenPort;
use crate::dpdk::packet_socket;
use crate::dpdk::port_error::PortError;
use crate::dpdk::port_events::{self, PortNews};
use crate::dpdk::port_stats::{PortCounters, PortStats};
use crate::dpdk::queue::{QueuePair, Takes};
use crate::dpdk::settings::{Offloads, PortSettings};
use crate::dpdk::sockets::Finder;
use crate::dpdk::xdp_check::{self, XdpError};
use crate::dpdk::xdp_rings::{self, FILLED};

/// Descriptors of a queue, where the device has no other wish.
const DESCRIPTORS: u16 = 1_024;

/// What a VF can ask of its PF (82576, 82599: 30 addresses in a message).
const MAX_GROUPS: usize = 30;

/// The state of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// In Mbit/s, where the device knows.
    pub speed_mbps: Option<u32>,
}

/// An open, started port. It is closed, and can be opened again, when this and its queue pairs are gone.
///
/// `Send` and `Sync`: of the calls here, those that DPDK does not allow at the same time take turns. They may be made while other
/// threads poll the port's queues.
#[derive(Debug)]
pub struct Port {
    open: Arc<OpenPort>,
    device: Device,
    driver: String,
    mac: Mac,
    mtu: u16,
    queues: u16,
    interface: Option<u32>,
    most_mtu: u16,
    warnings: Vec<String>,
    counters: PortCounters,
}

/// Drivers that reach a Linux interface, and do not tell what becomes of it: to them, the link is always up.
const UNAWARE: [&str; 3] = ["net_af_packet", XDP, "net_pcap"];

impl Port {
    /// Opens and starts a port with one queue pair for each worker; received frames come into buffers of the pool.
    ///
    /// A device has one owner: it cannot be opened a second time, by whatever name, until the first `Port` and its queue pairs are gone.
    ///
    /// # Errors
    /// Where there is no such device, where it is open already, and where it cannot do what is asked of it. Nothing of it stays open then.
    ///
    /// # Panics
    /// If no queue pair is asked for: drivers rely on there being one.
    pub fn open(
        eal: &Arc<Eal>,
        mempool: &Arc<Mempool>,
        settings: &PortSettings,
    ) -> Result<(Port, Vec<QueuePair>), PortError> {
        let queues = settings.queues;
        assert!(queues > 0, "a port without a queue cannot be started");
        let attempt = |devargs: String, name: String| open_device(eal, mempool, settings, &devargs, &name);
        match &settings.device {
            Device::Pci(address) => attempt(address.clone(), address.clone()),
            Device::Vdev(devargs) => {
                let name = devargs.split(',').next().unwrap_or_default();
                null_device::check(devargs, mempool.room())?;
                attempt(devargs.clone(), name.into())
            }
            Device::Interface { name, driver } => {
                let xdp = format!("{XDP}{}", settings.index);
                let xdp_args = format!("{xdp},iface={name},queue_count={queues}");
                let packet = format!("net_af_packet{}", settings.index);
                let packet_args = format!("{packet},iface={name},qpairs={queues}{}", ring(settings.mtu));
                let jumbo = settings.mtu.filter(|&mtu| mtu > XDP_MTU);
                match (driver, jumbo) {
                    (Driver::AfXdp, Some(mtu)) => return Err(PortError::XdpMtu { name: name.clone(), mtu }),
                    (Driver::Auto, Some(mtu)) => {
                        tracing::info!("{name}: AF_XDP takes no frames of {mtu} bytes; taking AF_PACKET");
                        return attempt(packet_args, packet);
                    }
                    _ => {}
                }
                match driver {
                    Driver::AfXdp => attempt(xdp_args, xdp),
                    Driver::AfPacket => attempt(packet_args, packet),
                    Driver::Auto => attempt(xdp_args, xdp).or_else(|error| {
                        if error.is_about_an_owner() {
                            return Err(error);
                        }
                        say_why_not_xdp(name, &error);
                        attempt(packet_args, packet)
                    }),
                }
            }
        }
    }

    /// The device it was opened as.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The DPDK driver that runs it.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Its MAC address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Largest L3 packet in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The largest MTU whose frames it can send and receive as it was opened.
    pub fn most_mtu(&self) -> u16 {
        self.most_mtu
    }

    /// The index of the Linux interface behind it, where the kernel must be asked for its link, MTU and MAC address, since the
    /// driver does not know them once the port is open.
    pub fn interface(&self) -> Option<u32> {
        self.interface
    }

    /// Whether frames that it was given before its Linux interface went administratively down stay in its rings, to be sent when the
    /// interface is up again. Nothing but closing the port takes them out.
    pub fn keeps_frames(&self) -> bool {
        self.driver == "net_af_packet"
    }

    /// Its queue pairs.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// What does not work as it should, a sentence each that says what to do.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(self.lost_flows()).collect()
    }

    /// What to do about flows that are lost because the interface's receive queues are not those that the workers read, if that
    /// is so now: their number can be changed at any time.
    pub fn lost_flows(&self) -> Option<String> {
        let error = match &self.device {
            Device::Interface { name, .. } if self.driver == XDP => xdp_check::lost_flows(name, self.queues),
            Device::Vdev(arguments) if self.driver == XDP => xdp_check::lost_flows_of_vdev(arguments),
            _ => None,
        };
        error.map(|error| error.to_string())
    }

    /// What has been counted since it was opened.
    pub fn stats(&self) -> PortStats {
        let mut stats = rte_eth_stats::default();
        let _turn = self.open.turn();
        // SAFETY: the port is open while `self` is; the structure is written whole.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.open.number(), &raw mut stats) };
        // SAFETY: the port is open while `self` is.
        unsafe { self.counters.stats((code == 0).then_some(&stats)) }
    }

    /// Has the port receive these multicast addresses.
    ///
    /// First by name: a VF takes "all multicast" only where its PF trusts it, and some say yes and do not (an igb VF
    /// even forgets its list). But lists are bounded, and not every driver has them.
    pub fn listen(&self, groups: &[Mac]) -> Result<(), DpdkError> {
        let mut list: Vec<rte_ether_addr> = groups.iter().map(|mac| rte_ether_addr { addr_bytes: mac.0 }).collect();
        let count = u32::try_from(list.len()).expect("a list that fits in memory");
        let number = self.open.number();
        let _turn = self.open.turn();
        if groups.len() <= MAX_GROUPS {
            // SAFETY: the port is open while `self` is; `list` has `count` addresses, which are copied.
            let listed = unsafe { dpdk_sys::rte_eth_dev_set_mc_addr_list(number, list.as_mut_ptr(), count) };
            if listed == 0 {
                return Ok(());
            }
        }
        // SAFETY: the port is open.
        DpdkError::check(unsafe { dpdk_sys::rte_eth_allmulticast_enable(number) }).or_else(|_| {
            // SAFETY: the port is open.
            DpdkError::check(unsafe { dpdk_sys::rte_eth_promiscuous_enable(number) })
        })
    }

    /// What the device has told of itself since the last question.
    pub fn news(&self) -> PortNews {
        self.open.news()
    }

    /// Whether the link is up, and how fast. Of an [interface](Self::interface), the speed only: as the kernel knows it.
    pub fn link(&self) -> Link {
        let mut link = rte_eth_link::default();
        let turn = self.open.turn();
        // SAFETY: the port is open while `self` is; the structure is written whole.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.open.number(), &raw mut link) };
        drop(turn);
        let unknown = [0, u32::MAX];
        let speed_mbps = match self.interface {
            Some(interface) => interface_speed(interface),
            None => Some(link.link_speed).filter(|speed| !unknown.contains(speed)),
        };
        Link { up: code == 0 && link.link_status() == 1, speed_mbps }
    }
}

fn say_why_not_xdp(interface: &str, error: &PortError) {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let what = format!("{interface}: taking AF_PACKET, because AF_XDP is not to be had: {error}{source}");
    match error {
        // This can be mended, and AF_XDP is faster.
        PortError::Xdp(XdpError::MoreQueues { .. }) => tracing::warn!("{what}"),
        _ => tracing::info!("{what}"),
    }
}

/// Whether the device can be what it is to be, found out before a driver touches it.
fn check(settings: &PortSettings, devargs: &str) -> Result<(), PortError> {
    match &settings.device {
        Device::Interface { name, .. } if devargs.starts_with(XDP) => Ok(xdp_check::check(name, settings.queues)?),
        _ => Ok(()),
    }
}

/// Attaches a device and opens its port. On failure, nothing of it stays.
fn open_device(
    eal: &Arc<Eal>,
    mempool: &Arc<Mempool>,
    settings: &PortSettings,
    devargs: &str,
    name: &str,
) -> Result<(Port, Vec<QueuePair>), PortError> {
    let device = || settings.device.to_string();
    let finder = Finder::new();
    let taken = |owner: String| PortError::Open { device: device(), owner };
    let mut warnings = Vec::new();
    let (claim, number) = {
        // Until the port is taken, no other thread may attach or close it.
        let mut registry = eal.registry();
        if let Some(owner) = registry.owner_of(&interface_lock::interfaces(&settings.device)) {
            return Err(taken(owner.into()));
        }
        // No driver may touch an interface that another process has.
        let claim = Claim::take(&settings.device)?;
        check(settings, devargs)?;
        let number = attach(devargs, name, &settings.device)?;
        registry.take(number, &device()).map_err(taken)?;
        warnings.extend(claim.warnings.iter().cloned());
        (claim, number)
    };
    // From here on, dropping `open` closes the port.
    let open = Arc::new(OpenPort::new(number, mempool.clone(), eal.clone(), claim));
    let info = device_info(number).map_err(|source| PortError::Setup {
        device: device(),
        driver: "no driver".into(),
        step: "asking for its abilities",
        source,
    })?;
    eal.registry().bind(number, info.if_index).map_err(taken)?;
    let driver = driver_name(&info);
    let fail = |step| {
        let (device, driver) = (device(), driver.clone());
        move |source| PortError::Setup { device, driver, step, source }
    };
    let available = info.max_rx_queues.min(info.max_tx_queues);
    if available < settings.queues {
        return Err(PortError::TooFewQueues { device: device(), driver, queues: available, workers: settings.queues });
    }
    if driver == XDP {
        let (outside, buffers) = (mempool.outside_umem(), mempool.size());
        if outside > 0 {
            return Err(PortError::Umem { device: device(), outside, buffers });
        }
        let (needed, free) = (FILLED * u32::from(settings.queues), mempool.available());
        if free < needed {
            return Err(PortError::Buffers { device: device(), needed, free });
        }
    }
    let rss = SHUNT_ETH_RSS_FLOWS & info.flow_type_rss_offloads;
    // For a Linux interface, the kernel spreads the flows.
    if settings.queues > 1 && rss == 0 && !matches!(settings.device, Device::Interface { .. }) {
        tracing::warn!("{} ({driver}) has no RSS: all frames may come to one worker", device());
    }
    let fast_free = || eal.registry().grant_fast_free(number);
    let offloads = Offloads::new(settings, &info, &driver, mempool.room(), fast_free)?;
    configure(number, &info, rss, settings.queues, &offloads).map_err(fail("configuring"))?;
    if let Some(mtu) = offloads.mtu {
        set_mtu(number, mtu).map_err(fail("setting the MTU"))?;
    }
    let set_up = || set_up_queues(number, mempool, settings.queues);
    let outcome = if driver == XDP { noting(&open, eal, set_up) } else { set_up() };
    outcome.map_err(fail("setting up the queues"))?;
    if offloads.receives_segments(&settings.device) || mempool.room() > Layout::Pages.room() {
        QueuePair::expect_unusual();
    }
    // SAFETY: configured, its queues set up.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_start(number) }).map_err(fail("starting"))?;
    let mac = mac_of(number).map_err(fail("asking for its MAC address"))?;
    let mtu = match (&settings.device, settings.mtu) {
        (Device::Interface { .. }, Some(mtu)) => mtu,
        _ => mtu_of(number).map_err(fail("asking for its MTU"))?,
    };
    let takes =
        Takes { segments: offloads.sends_segments(&driver), longest: (driver == XDP).then_some(mempool.room()) };
    let pairs = (0..settings.queues).map(|queue| QueuePair::new(open.clone(), queue, takes)).collect();
    let most_mtu = settings.device.most_mtu(&driver, mtu);
    let interface = Some(info.if_index).filter(|&index| index != 0 && UNAWARE.contains(&&*driver));
    let sockets = finder.found();
    warnings.extend(packet_socket::warnings(&driver, info.if_index, sockets.packet()));
    let port = Port {
        open,
        device: settings.device.clone(),
        driver,
        mac,
        mtu,
        queues: settings.queues,
        interface,
        most_mtu,
        warnings,
        counters: PortCounters::new(sockets, interface, mac),
    };
    Ok((port, pairs))
}

fn attach(devargs: &str, name: &str, device: &Device) -> Result<u16, PortError> {
    let failed = |source| PortError::Probe { device: device.to_string(), source };
    let nul = |_| PortError::NoPort(device.to_string());
    let (devargs, name) = (CString::new(devargs).map_err(nul)?, CString::new(name).map_err(nul)?);
    // A PCI device on EAL's allow list is probed already.
    let probed = |number: &mut u16| {
        // SAFETY: the name is NUL-terminated, the number is written where the return value is 0.
        unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), std::ptr::from_mut(number)) == 0 }
    };
    let mut number = 0;
    if probed(&mut number) {
        return Ok(number);
    }
    // DPDK 22.11's AF_XDP driver takes an old EOPNOTSUPP for the answer to its own question for channels.
    nix::errno::Errno::clear();
    // SAFETY: EAL is initialized, as the callers hold it; the string is NUL-terminated and copied.
    DpdkError::check(unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) }).map_err(failed)?;
    if probed(&mut number) { Ok(number) } else { Err(PortError::NoPort(device.to_string())) }
}

fn device_info(number: u16) -> Result<rte_eth_dev_info, DpdkError> {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: the port exists; the structure is written whole.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_info_get(number, &raw mut info) })?;
    Ok(info)
}

fn driver_name(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return "unknown".into();
    }
    // SAFETY: a NUL-terminated constant of the driver's.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

fn configure(
    number: u16,
    info: &rte_eth_dev_info,
    rss: u64,
    queues: u16,
    offloads: &Offloads,
) -> Result<(), DpdkError> {
    let mut conf = rte_eth_conf::default();
    port_events::enable(&mut conf, info);
    if queues > 1 && rss != 0 {
        conf.rxmode.mq_mode = SHUNT_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = rss;
    }
    // 0: the usual 1500, or the device's if it takes less.
    conf.rxmode.mtu = offloads.mtu.map_or(0, u32::from);
    conf.rxmode.offloads = offloads.rx;
    conf.txmode.offloads = offloads.tx;
    // SAFETY: the port exists and is not started; the structure is read during the call.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_configure(number, queues, queues, &raw const conf) })
}

/// Sets up queues, and notes what the AF_XDP driver opens for that.
fn noting(open: &OpenPort, eal: &Eal, set_up: impl FnOnce() -> Result<(), DpdkError>) -> Result<(), DpdkError> {
    // No other thread may open or close a port of the driver meanwhile.
    let _registry = eal.registry();
    let before = Descriptors::now();
    let outcome = set_up();
    open.note(xdp_rings::opened_since(&before));
    outcome
}

/// Some drivers go by the configuration alone, some by this call.
fn set_mtu(number: u16, mtu: u16) -> Result<(), DpdkError> {
    // SAFETY: the port is configured.
    match unsafe { dpdk_sys::rte_eth_dev_set_mtu(number, mtu) } {
        code if code == -nix::libc::ENOTSUP => Ok(()),
        code => DpdkError::check(code),
    }
}

fn set_up_queues(number: u16, mempool: &Arc<Mempool>, queues: u16) -> Result<(), DpdkError> {
    let (mut rx, mut tx) = (DESCRIPTORS, DESCRIPTORS);
    // SAFETY: the port is configured; both numbers are read and written during the call.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(number, &raw mut rx, &raw mut tx) })?;
    // SAFETY: the port exists.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(number) };
    let socket = u32::try_from(socket).unwrap_or(u32::MAX); // SOCKET_ID_ANY
    for queue in 0..queues {
        // SAFETY: configured with more than `queue` queues; a null configuration means the driver's default; the pool
        // outlives the port, which holds it.
        let code =
            unsafe { dpdk_sys::rte_eth_rx_queue_setup(number, queue, rx, socket, std::ptr::null(), mempool.as_ptr()) };
        DpdkError::check(code)?;
        // SAFETY: as above.
        DpdkError::check(unsafe { dpdk_sys::rte_eth_tx_queue_setup(number, queue, tx, socket, std::ptr::null()) })?;
    }
    Ok(())
}

fn mac_of(number: u16) -> Result<Mac, DpdkError> {
    let mut address = rte_ether_addr::default();
    // SAFETY: the port exists; the address is written whole.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_macaddr_get(number, &raw mut address) })?;
    Ok(Mac(address.addr_bytes))
}

fn mtu_of(number: u16) -> Result<u16, DpdkError> {
    let mut mtu = 0;
    // SAFETY: the port exists; the number is written.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_get_mtu(number, &raw mut mtu) })?;
    Ok(mtu)
}
