//! Multicast listener reports (MLDv2, RFC 3810): tell switches that the director wants neighbor solicitations.
//!
//! A solicitation for an address goes to that address's solicited-node group (RFC 4861 §7.2.2). A switch that snoops
//! MLD sends a group's frames only to ports where it has heard a report for that group. Without a report, an IPv6 VIP
//! behind such a switch cannot be reached. We send reports unsolicited, more often than any switch forgets (260 s, RFC
//! 3810 §9.4), so queries need no answer.

use std::net::Ipv6Addr;

use ctl::Mac;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Message, Icmpv6Packet, IpProtocol,
    Ipv6Packet, Ipv6Repr, MldRecordType,
};

use super::ndp::{multicast_mac, solicited_node};
use crate::wire::ipv6::link_local;

/// All MLDv2-capable routers (RFC 3810 §5.2.14).
const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// RFC 3810 §5: an MLD message has a hop-by-hop header with a router alert (RFC 2711), padded to eight bytes.
const ROUTER_ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const ICMPV6: u8 = 58;
/// Groups in one report, so that it fits the smallest MTU (1280).
const GROUPS: usize = 60;

/// Reports that the station with `own_mac` listens to the solicited-node groups of these addresses.
pub fn reports(own_mac: Mac, addresses: impl IntoIterator<Item = Ipv6Addr>) -> Vec<Vec<u8>> {
    let mut groups: Vec<Ipv6Addr> = addresses.into_iter().map(solicited_node).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.chunks(GROUPS).map(|groups| report(own_mac, groups)).collect()
}

fn report(own_mac: Mac, groups: &[Ipv6Addr]) -> Vec<u8> {
    let count = u16::try_from(groups.len()).expect("at most GROUPS");
    let mut message = vec![u8::from(Icmpv6Message::MldReport), 0, 0, 0, 0, 0];
    message.extend_from_slice(&count.to_be_bytes());
    for group in groups {
        // Exclude mode with an empty list of sources: all sources are wanted (§5.2.12).
        message.extend_from_slice(&[u8::from(MldRecordType::ChangeToExclude), 0, 0, 0]);
        message.extend_from_slice(&group.octets());
    }
    let source = link_local(own_mac);
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&source, &ALL_MLDV2_ROUTERS);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: ALL_MLDV2_ROUTERS,
        next_header: IpProtocol::HopByHop,
        payload_len: ROUTER_ALERT.len() + message.len(),
        hop_limit: 1,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own_mac.0),
        dst_addr: EthernetAddress(multicast_mac(ALL_MLDV2_ROUTERS).0),
        ethertype: EthernetProtocol::Ipv6,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    ip.emit(&mut Ipv6Packet::new_unchecked(frame.payload_mut()));
    [bytes, ROUTER_ALERT.to_vec(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame::eth;
    use crate::testing::model::PORT_MAC;

    #[test]
    fn a_report_names_each_group_once() {
        let addresses = ["fd00::101", "fd00:1::101", "fd00::2"].map(|address| address.parse().unwrap());
        let record = |group: &str| [&[4, 0, 0, 0][..], &group.parse::<Ipv6Addr>().unwrap().octets()].concat();
        let rest = [&[0, 0, 0, 2][..], &record("ff02::1:ff00:2"), &record("ff02::1:ff00:101")].concat();
        let mut expected = eth()
            .from(PORT_MAC)
            .to(Mac([0x33, 0x33, 0, 0, 0, 0x16]))
            .ipv6(&link_local(PORT_MAC).to_string(), "ff02::16")
            .extension(0, &ROUTER_ALERT)
            .icmp(58, 143, 0, &rest);
        expected[14 + 7] = 1; // hop limit
        assert_eq!(reports(PORT_MAC, addresses), [expected]);
    }

    #[test]
    fn many_groups_need_several_reports_and_no_group_needs_no_report() {
        let addresses = (0..150u128).map(|i| Ipv6Addr::from_bits(0xfd00 << 112 | i));
        let reports = reports(PORT_MAC, addresses);
        assert_eq!(reports.len(), 3);
        assert!(reports.iter().all(|report| report.len() <= 14 + 1280));
        assert!(super::reports(PORT_MAC, []).is_empty());
    }
}
