//! Why a port does not open.

use crate::base::lock_file::{LockError, holder};
use crate::dpdk::error::DpdkError;
use crate::dpdk::frame_size::XDP_MTU;
use crate::dpdk::xdp_check::XdpError;

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
    /// It has an owner.
    #[error(
        "{device} is open already, as {owner}: two [[ports]] name one device or network interface; take one of them out, or change its device"
    )]
    Open {
        /// The device.
        device: String,
        /// The device that the open port was given.
        owner: String,
    },
    /// Another daemon has the interface.
    #[error(
        "{device} is taken: {} has {interface}, and two daemons on one interface would send every packet twice; stop that one, or give this one \
         another interface",
        holder(*pid)
    )]
    Claimed {
        /// The device.
        device: String,
        /// The Linux interface that it goes by.
        interface: String,
        /// The process that has it.
        pid: Option<u32>,
    },
    /// It cannot be told whether another daemon has the interface.
    #[error("{device} may be taken by another daemon")]
    NoLock {
        /// The device.
        device: String,
        /// Why.
        source: LockError,
    },
    /// DPDK's null device does not look at how large the buffers are.
    #[error("{device} makes frames that do not fit a packet buffer of {room} bytes: set its size to {room} or less")]
    NullFrames {
        /// The device.
        device: String,
        /// A buffer's room.
        room: u16,
    },
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
    /// It cannot be an AF_XDP port.
    #[error(transparent)]
    Xdp(#[from] XdpError),
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
    /// Buffers that the kernel would refuse.
    #[error(
        "{device}: AF_XDP cannot use {outside} of {buffers} packet buffers, because their memory is not in one piece: reserve hugepages at \
         boot, before memory is in pieces, or set director.hugepages to \"off\", or the port's driver to \"af_packet\""
    )]
    Umem {
        /// The device.
        device: String,
        /// The buffers that it cannot use.
        outside: u32,
        /// All buffers.
        buffers: u32,
    },
    /// Fewer buffers are free than the driver begins with.
    #[error(
        "{device}: AF_XDP begins with {needed} packet buffers, and {free} are free: set director.mbufs higher; if there were enough before, \
         restart the daemon"
    )]
    Buffers {
        /// The device.
        device: String,
        /// What the driver takes at once.
        needed: u32,
        /// What is free.
        free: u32,
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

impl PortError {
    /// Whether the device is good, but has an owner.
    pub(super) fn is_about_an_owner(&self) -> bool {
        matches!(self, PortError::Open { .. } | PortError::Claimed { .. } | PortError::NoLock { .. })
    }
}
