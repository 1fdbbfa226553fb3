//! The bytes of reports.

use std::net::Ipv6Addr;

use ctl::Mac;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Message, Icmpv6Packet, IpProtocol,
    Ipv6Packet, Ipv6Repr, MldRecordType,
};

use crate::slow::ndp::multicast_mac;
use crate::wire::ipv6::link_local;
use crate::wire::l4::ICMPV6;

/// All routers of the link (RFC 4291 §2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All MLDv2-capable routers (RFC 3810 §5.2.14).
const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// RFC 3810 §5: an MLD message has a hop-by-hop header with a router alert (RFC 2711), padded to eight bytes.
pub(super) const ROUTER_ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// The types of MLDv1's messages (RFC 2710 §3.1).
const V1_REPORT: u8 = 131;
const V1_DONE: u8 = 132;
/// Groups in one report, so that it fits the smallest MTU (1280).
pub(super) const GROUPS: usize = 60;

/// What a report says of its groups (RFC 3810 §5.2.12). We want all sources of a group, or do not listen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// We listen to it: the answer to a query.
    Listens,
    /// We have begun to.
    Joined,
    /// We have ceased to.
    Left,
}

impl Record {
    fn kind(self) -> u8 {
        u8::from(match self {
            // From all sources but those of an empty list.
            Record::Listens => MldRecordType::ModeIsExclude,
            Record::Joined => MldRecordType::ChangeToExclude,
            // From the sources of an empty list.
            Record::Left => MldRecordType::ChangeToInclude,
        })
    }
}

/// A report of MLDv2 of at most [`GROUPS`] groups.
pub(crate) fn report(own_mac: Mac, record: Record, groups: &[Ipv6Addr]) -> Vec<u8> {
    let records = groups.iter().flat_map(|group| [&[record.kind(), 0, 0, 0][..], &group.octets()].concat());
    v2(own_mac, groups.len(), &records.collect::<Vec<u8>>())
}

/// The answer to a query about sources of a group: we listen to these.
pub(super) fn report_of_sources(own_mac: Mac, group: Ipv6Addr, sources: &[Ipv6Addr]) -> Vec<u8> {
    let [high, low] = u16::try_from(sources.len()).expect("few sources are kept").to_be_bytes();
    let head = [u8::from(MldRecordType::ModeIsInclude), 0, high, low];
    let sources: Vec<u8> = sources.iter().flat_map(Ipv6Addr::octets).collect();
    v2(own_mac, 1, &[&head[..], &group.octets(), &sources].concat())
}

/// A report of MLDv1, which goes to the group itself (RFC 2710 §3.7).
pub(super) fn v1_report(own_mac: Mac, group: Ipv6Addr) -> Vec<u8> {
    v1(own_mac, V1_REPORT, group, group)
}

/// "Done" of MLDv1: we have ceased to listen.
pub(super) fn v1_done(own_mac: Mac, group: Ipv6Addr) -> Vec<u8> {
    v1(own_mac, V1_DONE, group, ALL_ROUTERS)
}

fn v1(own_mac: Mac, kind: u8, group: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    packet(own_mac, to, [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat())
}

fn v2(own_mac: Mac, count: usize, records: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(count).expect("at most GROUPS").to_be_bytes();
    let head = [u8::from(Icmpv6Message::MldReport), 0, 0, 0, 0, 0, high, low];
    packet(own_mac, ALL_MLDV2_ROUTERS, [&head, records].concat())
}

/// From the link-local address, with hop limit 1 and a router alert.
fn packet(own_mac: Mac, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let source = link_local(own_mac);
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&source, &to);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: to,
        next_header: IpProtocol::HopByHop,
        payload_len: ROUTER_ALERT.len() + message.len(),
        hop_limit: 1,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own_mac.0),
        dst_addr: EthernetAddress(multicast_mac(to).0),
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
    use crate::testing::frame::{Ip, eth};
    use crate::testing::model::PORT_MAC;

    fn octets(group: &str) -> [u8; 16] {
        address(group).octets()
    }

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// A packet to a group from our link-local address, up to its message.
    fn to(group: &str) -> Ip {
        let [.., a, b, c, d] = octets(group);
        let ip = eth().from(PORT_MAC).to(Mac([0x33, 0x33, a, b, c, d])).ipv6(&link_local(PORT_MAC).to_string(), group);
        ip.hop_limit(1).extension(0, &ROUTER_ALERT)
    }

    #[test]
    fn a_report_says_the_same_of_each_group() {
        let groups = ["ff02::1:ff00:2", "ff02::1:ff00:101"];
        for (record, kind) in [(Record::Listens, 2), (Record::Joined, 4), (Record::Left, 3)] {
            let of = |group: &str| [&[kind, 0, 0, 0][..], &octets(group)].concat();
            let expected =
                to("ff02::16").icmp(58, 143, 0, &[&[0, 0, 0, 2][..], &of(groups[0]), &of(groups[1])].concat());
            assert_eq!(report(PORT_MAC, record, &groups.map(address)), expected);
        }
        assert!(report(PORT_MAC, Record::Joined, &[address("ff02::1:ff00:2"); GROUPS]).len() <= 14 + 1_280);
    }

    #[test]
    fn an_answer_about_sources_names_them() {
        let record = [&[1, 0, 0, 2][..], &octets("ff02::1:ff00:2"), &octets("fd00::8"), &octets("fd00::9")].concat();
        let expected = to("ff02::16").icmp(58, 143, 0, &[&[0, 0, 0, 1][..], &record].concat());
        let sources = ["fd00::8", "fd00::9"].map(address);
        assert_eq!(report_of_sources(PORT_MAC, address("ff02::1:ff00:2"), &sources), expected);
    }

    #[test]
    fn version_1_has_a_message_for_each_group() {
        let group = "ff02::1:ff00:2";
        let body = [&[0; 4][..], &octets(group)].concat();
        assert_eq!(v1_report(PORT_MAC, address(group)), to(group).icmp(58, 131, 0, &body));
        assert_eq!(v1_done(PORT_MAC, address(group)), to("ff02::2").icmp(58, 132, 0, &body));
    }
}
