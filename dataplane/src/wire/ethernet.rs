//! Ethernet headers: EtherTypes and MAC addresses (IEEE 802.3 §3.2).

use ctl::Mac;

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag (IEEE 802.1Q), and of the inner one of two.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of the outer one of two VLAN tags (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// A MAC address as a number: compared in one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacNumber(u64);

impl MacNumber {
    /// No frame has this one.
    pub const NONE: MacNumber = MacNumber(u64::MAX);
}

impl From<Mac> for MacNumber {
    fn from(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        MacNumber(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// So many bytes from this place on, in one load: the compiler does not put together what is taken byte by byte.
#[inline(always)]
pub(super) fn load<const LEN: usize, const N: usize>(head: &[u8; LEN], place: usize) -> [u8; N] {
    *head[place..].first_chunk().expect("the head is longer")
}

/// The Ethernet header as it would be without tags, and what is behind it.
#[inline]
pub(super) fn split(frame: &[u8], tags: usize) -> Option<([u8; ETHERNET_HEADER], &[u8])> {
    let (addresses, rest) = frame.split_first_chunk::<12>()?;
    let (ethertype, packet) = rest.get(tags..)?.split_first_chunk::<2>()?;
    let mut header = [0; ETHERNET_HEADER];
    header[..12].copy_from_slice(addresses);
    header[12..].copy_from_slice(ethertype);
    Some((header, packet))
}

/// The first six bytes of an Ethernet header.
#[inline(always)]
pub fn destination_mac(ethernet: &[u8; 8]) -> MacNumber {
    // Two bytes too many are read and masked: one load.
    MacNumber(u64::from_le_bytes(*ethernet) & 0x0000_ffff_ffff_ffff)
}

/// The next six.
#[inline(always)]
pub fn source_mac(ethernet: &[u8; ETHERNET_HEADER]) -> MacNumber {
    MacNumber(u64::from_le_bytes(load(ethernet, 6)) & 0x0000_ffff_ffff_ffff)
}
