//! Ethernet headers: MAC addresses (IEEE 802.3 §3.2).

use ctl::Mac;

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;

/// A MAC address as a number, so that a comparison is one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacNumber(u64);

impl MacNumber {
    /// A number that is no frame's MAC address.
    pub const NONE: MacNumber = MacNumber(u64::MAX);
}

impl From<Mac> for MacNumber {
    fn from(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        MacNumber(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// `N` bytes from this offset on, in one load. The compiler does not merge loads of single bytes.
#[inline(always)]
pub(super) fn load<const LEN: usize, const N: usize>(head: &[u8; LEN], offset: usize) -> [u8; N] {
    *head[offset..].first_chunk().expect("the head is longer")
}

/// The Ethernet header without its `tags` bytes of tags, and the bytes behind it.
#[inline]
pub(super) fn split(frame: &[u8], tags: usize) -> Option<([u8; ETHERNET_HEADER], &[u8])> {
    let (addresses, rest) = frame.split_first_chunk::<12>()?;
    let (ethertype, packet) = rest.get(tags..)?.split_first_chunk::<2>()?;
    let mut header = [0; ETHERNET_HEADER];
    header[..12].copy_from_slice(addresses);
    header[12..].copy_from_slice(ethertype);
    Some((header, packet))
}

/// The destination address: the first six bytes of an Ethernet header.
#[inline(always)]
pub fn destination_mac(ethernet: &[u8; 8]) -> MacNumber {
    // Eight bytes are read and two are masked, so that it is one load.
    MacNumber(u64::from_le_bytes(*ethernet) & 0x0000_ffff_ffff_ffff)
}

/// The source address: the next six bytes.
#[inline(always)]
pub fn source_mac(ethernet: &[u8; ETHERNET_HEADER]) -> MacNumber {
    MacNumber(u64::from_le_bytes(load(ethernet, 6)) & 0x0000_ffff_ffff_ffff)
}
