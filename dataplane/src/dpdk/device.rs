//! Which device to open, and whether it can be.

use std::fmt;
use std::path::Path;

use crate::base::limits::MTUS;
use crate::dpdk::frame_size::{XDP_MTU, most_in_ring, ring_room};
use crate::dpdk::port_error::PortError;

/// DPDK's driver for AF_XDP sockets.
pub(super) const XDP: &str = "net_af_xdp";

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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
    /// for itself: there, `Port::open` sets it.
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
            (Ok(mtu), _) => Ok(u16::try_from(mtu.min(u32::from(*MTUS.end()))).ok()),
            (Err(error), Some(_)) => Err(failed(error)),
            // Where /sys is another network namespace's: DPDK takes it for the usual 1500.
            (Err(_), None) => Ok(None),
        }
    }

    /// The NUMA node that the device is attached to, as the kernel knows it: where the machine has several, and the device is one of a bus.
    ///
    /// DPDK says the same of a PCI device, once it has been probed (`rte_eth_dev_socket_id`); of a Linux interface it knows only
    /// the node of its own main thread.
    pub fn node(&self) -> Option<u32> {
        node_in(Path::new("/sys"), self)
    }

    /// The largest MTU whose frames fit, where the device was opened by this driver for this MTU.
    pub(super) fn most_mtu(&self, driver: &str, mtu: u16) -> u16 {
        match (self, driver) {
            (Device::Interface { .. }, XDP) => mtu.max(XDP_MTU),
            (Device::Interface { .. }, "net_af_packet") => mtu.max(most_in_ring(mtu)),
            _ => mtu,
        }
    }

    /// The packet buffer that the device's frames need at an MTU, in one piece, if that is not the usual one.
    pub fn buffer(&self, mtu: u16) -> usize {
        match self {
            Device::Interface { .. } => ring_room(mtu),
            // A NIC spreads a frame over several.
            Device::Pci(_) | Device::Vdev(_) => 0,
        }
    }

    /// The largest MTU up to this one whose frames fit packet buffers with this room, where the device needs them in one piece.
    pub fn most_mtu_of_buffers(&self, mtu: u16, room: u16) -> u16 {
        let fits = |mtu: &u16| self.buffer(*mtu) <= usize::from(room);
        if fits(&mtu) { mtu } else { (*MTUS.start()..mtu).rev().find(fits).unwrap_or(*MTUS.start()) }
    }

    /// Whether the device may come to be an AF_XDP port, at an MTU (`None`: not known). Such a port takes its frames into buffers of a
    /// page each ([`Layout::Pages`](crate::dpdk::Layout::Pages)).
    pub fn may_take_xdp(&self, mtu: Option<u16>) -> bool {
        match self {
            Device::Interface { driver: Driver::AfXdp, .. } => true,
            Device::Interface { driver: Driver::Auto, .. } => mtu.is_none_or(|mtu| mtu <= XDP_MTU),
            Device::Interface { driver: Driver::AfPacket, .. } | Device::Pci(_) => false,
            Device::Vdev(arguments) => arguments.starts_with(XDP),
        }
    }
}

/// The speed of a Linux interface in Mbit/s, where the kernel knows it (of the virtual ones, of veth alone: 10000).
pub(super) fn interface_speed(index: u32) -> Option<u32> {
    let name = nix::net::if_::if_indextoname(index).ok()?.into_string().ok()?;
    speed_in(Path::new("/sys/class/net"), &name)
}

/// An error where the link is down; -1 where it is not known.
fn speed_in(interfaces: &Path, name: &str) -> Option<u32> {
    std::fs::read_to_string(interfaces.join(name).join("speed")).ok()?.trim().parse().ok().filter(|&speed| speed > 0)
}

fn node_in(sys: &Path, device: &Device) -> Option<u32> {
    let device = match device {
        Device::Pci(address) => sys.join("bus/pci/devices").join(address),
        Device::Interface { name, .. } => sys.join("class/net").join(name).join("device"),
        Device::Vdev(_) => return None,
    };
    // -1 where it is attached to none.
    std::fs::read_to_string(device.join("numa_node")).ok()?.trim().parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MTUS;
    use crate::dpdk::frame_size::{FRAME_OVERHEAD, ring};

    #[test]
    fn a_ring_has_room_for_its_interfaces_frames() {
        assert_eq!(ring(None), "");
        assert_eq!(ring(Some(1_500)), "");
        assert_eq!(ring(Some(9_000)), ",framesz=9216,blocksz=36864");
        let interface = Device::Interface { name: "eth1".into(), driver: Driver::AfPacket };
        assert_eq!(interface.buffer(1_500), 0);
        assert_eq!(interface.most_mtu_of_buffers(1_400, 2_048), 1_400);
        let fitting = interface.most_mtu_of_buffers(9_000, 2_048);
        assert!(interface.buffer(fitting) <= 2_048 && interface.buffer(fitting + 1) > 2_048, "{fitting}");
        let most = |driver, mtu| interface.most_mtu(driver, mtu);
        assert_eq!((most("net_af_packet", 1_500), most("net_af_packet", 9_000)), (1_958, 9_216 - 26 - 64));
        assert_eq!((most("net_af_xdp", 1_400), most("net_pcap", 1_400)), (XDP_MTU, 1_400));
        assert!(MTUS.into_iter().all(|mtu| interface.buffer(mtu).max(2_048) >= usize::from(mtu) + FRAME_OVERHEAD));
    }

    #[test]
    fn a_device_s_node_is_the_kernel_s() {
        let sys = tempfile::tempdir().unwrap();
        for (device, node) in [
            ("bus/pci/devices/0000:01:00.0", "1\n"),
            ("bus/pci/devices/0000:01:00.1", "-1\n"),
            ("class/net/eth1/device", "0\n"),
            ("class/net/eth2", ""),
        ] {
            std::fs::create_dir_all(sys.path().join(device)).unwrap();
            std::fs::write(sys.path().join(device).join("numa_node"), node).unwrap();
        }
        let interface = |name: &str| Device::Interface { name: name.into(), driver: Driver::Auto };
        for (device, node) in [
            (Device::Pci("0000:01:00.0".into()), Some(1)),
            (Device::Pci("0000:01:00.1".into()), None),
            (Device::Pci("0000:01:00.2".into()), None),
            (interface("eth1"), Some(0)),
            (interface("eth2"), None),
            (Device::Vdev("net_null0".into()), None),
        ] {
            assert_eq!(node_in(sys.path(), &device), node, "{device}");
        }
    }

    #[test]
    fn the_speed_of_an_interface_is_the_kernel_s_or_unknown() {
        let interfaces = tempfile::tempdir().unwrap();
        for (name, speed) in [("eth1", "1000\n"), ("eth2", "-1\n"), ("eth3", "0\n")] {
            std::fs::create_dir(interfaces.path().join(name)).unwrap();
            std::fs::write(interfaces.path().join(name).join("speed"), speed).unwrap();
        }
        let speeds = ["eth1", "eth2", "eth3", "eth4"].map(|name| speed_in(interfaces.path(), name));
        assert_eq!(speeds, [Some(1_000), None, None, None]);
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
