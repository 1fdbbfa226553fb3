//! EtherTypes: what an Ethernet frame carries (IEEE 802 numbers).

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag (IEEE 802.1Q), and of the inner of two tags.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of the outer of two VLAN tags (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
