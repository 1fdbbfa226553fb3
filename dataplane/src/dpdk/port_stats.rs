//! What is counted at a port.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ctl::Mac;
use dpdk_sys::rte_eth_stats;

use crate::dpdk::interface_stats::{Interface, InterfaceStats};
use crate::dpdk::sockets::{Sockets, XdpStats};

/// What is counted at a port since it was opened: by the NIC, and for a Linux interface by the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames dropped because no worker took them from the queue in time, or because the kernel had no room for them.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames for which there was no mbuf.
    pub rx_no_mbuf: u64,
    /// What the kernel counts at the port's AF_XDP sockets, where it has such.
    pub xdp: Option<XdpStats>,
    /// Frames that the driver took to send.
    pub tx_given: u64,
    /// Frames that the Linux interface has sent, where the kernel tells; whoever gave them to it.
    pub tx_left: Option<u64>,
    /// Whether the kernel says that nothing can be sent, because the link is down.
    pub down: bool,
}

impl PortStats {
    /// From what the driver says, what was lost at AF_PACKET sockets, and what the kernel says.
    pub(super) fn new(
        driver: &rte_eth_stats,
        xdp: Option<XdpStats>,
        packet_drops: u64,
        interface: Option<InterfaceStats>,
    ) -> Self {
        PortStats {
            rx_missed: missed(driver.imissed, xdp, packet_drops, interface),
            rx_errors: driver.ierrors + interface.map_or(0, |interface| interface.rx_errors),
            rx_no_mbuf: driver.rx_nombuf,
            xdp,
            tx_given: driver.opackets,
            tx_left: interface.map(|interface| interface.tx_packets),
            down: interface.is_some_and(|interface| interface.down),
        }
    }
}

/// Where the kernel counts what becomes of a port's frames. Of a NIC of DPDK's own, there is nothing.
#[derive(Debug)]
pub(super) struct KernelCounters {
    sockets: Sockets,
    interface: Option<Interface>,
    /// The most that was counted as missed: an interface may be gone, and what is counted once stays counted.
    missed: AtomicU64,
}

impl KernelCounters {
    /// For a port with these sockets and this Linux interface, by its index.
    pub(super) fn new(sockets: Sockets, interface: Option<u32>, mac: Mac) -> Self {
        let interface = interface.and_then(|index| Interface::of(index, mac));
        KernelCounters { sockets, interface, missed: AtomicU64::new(0) }
    }

    /// What is counted at the port, of which the driver says this.
    ///
    /// # Safety
    /// The port is open.
    pub(super) unsafe fn stats(&self, driver: &rte_eth_stats) -> PortStats {
        // SAFETY: by the caller's word.
        let xdp = unsafe { self.sockets.xdp() };
        let interface = self.interface.as_ref().and_then(Interface::since_opened);
        let mut stats = PortStats::new(driver, xdp, self.sockets.packet_drops(), interface);
        stats.rx_missed = self.missed.fetch_max(stats.rx_missed, Relaxed).max(stats.rx_missed);
        stats
    }
}

/// Each lost frame once, although some are counted at two places.
///
/// - AF_XDP: at the socket, and on veth, as on many NICs, at the interface, too (`rx_dropped`), because there the XDP program's redirection
///   fails. With XDP in its generic form, the socket alone has it, and the interface has what was lost before. So the larger of the
///   two is never too much. The driver tells a part of what is counted at the socket.
/// - AF_PACKET: the socket has what found no place in the ring, the interface what was lost before. The driver tells nothing.
/// - What a NIC had no room for (`rx_missed_errors`) is in neither.
fn missed(imissed: u64, xdp: Option<XdpStats>, packet_drops: u64, interface: Option<InterfaceStats>) -> u64 {
    let at_sockets = xdp.map_or(imissed, |xdp| xdp.missed()) + packet_drops;
    let InterfaceStats { rx_dropped, rx_missed, .. } = interface.unwrap_or_default();
    let with_dropped = if xdp.is_some() { at_sockets.max(rx_dropped) } else { at_sockets + rx_dropped };
    with_dropped + rx_missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lost_frame_is_counted_once() {
        let xdp = |rx_dropped, rx_ring_full| {
            Some(XdpStats { rx_dropped, rx_ring_full, fill_ring_empty: 1_000, rx_invalid: 0, tx_invalid: 0 })
        };
        let interface =
            |rx_dropped, rx_missed| Some(InterfaceStats { rx_dropped, rx_missed, ..InterfaceStats::default() });
        for (what, imissed, xdp, packet_drops, interface, expected) in [
            ("a NIC", 7, None, 0, None, 7),
            ("AF_XDP, the kernel tells nothing else", 3, xdp(3, 20), 0, None, 23),
            ("AF_XDP on veth: both have the same", 3, xdp(3, 20), 0, interface(23, 0), 23),
            ("AF_XDP on veth: some were lost before", 3, xdp(3, 20), 0, interface(25, 0), 25),
            ("AF_XDP, generic", 3, xdp(3, 20), 0, interface(0, 0), 23),
            ("AF_XDP on a NIC", 3, xdp(3, 20), 0, interface(23, 5), 28),
            ("AF_PACKET", 0, None, 11, interface(0, 0), 11),
            ("AF_PACKET, a backlog before it", 0, None, 11, interface(4, 2), 17),
        ] {
            assert_eq!(missed(imissed, xdp, packet_drops, interface), expected, "{what}");
        }
    }

    #[test]
    fn a_port_without_an_interface_is_what_its_driver_says() {
        let driver = rte_eth_stats { imissed: 1, ierrors: 2, rx_nombuf: 3, opackets: 4, ..Default::default() };
        let stats = PortStats { rx_missed: 1, rx_errors: 2, rx_no_mbuf: 3, tx_given: 4, ..PortStats::default() };
        assert_eq!(PortStats::new(&driver, None, 0, None), stats);
    }
}
