//! What is counted at a port.

use std::ops::Add;
use std::sync::{Mutex, PoisonError};

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

impl Add for PortStats {
    type Output = PortStats;

    /// What is counted at two ports that were open one after the other: what was lost adds up, all else is the later one's.
    fn add(self, later: PortStats) -> PortStats {
        let xdp = match (self.xdp, later.xdp) {
            (Some(earlier), Some(later)) => Some(earlier + later),
            (earlier, later) => earlier.or(later),
        };
        PortStats {
            rx_missed: self.rx_missed + later.rx_missed,
            rx_errors: self.rx_errors + later.rx_errors,
            rx_no_mbuf: self.rx_no_mbuf + later.rx_no_mbuf,
            xdp,
            ..later
        }
    }
}

/// Where is counted what becomes of a port's frames.
#[derive(Debug)]
pub(super) struct PortCounters {
    sockets: Sockets,
    interface: Option<Interface>,
    lasting: Mutex<LastingCounters>,
}

#[derive(Debug, Default)]
struct LastingCounters {
    /// `imissed`, `ierrors`, `rx_nombuf`, `opackets`.
    driver: Lasting<4>,
    /// `rx_dropped`, `rx_missed`, `rx_errors`, `tx_packets`.
    interface: Lasting<4>,
}

impl PortCounters {
    /// For a port that was just opened, with these sockets and this Linux interface, by its index.
    pub(super) fn new(sockets: Sockets, interface: Option<u32>, mac: Mac) -> Self {
        let interface = interface.and_then(|index| Interface::of(index, mac));
        let first = interface.as_ref().and_then(Interface::stats);
        let lasting =
            LastingCounters { interface: Lasting::from(first.map_or([0; 4], counts)), ..LastingCounters::default() };
        PortCounters { sockets, interface, lasting: Mutex::new(lasting) }
    }

    /// What is counted at the port, of which the driver says this, if it says anything.
    ///
    /// # Safety
    /// The port is open.
    pub(super) unsafe fn stats(&self, driver: Option<&rte_eth_stats>) -> PortStats {
        // Before anything is read, so that nobody reads what is older than what was read last.
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: by the caller's word.
        let (xdp, zero_copy) = unsafe { (self.sockets.xdp(), self.sockets.zero_copy()) };
        let packet_drops = self.sockets.packet_drops();
        let interface = self.interface.as_ref().and_then(Interface::stats);
        let driver = driver.map(|driver| [driver.imissed, driver.ierrors, driver.rx_nombuf, driver.opackets]);
        let [imissed, ierrors, rx_no_mbuf, tx_given] = lasting.driver.read(driver);
        let [rx_dropped, rx_missed, rx_errors, tx_packets] = lasting.interface.read(interface.map(counts));
        let left = interface.map(|_| tx_packets).filter(|&left| !zero_copy || counts_zero_copy(tx_given, left));
        PortStats {
            rx_missed: missed(imissed, xdp, packet_drops, rx_dropped) + rx_missed,
            rx_errors: ierrors + rx_errors,
            rx_no_mbuf,
            xdp,
            tx_given,
            tx_left: left,
            down: interface.is_some_and(|interface| interface.down),
        }
    }
}

fn counts(stats: InterfaceStats) -> [u64; 4] {
    [stats.rx_dropped, stats.rx_missed, stats.rx_errors, stats.tx_packets]
}

/// Whether an interface's driver counts what is sent without a copy: not all do (mlx5 does not). Found out by what it has counted so far.
fn counts_zero_copy(given: u64, left: u64) -> bool {
    const ENOUGH: u64 = 1_000;
    given >= ENOUGH && left >= given / 2
}

/// Each lost frame once, although some are counted at two places.
///
/// - AF_XDP: at the socket, and on veth, as on many NICs, at the interface, too (`rx_dropped`), because there the XDP program's redirection
///   fails. With XDP in its generic form, the socket alone has it, and the interface has what was lost before. So the larger of the
///   two is never too much. The driver tells a part of what is counted at the socket.
/// - AF_PACKET: the socket has what found no place in the ring, the interface what was lost before. The driver tells nothing.
/// - What a NIC had no room for (`rx_missed_errors`) is in neither.
fn missed(imissed: u64, xdp: Option<XdpStats>, packet_drops: u64, rx_dropped: u64) -> u64 {
    match xdp {
        Some(xdp) => xdp.missed().max(rx_dropped),
        None => imissed + packet_drops + rx_dropped,
    }
}

/// Counters of somebody else's, which may begin anew, or be gone: what has been counted once stays counted.
#[derive(Debug, Clone, Copy)]
struct Lasting<const N: usize> {
    last: [u64; N],
    sum: [u64; N],
}

impl<const N: usize> Default for Lasting<N> {
    fn default() -> Self {
        Self::from([0; N])
    }
}

impl<const N: usize> Lasting<N> {
    /// Counts from these values.
    fn from(last: [u64; N]) -> Self {
        Lasting { last, sum: [0; N] }
    }

    /// What has been counted, now that the counters have these values. `None`: there are none to be had.
    fn read(&mut self, now: Option<[u64; N]>) -> [u64; N] {
        for (number, now) in now.into_iter().flatten().enumerate() {
            let last = std::mem::replace(&mut self.last[number], now);
            self.sum[number] += now.checked_sub(last).unwrap_or(now);
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lost_frame_is_counted_once() {
        let xdp = |rx_dropped, rx_ring_full| {
            Some(XdpStats { rx_dropped, rx_ring_full, fill_ring_empty: 1_000, rx_invalid: 0, tx_invalid: 0 })
        };
        for (what, imissed, xdp, packet_drops, rx_dropped, expected) in [
            ("a NIC", 7, None, 0, 0, 7),
            ("AF_XDP, generic: the kernel tells nothing else", 3, xdp(3, 20), 0, 0, 23),
            ("AF_XDP on veth: both have the same", 3, xdp(3, 20), 0, 23, 23),
            ("AF_XDP on veth: some were lost before", 3, xdp(3, 20), 0, 25, 25),
            ("AF_PACKET", 0, None, 11, 0, 11),
            ("AF_PACKET, a backlog before it", 0, None, 11, 4, 15),
        ] {
            assert_eq!(missed(imissed, xdp, packet_drops, rx_dropped), expected, "{what}");
        }
    }

    #[test]
    fn counters_that_begin_anew_or_are_gone_do_not_go_back() {
        let mut lasting = Lasting::from([10, 100]);
        for (now, expected) in [
            (Some([10, 100]), [0, 0]),
            (Some([12, 105]), [2, 5]),
            (None, [2, 5]),
            (Some([12, 3]), [2, 8]),
            (Some([13, 4]), [3, 9]),
        ] {
            assert_eq!(lasting.read(now), expected, "{now:?}");
        }
    }

    #[test]
    fn a_port_without_an_interface_is_what_its_driver_says() {
        let counters = PortCounters::new(Sockets::default(), None, Mac::default());
        let driver = rte_eth_stats { imissed: 1, ierrors: 2, rx_nombuf: 3, opackets: 4, ..Default::default() };
        let stats = PortStats { rx_missed: 1, rx_errors: 2, rx_no_mbuf: 3, tx_given: 4, ..PortStats::default() };
        // Also where the driver says nothing for once.
        for said in [Some(&driver), None, Some(&driver)] {
            // SAFETY: there are no sockets.
            assert_eq!(unsafe { counters.stats(said) }, stats);
        }
    }

    #[test]
    fn what_was_lost_at_ports_that_were_open_one_after_the_other_adds_up() {
        let xdp = |rx_ring_full| Some(XdpStats { rx_ring_full, tx_invalid: 1, ..XdpStats::default() });
        let stats = |number, xdp| PortStats {
            rx_missed: number,
            rx_errors: number,
            rx_no_mbuf: number,
            xdp,
            tx_given: number,
            tx_left: Some(number),
            down: false,
        };
        let both = |xdp| PortStats { tx_given: 2, tx_left: Some(2), ..stats(7, xdp) };
        let sum = Some(XdpStats { rx_ring_full: 5, tx_invalid: 2, ..XdpStats::default() });
        assert_eq!(stats(5, xdp(3)) + stats(2, xdp(2)), both(sum));
        assert_eq!(stats(5, xdp(3)) + stats(2, None), both(xdp(3)), "another driver");
        assert_eq!(stats(5, None) + stats(2, None), both(None));
    }

    #[test]
    fn a_counter_that_leaves_out_most_is_not_believed_without_a_copy() {
        for (given, left, believed) in
            [(10, 10, false), (1_000, 20, false), (1_000, 1_003, true), (2_000_000, 1_200_000, true)]
        {
            assert_eq!(counts_zero_copy(given, left), believed, "{given} {left}");
        }
    }
}
