//! Ethernet devices.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ctl::Mac;
use dpdk_sys::{
    SHUNT_ETH_MQ_RX_RSS, SHUNT_ETH_RSS_FLOWS, SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM, SHUNT_ETH_RX_OFFLOAD_SCATTER,
    SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP, SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE, SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS,
    rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_eth_stats, rte_ether_addr,
};

use super::{DpdkError, Eal, Mempool, QueuePair};

/// Descriptors of a queue, where the device has no other wish.
const DESCRIPTORS: u16 = 1_024;

/// What a VF can ask of its PF (82576, 82599: 30 addresses in a message).
const MAX_GROUPS: usize = 30;

/// What a frame has besides its L3 packet: Ethernet header, two VLAN tags, checksum.
const FRAME_OVERHEAD: usize = 14 + 8 + 4;
/// The largest MTU that AF_XDP and its buffers of 2 KiB take.
const XDP_MTU: u16 = 2_048 - 14 - 8;
/// What AF_PACKET's ring has before a frame (`TPACKET2_HDRLEN`), and some room.
const RING_HEADER: usize = 64;
/// DPDK's driver takes the ring for one row of frames, the kernel for blocks of whole pages: four frames of so many times
/// this make a block.
const RING_UNIT: usize = 1_024;

/// The largest MTU whose frames fit a packet buffer's 16 bits of length, with all that is around them.
const MOST_MTU: u32 = 64_000;

/// Which device to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A PCI function, bound to a driver that DPDK can use.
    Pci(String),
    /// A virtual device, as DPDK writes it: `net_tap0,iface=tap0`.
    Vdev(String),
    /// A Linux network interface of this network namespace.
    Interface {
        /// Its name.
        name: String,
        /// By what to reach it.
        driver: Driver,
    },
}

/// By what a Linux interface is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// AF_XDP, and AF_PACKET where that does not work.
    #[default]
    Auto,
    /// AF_XDP sockets.
    AfXdp,
    /// AF_PACKET sockets with memory-mapped rings.
    AfPacket,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Pci(address) => f.write_str(address),
            Device::Vdev(arguments) => f.write_str(arguments),
            Device::Interface { name, .. } => write!(f, "iface:{name}"),
        }
    }
}

impl Device {
    /// Whether DPDK could take the device, as far as the kernel knows. To be asked before EAL is initialized, whose own
    /// messages say less.
    pub fn check(&self) -> Result<(), PortError> {
        match self {
            Device::Pci(address) => check_pci(Path::new("/sys/bus/pci/devices"), address),
            Device::Interface { name, .. } if nix::net::if_::if_nametoindex(name.as_str()).is_err() => {
                Err(PortError::NoInterface(name.clone()))
            }
            Device::Interface { .. } | Device::Vdev(_) => Ok(()),
        }
    }
}

impl Device {
    /// The largest L3 packet that a Linux interface takes, after it has been set, if it is to be. `None` for what DPDK has
    /// for itself: there, [`Port::open`] sets it.
    pub fn interface_mtu(&self, wanted: Option<u16>) -> Result<Option<u16>, PortError> {
        let Device::Interface { name, .. } = self else { return Ok(None) };
        let file = Path::new("/sys/class/net").join(name).join("mtu");
        let failed = |source| PortError::InterfaceMtu { name: name.clone(), source };
        if let Some(mtu) = wanted {
            std::fs::write(&file, mtu.to_string()).map_err(failed)?;
        }
        let read = std::fs::read_to_string(&file).map(|text| text.trim().parse::<u32>().unwrap_or(u32::MAX));
        match (read, wanted) {
            // More than the buffers can have is the loopback interface's, 65536.
            (Ok(mtu), _) => Ok(u16::try_from(mtu.min(MOST_MTU)).ok()),
            (Err(error), Some(_)) => Err(failed(error)),
            // Where /sys is another network namespace's: DPDK takes it for the usual 1500.
            (Err(_), None) => Ok(None),
        }
    }

    /// The packet buffer that the device's frames need at an MTU, in one piece.
    pub fn buffer(&self, mtu: u16) -> usize {
        match self {
            // AF_PACKET copies a frame of its ring as a whole.
            Device::Interface { .. } if ring(Some(mtu)).is_empty() => 0,
            Device::Interface { .. } => usize::from(mtu) + FRAME_OVERHEAD + RING_HEADER + RING_UNIT,
            // A NIC spreads a frame over several.
            Device::Pci(_) | Device::Vdev(_) => 0,
        }
    }
}

fn check_pci(devices: &Path, address: &str) -> Result<(), PortError> {
    /// Drivers for user space, and those whose devices DPDK shares with the kernel ("bifurcated").
    const USABLE: [&str; 7] =
        ["vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core", "mana", "virtio-pci"];
    let device = devices.join(address);
    if !device.exists() {
        return Err(PortError::NoPciDevice(address.into()));
    }
    let driver = std::fs::read_link(device.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).map_or("no driver".into(), |name| name.to_string_lossy());
    if USABLE.contains(&&*driver) {
        return Ok(());
    }
    Err(PortError::WrongDriver { device: address.into(), driver: driver.into() })
}

/// How to open a port.
#[derive(Debug, Clone)]
pub struct PortSettings {
    /// Its number in the configuration, from 0; names virtual devices.
    pub index: usize,
    /// The device.
    pub device: Device,
    /// Receive and transmit queue pairs.
    pub queues: u16,
    /// Whether the device is to take VLAN tags out of received frames.
    pub vlan_strip: bool,
    /// The largest L3 packet; `None`: the device's.
    pub mtu: Option<u16>,
}

/// Why a port does not open.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No such interface.
    #[error("There is no network interface \"{0}\" in this network namespace: see `ip link`")]
    NoInterface(String),
    /// Nothing at that address.
    #[error("There is no PCI device {0}: see `lspci -D`")]
    NoPciDevice(String),
    /// The kernel's driver has it.
    #[error("{device} is bound to {driver}, and DPDK needs vfio-pci: scripts/bind-nic {device}")]
    WrongDriver {
        /// Its address.
        device: String,
        /// The driver that has it.
        driver: String,
    },
    /// DPDK does not find or take the device.
    #[error("DPDK cannot take {device}; its own messages stand above")]
    Probe {
        /// The device.
        device: String,
        /// What DPDK says.
        source: DpdkError,
    },
    /// The driver came up without a port.
    #[error("The device {0} has no Ethernet port")]
    NoPort(String),
    /// A worker would have no queue.
    #[error(
        "{device} ({driver}) has {queues} queue pairs, but there are {workers} workers: use fewer workers, or a device with more queues"
    )]
    TooFewQueues {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What it has.
        queues: u16,
        /// What is needed.
        workers: u16,
    },
    /// The kernel refuses.
    #[error(
        "The MTU of {name} cannot be set or read: see `ip -d link show {name}` for what it takes, or leave the port's mtu out"
    )]
    InterfaceMtu {
        /// The interface.
        name: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Too large for the device.
    #[error("{device} ({driver}) takes an MTU of {least} to {most}, not {mtu}: set the port's mtu accordingly")]
    MtuRange {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The smallest.
        least: u16,
        /// The largest.
        most: u16,
        /// What is wanted.
        mtu: u16,
    },
    /// Frames that fit no buffer, and a device that does not spread them over several.
    #[error(
        "{device} ({driver}) cannot spread frames over several packet buffers of {room} bytes: set the port's mtu to {most} or less"
    )]
    NoScatter {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// A buffer's room.
        room: u16,
        /// The largest MTU that fits.
        most: usize,
    },
    /// AF_XDP has one page for a frame.
    #[error(
        "AF_XDP takes no frames of {mtu} bytes on {name}: set the port's mtu to {XDP_MTU} or less, or its driver to \"af_packet\""
    )]
    XdpMtu {
        /// The interface.
        name: String,
        /// What is wanted.
        mtu: u16,
    },
    /// An offload that the operator asks for.
    #[error("{device} ({driver}) cannot take out VLAN tags: leave the port's vlan_strip out")]
    NoVlanStrip {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
    },
    /// A step of the set-up failed.
    #[error("{device} ({driver}): {step} failed")]
    Setup {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What was being done.
        step: &'static str,
        /// What DPDK says.
        source: DpdkError,
    },
}

/// What the NIC counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortStats {
    /// Frames dropped because nobody took them from the queue in time.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames for which there was no mbuf.
    pub rx_no_mbuf: u64,
}

/// The state of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// In Mbit/s, where the device knows.
    pub speed_mbps: Option<u32>,
}

/// An open, started port. It is closed when this and its queue pairs are gone.
#[derive(Debug)]
pub struct Port {
    open: Arc<OpenPort>,
    device: Device,
    driver: String,
    mac: Mac,
    mtu: u16,
    queues: u16,
}

/// Holds the port open; stops and closes it with its last holder.
#[derive(Debug)]
pub(super) struct OpenPort {
    number: u16,
    /// For calls that ethdev does not allow at the same time (statistics, link, filters).
    control: Mutex<()>,
    /// Buffers that the device's queues are filled with.
    _mempool: Arc<Mempool>,
    _eal: Arc<Eal>,
}

impl OpenPort {
    /// DPDK's number of the port.
    #[inline]
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl OpenPort {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.control.lock().expect("nobody panics while calling DPDK")
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        // SAFETY: the port is ours, and no queue pair is left that could use it. Stopping a port that is not started
        // does nothing, nor does ending a promiscuous mode that was not entered; a Linux interface would stay in it.
        unsafe {
            let _ = dpdk_sys::rte_eth_promiscuous_disable(self.number);
            let _ = dpdk_sys::rte_eth_dev_stop(self.number);
            let _ = dpdk_sys::rte_eth_dev_close(self.number);
        }
    }
}

impl Port {
    /// Opens and starts a port with one queue pair for each worker.
    pub fn open(
        eal: &Arc<Eal>,
        mempool: &Arc<Mempool>,
        settings: &PortSettings,
    ) -> Result<(Port, Vec<QueuePair>), PortError> {
        let queues = settings.queues;
        let attempt = |devargs: String, name: String| open_device(eal, mempool, settings, &devargs, &name);
        match &settings.device {
            Device::Pci(address) => attempt(address.clone(), address.clone()),
            Device::Vdev(devargs) => {
                let name = devargs.split(',').next().unwrap_or_default();
                attempt(devargs.clone(), name.into())
            }
            Device::Interface { name, driver } => {
                let xdp = format!("net_af_xdp{}", settings.index);
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
                        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        tracing::info!("{name}: AF_XDP is not to be had ({error}: {cause}); taking AF_PACKET");
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

    /// Its queue pairs.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// What the NIC has counted since it was opened.
    pub fn stats(&self) -> PortStats {
        let mut stats = rte_eth_stats::default();
        let _turn = self.open.turn();
        // SAFETY: the port is open while `self` is; the structure is written whole.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.open.number, &raw mut stats) };
        if code != 0 {
            return PortStats::default();
        }
        PortStats { rx_missed: stats.imissed, rx_errors: stats.ierrors, rx_no_mbuf: stats.rx_nombuf }
    }

    /// Has the port receive these multicast addresses.
    ///
    /// First by name: a VF takes "all multicast" only where its PF trusts it, and some say yes and do not (an igb VF
    /// even forgets its list). But lists are bounded, and not every driver has them.
    pub fn listen(&self, groups: &[Mac]) -> Result<(), DpdkError> {
        let mut list: Vec<rte_ether_addr> = groups.iter().map(|mac| rte_ether_addr { addr_bytes: mac.0 }).collect();
        let count = u32::try_from(list.len()).expect("a list that fits in memory");
        let number = self.open.number;
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

    /// Whether the link is up, and how fast.
    pub fn link(&self) -> Link {
        let mut link = rte_eth_link::default();
        let _turn = self.open.turn();
        // SAFETY: the port is open while `self` is; the structure is written whole.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.open.number, &raw mut link) };
        let unknown = [0, u32::MAX];
        Link {
            up: code == 0 && link.link_status() == 1,
            speed_mbps: Some(link.link_speed).filter(|speed| !unknown.contains(speed)),
        }
    }
}

/// AF_PACKET's ring for frames larger than its usual 2 KiB.
fn ring(mtu: Option<u16>) -> String {
    match mtu.map(|mtu| usize::from(mtu) + FRAME_OVERHEAD + RING_HEADER) {
        Some(frame) if frame > 2_048 => {
            let frame = frame.next_multiple_of(RING_UNIT);
            format!(",framesz={frame},blocksz={}", frame * 4)
        }
        _ => String::new(),
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
    let number = attach(devargs, name, &settings.device)?;
    // From here on, dropping `open` closes the port.
    let open = Arc::new(OpenPort { number, control: Mutex::new(()), _mempool: mempool.clone(), _eal: eal.clone() });
    let info = device_info(number).map_err(|source| PortError::Setup {
        device: device(),
        driver: "no driver".into(),
        step: "asking for its abilities",
        source,
    })?;
    let driver = driver_name(&info);
    let fail = |step| {
        let (device, driver) = (device(), driver.clone());
        move |source| PortError::Setup { device, driver, step, source }
    };
    let available = info.max_rx_queues.min(info.max_tx_queues);
    if available < settings.queues {
        return Err(PortError::TooFewQueues { device: device(), driver, queues: available, workers: settings.queues });
    }
    let rss = SHUNT_ETH_RSS_FLOWS & info.flow_type_rss_offloads;
    // For a Linux interface, the kernel spreads the flows.
    if settings.queues > 1 && rss == 0 && !matches!(settings.device, Device::Interface { .. }) {
        tracing::warn!("{} ({driver}) has no RSS: all frames may come to one worker", device());
    }
    let offloads = Offloads::new(settings, &info, &driver, mempool.room())?;
    configure(number, rss, settings.queues, &offloads).map_err(fail("configuring"))?;
    if let Some(mtu) = offloads.mtu {
        set_mtu(number, mtu).map_err(fail("setting the MTU"))?;
    }
    set_up_queues(number, mempool, settings.queues).map_err(fail("setting up the queues"))?;
    // SAFETY: configured, its queues set up.
    DpdkError::check(unsafe { dpdk_sys::rte_eth_dev_start(number) }).map_err(fail("starting"))?;
    let mac = mac_of(number).map_err(fail("asking for its MAC address"))?;
    let mtu = match (&settings.device, settings.mtu) {
        (Device::Interface { .. }, Some(mtu)) => mtu,
        _ => mtu_of(number).map_err(fail("asking for its MTU"))?,
    };
    let pairs = (0..settings.queues).map(|queue| QueuePair::new(open.clone(), queue)).collect();
    let port = Port { open, device: settings.device.clone(), driver, mac, mtu, queues: settings.queues };
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

/// What a device is asked to do with frames.
#[derive(Debug, PartialEq, Eq)]
struct Offloads {
    rx: u64,
    tx: u64,
    /// The MTU, where it is not the device's own nor the kernel's matter.
    mtu: Option<u16>,
}

impl Offloads {
    fn new(settings: &PortSettings, info: &rte_eth_dev_info, driver: &str, room: u16) -> Result<Offloads, PortError> {
        let (device, driver) = (settings.device.to_string(), driver.to_owned());
        // A Linux interface has its MTU from the kernel.
        let mtu = settings.mtu.filter(|_| !matches!(settings.device, Device::Interface { .. }));
        let limits = info.min_mtu..=info.max_mtu;
        if let Some(mtu) = mtu.filter(|mtu| !limits.contains(mtu)) {
            return Err(PortError::MtuRange { device, driver, least: info.min_mtu, most: info.max_mtu, mtu });
        }
        let mut rx = SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM & info.rx_offload_capa;
        // All mbufs are of one pool, and nobody holds a second reference, to any segment.
        let mut tx = SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE & info.tx_offload_capa;
        if settings.vlan_strip {
            rx |= SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP;
        }
        if mtu.is_some_and(|mtu| usize::from(mtu) + FRAME_OVERHEAD > usize::from(room)) {
            rx |= SHUNT_ETH_RX_OFFLOAD_SCATTER;
            tx |= SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS;
        }
        let lacking = (rx & !info.rx_offload_capa, tx & !info.tx_offload_capa);
        if lacking.0 & SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP != 0 {
            return Err(PortError::NoVlanStrip { device, driver });
        }
        if lacking != (0, 0) {
            return Err(PortError::NoScatter { device, driver, room, most: usize::from(room) - FRAME_OVERHEAD });
        }
        Ok(Offloads { rx, tx, mtu })
    }
}

fn configure(number: u16, rss: u64, queues: u16, offloads: &Offloads) -> Result<(), DpdkError> {
    let mut conf = rte_eth_conf::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(device: Device, mtu: Option<u16>, vlan_strip: bool) -> PortSettings {
        PortSettings { index: 0, device, queues: 1, vlan_strip, mtu }
    }

    #[test]
    fn large_frames_are_spread_over_buffers_where_the_device_can() {
        let able = rte_eth_dev_info {
            rx_offload_capa: SHUNT_ETH_RX_OFFLOAD_SCATTER | SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
            tx_offload_capa: SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS | SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
            min_mtu: 68,
            max_mtu: 9_702,
            ..Default::default()
        };
        let simple = rte_eth_dev_info { min_mtu: 68, max_mtu: 9_000, ..Default::default() };
        let nic = || Device::Pci("0000:01:00.0".into());
        let ask = |info, mtu, strip| {
            Offloads::new(&settings(nic(), mtu, strip), info, "net_x", 2_048).map_err(|error| error.to_string())
        };
        let fast_free = SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
        assert_eq!(ask(&able, None, false), Ok(Offloads { rx: 0, tx: fast_free, mtu: None }));
        assert_eq!(ask(&able, Some(2_022), false), Ok(Offloads { rx: 0, tx: fast_free, mtu: Some(2_022) }));
        let jumbo = Offloads {
            rx: SHUNT_ETH_RX_OFFLOAD_SCATTER | SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
            tx: SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS | fast_free,
            mtu: Some(9_000),
        };
        assert_eq!(ask(&able, Some(9_000), true), Ok(jumbo));
        assert!(ask(&able, Some(9_703), false).unwrap_err().contains("68 to 9702, not 9703"));
        assert!(ask(&simple, Some(9_000), false).unwrap_err().contains("mtu to 2022 or less"));
        assert!(ask(&simple, None, true).unwrap_err().contains("vlan_strip"));
        let interface = Device::Interface { name: "eth1".into(), driver: Driver::Auto };
        let offloads = Offloads::new(&settings(interface, Some(9_000), false), &simple, "net_af_packet", 2_048);
        assert_eq!(offloads.unwrap(), Offloads { rx: 0, tx: 0, mtu: None });
    }

    #[test]
    fn a_ring_has_room_for_its_interfaces_frames() {
        assert_eq!(ring(None), "");
        assert_eq!(ring(Some(1_500)), "");
        assert_eq!(ring(Some(9_000)), ",framesz=9216,blocksz=36864");
        let interface = Device::Interface { name: "eth1".into(), driver: Driver::AfPacket };
        assert_eq!(interface.buffer(1_500), 0);
        assert!((1_280..=64_000).all(|mtu| interface.buffer(mtu).max(2_048) >= usize::from(mtu) + FRAME_OVERHEAD));
    }

    #[test]
    fn a_pci_device_must_be_there_and_bound_for_dpdk() {
        let folder = tempfile::tempdir().unwrap();
        for (address, driver) in
            [("0000:01:00.0", Some("igb")), ("0000:01:00.1", None), ("0000:01:00.2", Some("vfio-pci"))]
        {
            let device = folder.path().join(address);
            std::fs::create_dir(&device).unwrap();
            if let Some(driver) = driver {
                std::os::unix::fs::symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver"))
                    .unwrap();
            }
        }
        let check = |address| check_pci(folder.path(), address).map_err(|error| error.to_string());
        assert_eq!(check("0000:01:00.2"), Ok(()));
        assert!(check("0000:01:00.0").unwrap_err().contains("bound to igb"));
        assert!(check("0000:01:00.1").unwrap_err().contains("bound to no driver"));
        assert!(check("0000:02:00.0").unwrap_err().contains("no PCI device 0000:02:00.0"));
    }
}
