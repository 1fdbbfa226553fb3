//! The sockets by which a port reaches a Linux interface, and what the kernel counts at them.
//!
//! DPDK's drivers keep their sockets to themselves, and tell a part of what is counted there, or nothing.

use std::ops::Add;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use nix::libc;
use rustix::net::sockopt::{xdp_options, xdp_statistics};
use rustix::net::xdp::{XdpOptionsFlags, XdpStatistics};

use crate::dpdk::descriptors::{Descriptors, option};

/// What the kernel counts at a port's AF_XDP sockets, all of them together, since they were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpStats {
    /// Frames that were received and lost, because there was no buffer in the fill ring, or because they were too long for one.
    pub rx_dropped: u64,
    /// Frames that were received and lost because no worker took those before them from the receive ring.
    pub rx_ring_full: u64,
    /// How often the kernel found no buffer in the fill ring.
    pub fill_ring_empty: u64,
    /// Buffers to receive into that the kernel has refused. They are lost.
    pub rx_invalid: u64,
    /// Buffers to send from that the kernel has refused. They are lost, and so are their frames.
    pub tx_invalid: u64,
}

impl XdpStats {
    /// Frames that the kernel had and no worker got.
    pub(super) fn missed(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full
    }
}

impl From<XdpStatistics> for XdpStats {
    /// Older kernels know the first three fields only, and count all lost frames in the first.
    fn from(of_socket: XdpStatistics) -> Self {
        XdpStats {
            rx_dropped: of_socket.rx_dropped,
            rx_ring_full: of_socket.rx_ring_full.unwrap_or(0),
            fill_ring_empty: of_socket.rx_fill_ring_empty_descs.unwrap_or(0),
            rx_invalid: of_socket.rx_invalid_descs,
            tx_invalid: of_socket.tx_invalid_descs,
        }
    }
}

impl Add for XdpStats {
    type Output = XdpStats;

    fn add(self, other: XdpStats) -> XdpStats {
        XdpStats {
            rx_dropped: self.rx_dropped + other.rx_dropped,
            rx_ring_full: self.rx_ring_full + other.rx_ring_full,
            fill_ring_empty: self.fill_ring_empty + other.fill_ring_empty,
            rx_invalid: self.rx_invalid + other.rx_invalid,
            tx_invalid: self.tx_invalid + other.tx_invalid,
        }
    }
}

/// Finds the sockets that appear while it is there. There is one at a time, since it cannot tell one port's sockets from another's.
pub(super) struct Finder {
    before: Descriptors,
    _turn: MutexGuard<'static, ()>,
}

impl Finder {
    /// To be made before the port's device is attached.
    pub(super) fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Finder { before: Descriptors::now(), _turn: turn }
    }

    /// The port's sockets. To be asked when the port is open.
    pub(super) fn found(self) -> Sockets {
        let families: Vec<(RawFd, i32)> =
            self.before.more().filter_map(|socket| Some((socket.number, socket.family()?))).collect();
        let of = |wanted| families.iter().filter(move |(_, family)| *family == wanted).map(|(fd, _)| *fd).collect();
        Sockets { xdp: of(libc::AF_XDP), packet: of(libc::AF_PACKET), packet_drops: AtomicU64::new(0) }
    }
}

/// `struct tpacket_stats`, as an AF_PACKET socket has it (packet(7)).
#[derive(Clone, Copy)]
#[repr(C)]
struct PacketStats {
    packets: u32,
    drops: u32,
}

/// A port's sockets. They are open as long as the port.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    xdp: Vec<RawFd>,
    packet: Vec<RawFd>,
    /// What was read so far: the kernel begins anew with each reading.
    packet_drops: AtomicU64,
}

impl Sockets {
    /// What the kernel counts at the AF_XDP sockets; `None` where there are none.
    ///
    /// # Safety
    /// The port whose sockets these are is open.
    pub(super) unsafe fn xdp(&self) -> Option<XdpStats> {
        let each = self.xdp.iter().filter_map(|&fd| {
            // SAFETY: by the caller's word, the driver has this socket open.
            xdp_statistics(unsafe { BorrowedFd::borrow_raw(fd) }).ok()
        });
        (!self.xdp.is_empty()).then(|| each.map(XdpStats::from).fold(XdpStats::default(), Add::add))
    }

    /// Whether an interface's driver takes frames from the AF_XDP sockets without a copy.
    ///
    /// # Safety
    /// The port whose sockets these are is open.
    pub(super) unsafe fn zero_copy(&self) -> bool {
        self.xdp.iter().any(|&fd| {
            // SAFETY: by the caller's word, the driver has this socket open.
            xdp_options(unsafe { BorrowedFd::borrow_raw(fd) })
                .is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
        })
    }

    /// The AF_PACKET sockets.
    pub(super) fn packet(&self) -> &[RawFd] {
        &self.packet
    }

    /// Frames that found no place in the rings of the AF_PACKET sockets.
    pub(super) fn packet_drops(&self) -> u64 {
        const PACKET_STATISTICS: i32 = 6;
        let new = |&fd: &RawFd| {
            // SAFETY: two numbers.
            let stats: Option<PacketStats> = unsafe { option(fd, libc::SOL_PACKET, PACKET_STATISTICS) };
            stats.map(|stats| stats.drops)
        };
        let new: u64 = self.packet.iter().filter_map(new).map(u64::from).sum();
        self.packet_drops.fetch_add(new, Relaxed) + new
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    #[test]
    fn sockets_of_other_families_are_no_port_s() {
        let finder = Finder::new();
        let _other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = finder.found();
        // SAFETY: there are none.
        let (xdp, zero_copy) = unsafe { (sockets.xdp(), sockets.zero_copy()) };
        assert_eq!((xdp, zero_copy, sockets.packet_drops()), (None, false, 0));
    }

    /// A packet socket on the loopback interface, which nobody reads. `None`: only root may have one.
    fn packet_socket() -> Option<OwnedFd> {
        // SAFETY: makes a descriptor, which is owned from then on.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        if socket < 0 {
            return None;
        }
        // SAFETY: it has just been made.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &1).unwrap();
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET.try_into().unwrap(),
            sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap().to_be(),
            sll_ifindex: nix::net::if_::if_nametoindex("lo").unwrap().cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of_val(&address).try_into().unwrap();
        // SAFETY: the address has that length and is read during the call.
        assert_eq!(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }, 0);
        Some(socket)
    }

    #[test]
    fn what_the_packet_sockets_of_a_port_lose_adds_up() {
        let finder = Finder::new();
        let (Some(_one), Some(_two)) = (packet_socket(), packet_socket()) else {
            println!("skipped: packet sockets need root");
            return;
        };
        let port = finder.found();
        let finder = Finder::new();
        let _of_another = packet_socket().unwrap();
        let other = finder.found();
        assert_eq!((port.packet.len(), other.packet.len()), (2, 1));
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = to.local_addr().unwrap();
        let lose = || (0..1_000).for_each(|_| assert_eq!(from.send_to(&[0; 1_000], to).unwrap(), 1_000));
        lose();
        // Each socket sees each packet, and has room for a few.
        let first = port.packet_drops();
        assert!(first > 1_900, "{first}");
        assert!(port.packet_drops() >= first, "what was read stays counted");
        lose();
        assert!(port.packet_drops() > first + 1_900);
        assert!(other.packet_drops() > 1_900, "another port's are its own");
    }
}
