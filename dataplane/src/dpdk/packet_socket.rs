//! AF_PACKET sockets, which DPDK's driver makes by itself, and what the kernel does with IPv4 fragments before they see them.
//!
//! The driver of DPDK 22.11 has its sockets join a fan-out group that reassembles IPv4 packets, and has no argument that says otherwise. The
//! shim has a `setsockopt` that takes this out (`dpdk-sys/src/packet.c`, docs/design/004-fragments.md). Whether it does is looked at here.

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::libc::{self, PACKET_FANOUT_FLAG_DEFRAG};

use crate::dpdk::descriptors::option;

/// DPDK's driver with packet sockets.
const DRIVER: &str = "net_af_packet";

/// What does not work then.
pub const REASSEMBLES: &str = "With AF_PACKET, the kernel reassembles IPv4 fragments here, and packets that fit no MTU as a whole are lost, because \
     this shuntd was linked without its own setsockopt (docs/design/004-fragments.md): take AF_XDP, a NIC, or another build";

/// Whether drivers that are loaded at run time call the shim's `setsockopt`, so that fragments come as they are.
pub fn fragments_come_as_they_are() -> bool {
    // SAFETY: asks the dynamic linker for a symbol; no conditions.
    unsafe { dpdk_sys::shunt_setsockopt_is_ours() != 0 }
}

/// What is to be said of a port, if it has packet sockets, which are these.
pub(super) fn warnings(driver: &str, interface: u32, sockets: &[RawFd]) -> Vec<String> {
    if driver != DRIVER {
        return Vec::new();
    }
    let fragments = reassembles(sockets).then(|| REASSEMBLES.into());
    let name = nix::net::if_::if_indextoname(interface);
    let merging = name.ok().filter(|name| merges_segments(name)).map(|name| {
        let name = name.to_string_lossy();
        format!(
            "The kernel puts TCP segments together that come by {name} (GRO, LRO), and what is then larger than the MTU is lost: \
             `ethtool -K {name} gro off lro off`"
        )
    });
    fragments.into_iter().chain(merging).collect()
}

fn merges_segments(interface: &CStr) -> bool {
    // SAFETY: the name is NUL-terminated.
    unsafe { dpdk_sys::shunt_merges_segments(interface.as_ptr()) != 0 }
}

/// Whether the kernel reassembles fragments for one of these packet sockets.
fn reassembles(sockets: &[RawFd]) -> bool {
    sockets.iter().any(|&socket| fanout_flags(socket) & PACKET_FANOUT_FLAG_DEFRAG != 0)
}

/// The flags of the fan-out group that a packet socket is in; 0: none, or it is in no group.
fn fanout_flags(socket: RawFd) -> u32 {
    const FLAGS: u32 = 0xff00;
    // SAFETY: a number. The group's number is in its lower half, type and flags are in the upper one (packet(7)).
    let group: Option<u32> = unsafe { option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT) };
    group.map_or(0, |group| group >> 16 & FLAGS)
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    /// A packet socket on the loopback interface; `None`: only root may have one.
    fn packet_socket(interface: u32) -> Option<OwnedFd> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET.try_into().unwrap(),
            sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap().to_be(),
            sll_ifindex: interface.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: makes a descriptor, which is owned from then on.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        if socket < 0 {
            return None;
        }
        // SAFETY: it has just been made.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let len = size_of_val(&address).try_into().unwrap();
        // SAFETY: the address has that length and is read during the call.
        assert_eq!(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }, 0);
        Some(socket)
    }

    /// Has a socket join a group, as DPDK's driver does; by the function or, past all functions, by the system call.
    fn join(socket: RawFd, group: c_int, by_call: bool) {
        let kind = libc::PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_DEFRAG | libc::PACKET_FANOUT_FLAG_ROLLOVER;
        let wanted = group | (kind << 16).cast_signed();
        let (level, option, len) = (libc::SOL_PACKET, libc::PACKET_FANOUT, size_of::<c_int>());
        // SAFETY: the value has that length and is read during the call.
        let joined = unsafe {
            let value: *const c_int = &raw const wanted;
            match by_call {
                true => libc::syscall(libc::SYS_setsockopt, socket, level, option, value, len),
                false => libc::setsockopt(socket, level, option, value.cast(), len.try_into().unwrap()).into(),
            }
        };
        assert_eq!(joined, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn a_fan_out_group_neither_reassembles_nor_rolls_over() {
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let Some(socket) = packet_socket(lo) else {
            println!("skipped: packet sockets need root");
            return;
        };
        let flags = |socket: &OwnedFd| fanout_flags(socket.as_raw_fd());
        let group = std::process::id().cast_signed() & 0x7fff;
        let alone = [socket.as_raw_fd()];
        assert!(!reassembles(&alone), "it is in no group");
        join(socket.as_raw_fd(), group, false);
        assert_eq!(flags(&socket), 0);
        assert!(!reassembles(&alone));

        let other = packet_socket(lo).unwrap();
        join(other.as_raw_fd(), group + 1, true);
        assert_ne!(flags(&other) & libc::PACKET_FANOUT_FLAG_ROLLOVER, 0);
        assert!(reassembles(&[socket.as_raw_fd(), other.as_raw_fd()]), "as the driver would have it without the shim");
    }

    #[test]
    fn an_interface_that_merges_segments_is_warned_of_for_packet_sockets_only() {
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        // It does unless it was told not to.
        let merges = warnings(DRIVER, lo, &[]).iter().any(|said| said.contains("`ethtool -K lo gro off lro off`"));
        assert_eq!(merges, merges_segments(c"lo"));
        assert!(warnings("net_af_xdp", lo, &[]).is_empty() && warnings(DRIVER, 0, &[]).is_empty());
        assert!(!merges_segments(c"no-such-0") && !merges_segments(c"a-name-that-is-too-long"));
    }

    #[test]
    fn what_a_driver_calls_is_the_shims_function() {
        assert!(fragments_come_as_they_are());
    }

    /// The shim's function stands before the C library's for all of the process.
    #[test]
    fn other_options_and_errors_pass_through() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let set = |socket: RawFd, level, option, value: c_int| {
            let len = size_of_val(&value).try_into().unwrap();
            // SAFETY: the value has that length and is read during the call.
            match unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), len) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
            }
        };
        socket.set_ttl(17).unwrap();
        assert_eq!(socket.ttl().unwrap(), 17);
        assert_eq!(set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), Ok(()));
        assert_eq!(set(-1, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), Err(libc::EBADF));
        assert_eq!(set(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, 1), Err(libc::ENOPROTOOPT));
        // SAFETY: a null pointer of no length is what the kernel says no to.
        let null =
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, std::ptr::null(), 0) };
        assert_eq!(null, -1);
    }
}
