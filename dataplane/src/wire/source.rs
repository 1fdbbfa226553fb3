//! Source addresses: those that no host can have, and marks by which a plain frame's source is judged in a few
//! instructions.

use std::net::IpAddr;

/// Whether an address is no host's on a network (RFC 6890 §2.2, RFC 1812 §5.3.7, RFC 4291 §2.5).
pub fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_martian_v4(address.to_bits()),
        IpAddr::V6(address) => is_martian_v6(address.to_bits()),
    }
}

/// Of "this network" (0/8), loopback (127/8), multicast (224/4), or reserved (240/4), with the limited broadcast address.
pub(super) const fn is_martian_v4(address: u32) -> bool {
    matches!(address >> 24, 0 | 127 | 224..)
}

/// Multicast (ff00::/8), unspecified, loopback or compatible with IPv4 (all in ::/96), or mapped from IPv4
/// (::ffff:0:0/96).
pub(super) const fn is_martian_v6(address: u128) -> bool {
    address >> 120 == 0xff || matches!(address >> 32, 0 | 0xffff)
}

/// Marks of the sources that must be looked at: those that no host can have, and some addresses. Other sources may have the
/// mark of one of these addresses by chance.
#[derive(Debug, Clone)]
pub struct Marks {
    /// By the first byte of an IPv4 source.
    first_v4: [u8; 256],
    /// By the first byte of an IPv6 source.
    first_v6: [u8; 256],
    /// By a hash of an IPv4 source, or of the lower half of an IPv6 source.
    cells: [u8; CELLS],
}

const CELL_BITS: u32 = 12;
const CELLS: usize = 1 << CELL_BITS;

impl Default for Marks {
    fn default() -> Self {
        let (mut first_v4, mut first_v6) = ([0; 256], [0; 256]);
        for (first, mark) in (0u8..=255).zip(&mut first_v4) {
            *mark = u8::from(is_martian_v4(u32::from_be_bytes([first, 0, 0, 1])));
        }
        // Of ::/8, hosts behind NAT64 have addresses, too (64:ff9b::/96, RFC 6052 §2.1). The mark asks for a closer look.
        first_v6[0] = 1;
        first_v6[0xff] = 1;
        Marks { first_v4, first_v6, cells: [0; CELLS] }
    }
}

impl Marks {
    /// Marks an address.
    pub fn add(&mut self, address: IpAddr) {
        let cell = match address {
            IpAddr::V4(address) => cell_v4(address.octets()),
            IpAddr::V6(address) => cell_v6(*address.octets().last_chunk().expect("it has 16 bytes")),
        };
        self.cells[cell] = 1;
    }

    /// The mark of an IPv4 source. 0: a host can have it, and it is none of the marked addresses.
    #[inline(always)]
    pub(super) fn of_v4(&self, source: [u8; 4]) -> u8 {
        self.first_v4[usize::from(source[0])] | self.cells[cell_v4(source)]
    }

    /// The same for the two halves of an IPv6 source.
    #[inline(always)]
    pub(super) fn of_v6(&self, upper: [u8; 8], lower: [u8; 8]) -> u8 {
        self.first_v6[usize::from(upper[0])] | self.cells[cell_v6(lower)]
    }
}

/// The cell of an IPv4 source: a hash by multiplication.
#[inline(always)]
fn cell_v4(source: [u8; 4]) -> usize {
    (u32::from_le_bytes(source).wrapping_mul(0x9e37_79b1) >> (u32::BITS - CELL_BITS)) as usize
}

/// The same for the lower half of an IPv6 source. The factor fits into an instruction, as a number with a sign.
#[inline(always)]
fn cell_v6(lower: [u8; 8]) -> usize {
    (u64::from_le_bytes(lower).wrapping_mul(0x5bd1_e995) >> (u64::BITS - CELL_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARTIANS: [&str; 16] = [
        "0.0.0.0",
        "0.255.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::192.0.2.1",
        "::ffff:192.0.2.1",
        "::ffff:127.0.0.1",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    const HOSTS: [&str; 15] = [
        "1.0.0.0",
        "10.0.0.1",
        "126.255.255.255",
        "128.0.0.0",
        "169.254.1.1",
        "192.0.2.1",
        "223.255.255.255",
        "64:ff9b::192.0.2.1",
        "100::1",
        "::1:0:0:1",
        "::fffe:192.0.2.1",
        "2001:db8::1",
        "fd00::1",
        "fe80::1",
        "feff::1",
    ];

    #[test]
    fn addresses_that_no_host_has_are_told_from_those_of_hosts() {
        for (addresses, martian) in [(&MARTIANS[..], true), (&HOSTS, false)] {
            for address in addresses {
                assert_eq!(is_martian(address.parse().unwrap()), martian, "{address}");
            }
        }
    }

    /// The mark of an address.
    fn mark(marks: &Marks, address: &str) -> u8 {
        match address.parse().unwrap() {
            IpAddr::V4(address) => marks.of_v4(address.octets()),
            IpAddr::V6(address) => {
                let [upper, lower] = [0, 8].map(|at| *address.octets()[at..].first_chunk().unwrap());
                marks.of_v6(upper, lower)
            }
        }
    }

    #[test]
    fn no_martian_and_no_marked_address_is_without_a_mark() {
        let mut marks = Marks::default();
        for martian in MARTIANS {
            assert_ne!(mark(&marks, martian), 0, "{martian}");
        }
        assert!(
            HOSTS.iter().filter(|host| mark(&marks, host) != 0).all(|host| host.parse::<IpAddr>().unwrap().is_ipv6())
        );
        for address in ["192.168.0.101", "fd00::101"] {
            assert_eq!(mark(&marks, address), 0);
            marks.add(address.parse().unwrap());
            assert_ne!(mark(&marks, address), 0);
        }
        let neighbors = (1..=254).map(|last| format!("192.168.0.{last}")).filter(|address| mark(&marks, address) != 0);
        assert_eq!(neighbors.collect::<Vec<_>>(), ["192.168.0.101"]);
    }

    #[test]
    fn addresses_that_follow_each_other_have_cells_of_their_own() {
        let v4 = (0..=255).map(|last| cell_v4([192, 168, 0, last]));
        let v6 = (0..=255).map(|last| cell_v6([0, 0, 0, 0, 0, 0, 0, last]));
        for cells in [v4.collect::<Vec<usize>>(), v6.collect()] {
            let distinct: std::collections::HashSet<usize> = cells.iter().copied().collect();
            assert!(distinct.len() > 240 && cells.iter().all(|&cell| cell < CELLS), "{}", distinct.len());
        }
    }
}
