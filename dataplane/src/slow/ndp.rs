//! Neighbor discovery (RFC 4861): answers for VIPs and own addresses, probes of backends, announcements (§7.2.6).

use std::net::{IpAddr, Ipv6Addr};

use ctl::Mac;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use crate::slow::view::{Evidence, Frame, How, Learned, Outcome, View};
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::ipv6::link_local;

/// All stations of the link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A router lowers it, so a packet with 255 comes from this link (RFC 4861 §3.1).
const HOP_LIMIT: u8 = 255;

/// Answers a solicitation for an address of ours; learns the MAC addresses of neighbors.
pub fn process(frame: &[u8], view: View<'_>) -> Outcome {
    let Some((ip, message)) = parse(frame) else { return Outcome::default() };
    let station = Mac([frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]]);
    match message {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
            solicited(ip, station, target_addr, link_layer(lladdr), view)
        }
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
            advertised(flags, station, target_addr, link_layer(lladdr), view)
        }
        _ => Outcome::default(),
    }
}

fn solicited(ip: Ipv6Repr, station: Mac, target: Ipv6Addr, sender: Option<Mac>, view: View<'_>) -> Outcome {
    // RFC 4861 §7.1.1: a solicitation without a source address is duplicate address detection. It has no link-layer
    // option, and goes to the group of the address.
    let detection = ip.src_addr.is_unspecified();
    if target.is_multicast()
        || ip.src_addr.is_multicast()
        || detection && (sender.is_some() || ip.dst_addr != solicited_node(target))
    {
        return Outcome::default();
    }
    let sender = sender.filter(|&mac| mac.is_unicast() && mac != view.mac());
    let learned = sender.map(|mac| Learned { address: ip.src_addr.into(), mac, evidence: Evidence::Announcement });
    let may_ask = detection || view.may_ask(ip.src_addr.into());
    let reply = (may_ask && view.answers_for(IpAddr::V6(target))).then(|| {
        let solicited = !detection;
        // §7.2.4: a station without an address yet is answered by multicast to all nodes. A unicast solicitation may
        // lack the sender's MAC address; then the answer goes to the source of the frame.
        let (to, to_mac) = match solicited {
            true => (ip.src_addr, sender.unwrap_or(station)),
            false => (ALL_NODES, multicast_mac(ALL_NODES)),
        };
        let flags = if solicited { NdiscNeighborFlags::SOLICITED } else { NdiscNeighborFlags::empty() };
        Frame { network: view.network, bytes: advertisement(view.mac(), target, to, to_mac, flags) }
    });
    let claim = view.claim(ip.src_addr.into(), sender.unwrap_or(station), station, How::Asks);
    Outcome { reply, learned, claim }
}

fn advertised(flags: NdiscNeighborFlags, station: Mac, target: Ipv6Addr, mac: Option<Mac>, view: View<'_>) -> Outcome {
    let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
    let how = if solicited { How::Answers } else { How::Announces };
    let at = mac.filter(|mac| mac.is_unicast()).unwrap_or(station);
    let claim = view.claim(target.into(), at, station, how);
    // §4.4: the answer to a unicast solicitation may lack the MAC address. It confirms the known one, and replaces
    // nothing.
    let flags = if mac.is_none() { flags.difference(NdiscNeighborFlags::OVERRIDE) } else { flags };
    let mac = mac.or(solicited.then_some(station)).filter(|mac| mac.is_unicast() && *mac != view.mac());
    // §7.2.5: without the override flag, an advertisement may confirm a MAC address, but not replace it.
    let evidence = match (solicited, flags.contains(NdiscNeighborFlags::OVERRIDE)) {
        (true, true) => Evidence::Answer,
        (false, true) => Evidence::Announcement,
        (_, false) => Evidence::Hint,
    };
    Outcome { reply: None, learned: mac.map(|mac| Learned { address: target.into(), mac, evidence }), claim }
}

/// A solicitation for `target`: to its solicited-node group, or to the MAC address that it had last.
pub fn request(own_mac: Mac, own_address: Ipv6Addr, target: Ipv6Addr, last: Option<Mac>) -> Vec<u8> {
    let (to, to_mac) = match last {
        Some(mac) => (target, mac),
        None => {
            let group = solicited_node(target);
            (group, multicast_mac(group))
        }
    };
    let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: Some(raw(own_mac)) };
    packet(own_mac, own_address, to, to_mac, message)
}

/// An announcement to all nodes that `address` is at `own_mac`.
pub fn announcement(own_mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    advertisement(own_mac, address, ALL_NODES, multicast_mac(ALL_NODES), NdiscNeighborFlags::empty())
}

/// An advertisement. Its source is the port's own link-local address, never the VIP.
fn advertisement(own_mac: Mac, target: Ipv6Addr, to: Ipv6Addr, to_mac: Mac, flags: NdiscNeighborFlags) -> Vec<u8> {
    let flags = flags | NdiscNeighborFlags::OVERRIDE;
    let message = NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: Some(raw(own_mac)) };
    packet(own_mac, link_local(own_mac), to, to_mac, message)
}

fn parse(frame: &[u8]) -> Option<(Ipv6Repr, NdiscRepr<'_>)> {
    let packet = Ipv6Packet::new_checked(frame.get(ETHERNET_HEADER..)?).ok()?;
    let ip = Ipv6Repr::parse(&packet).ok()?;
    if ip.hop_limit != HOP_LIMIT || ip.next_header != IpProtocol::Icmpv6 {
        return None;
    }
    let payload = frame.get(ETHERNET_HEADER + ip.buffer_len()..)?.get(..ip.payload_len)?;
    let icmp = Icmpv6Packet::new_checked(payload).ok()?;
    if icmp.msg_code() != 0 {
        return None;
    }
    match Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &icmp, &ChecksumCapabilities::default()).ok()? {
        Icmpv6Repr::Ndisc(message) => Some((ip, message)),
        _ => None,
    }
}

fn packet(own_mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, to: Mac, message: NdiscRepr<'_>) -> Vec<u8> {
    let icmp = Icmpv6Repr::Ndisc(message);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own_mac.0),
        dst_addr: EthernetAddress(to.0),
        ethertype: EthernetProtocol::Ipv6,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + icmp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet);
    let mut message = Icmpv6Packet::new_unchecked(packet.payload_mut());
    icmp.emit(&source, &destination, &mut message, &ChecksumCapabilities::default());
    bytes
}

/// The multicast MAC addresses that a station with these addresses must receive (RFC 4861 §7.2.1).
pub fn groups(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Mac> {
    let v6 = addresses.into_iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(solicited_node(address)),
        IpAddr::V4(_) => None,
    });
    let mut groups: Vec<Mac> = v6.chain([ALL_NODES]).map(multicast_mac).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The multicast group of all addresses that end like this one (RFC 4291 §2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The MAC address of a multicast group (RFC 2464 §7).
pub(super) fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn raw(mac: Mac) -> RawHardwareAddress {
    RawHardwareAddress::from_bytes(&mac.0)
}

fn link_layer(address: Option<RawHardwareAddress>) -> Option<Mac> {
    Some(Mac(address?.as_bytes().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::testing::frame::CLIENT_MAC;
    use crate::testing::model::{PORT_MAC, leases, model, service, snapshot};

    fn client() -> Ipv6Addr {
        "fd00::10".parse().unwrap()
    }

    fn after(frame: &[u8]) -> Outcome {
        let mut model = model();
        model.add_service(&service("[fd00::101]:80", &[]), &leases()).unwrap();
        process(frame, View { current: &snapshot(model), network: NetworkNo::new(0) })
    }

    #[test]
    fn vips_and_own_addresses_are_answered_for_and_others_are_not() {
        let link_local = link_local(PORT_MAC).to_string();
        for target in ["fd00::101", "fd00::2", &link_local] {
            let target = target.parse().unwrap();
            let reply = after(&request(CLIENT_MAC, client(), target, None)).reply.expect("an answer");
            let expected = advertisement(PORT_MAC, target, client(), CLIENT_MAC, NdiscNeighborFlags::SOLICITED);
            assert_eq!(reply.bytes, expected);
        }
        for target in ["fd00::3", "fd00::100", "::", "ff02::1"] {
            assert_eq!(after(&request(CLIENT_MAC, client(), target.parse().unwrap(), None)).reply, None, "{target}");
        }
    }

    #[test]
    fn routed_and_damaged_messages_are_ignored() {
        let good = request(CLIENT_MAC, client(), "fd00::101".parse().unwrap(), None);
        assert!(after(&good).reply.is_some());
        let mut routed = good.clone();
        routed[ETHERNET_HEADER + 7] = 254;
        assert_eq!(after(&routed), Outcome::default());
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(after(&damaged), Outcome::default());
        for length in 0..good.len() {
            assert_eq!(after(&good[..length]), Outcome::default());
        }
    }

    #[test]
    fn a_solicitation_from_a_group_address_is_ignored() {
        let target = "fd00::101".parse().unwrap();
        assert!(after(&request(CLIENT_MAC, client(), target, Some(PORT_MAC))).reply.is_some());
        assert_eq!(after(&request(CLIENT_MAC, ALL_NODES, target, Some(PORT_MAC))), Outcome::default());
    }

    #[test]
    fn a_solicitation_from_an_address_that_is_no_hosts_is_not_answered() {
        let target = "fd00::101".parse().unwrap();
        for source in ["fd00::2", "::1", "::ffff:10.0.0.1"] {
            let solicitation = request(CLIENT_MAC, source.parse().unwrap(), target, Some(PORT_MAC));
            assert_eq!(after(&solicitation).reply, None, "{source}");
        }
        let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None };
        let detection = |to| packet(CLIENT_MAC, Ipv6Addr::UNSPECIFIED, to, PORT_MAC, message);
        assert_eq!(after(&detection(target)), Outcome::default(), "it goes to the address's group");
        assert!(after(&detection(solicited_node(target))).reply.is_some());
    }

    #[test]
    fn duplicate_address_detection_for_a_vip_is_answered_to_all_nodes() {
        let target: Ipv6Addr = "fd00::101".parse().unwrap();
        let group = solicited_node(target);
        let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None };
        let probe = packet(CLIENT_MAC, Ipv6Addr::UNSPECIFIED, group, multicast_mac(group), message);
        let outcome = after(&probe);
        assert_eq!(outcome.learned, None);
        assert_eq!(outcome.reply.unwrap().bytes, announcement(PORT_MAC, target));
    }

    #[test]
    fn advertisements_are_believed_as_far_as_their_flags_say() {
        let backend: Ipv6Addr = "fd00::3".parse().unwrap();
        for (flags, evidence) in [
            (NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE, Evidence::Answer),
            (NdiscNeighborFlags::OVERRIDE, Evidence::Announcement),
            (NdiscNeighborFlags::SOLICITED, Evidence::Hint),
        ] {
            let message = NdiscRepr::NeighborAdvert { flags, target_addr: backend, lladdr: Some(raw(CLIENT_MAC)) };
            let frame = packet(CLIENT_MAC, backend, "fd00::2".parse().unwrap(), PORT_MAC, message);
            let learned = Learned { address: backend.into(), mac: CLIENT_MAC, evidence };
            assert_eq!(after(&frame), Outcome { learned: Some(learned), ..Outcome::default() });
        }
    }

    #[test]
    fn who_else_says_that_it_has_an_address_of_ours_claims_it() {
        let station = Mac([2, 0, 0, 0, 0, 0x99]);
        let claimed = |frame: &[u8]| after(frame).claim.map(|claim| (claim.address.to_string(), claim.mac, claim.how));
        let advertised = |flags, target, lladdr: Option<Mac>| {
            let message = NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: lladdr.map(raw) };
            packet(station, client(), "fd00::2".parse().unwrap(), PORT_MAC, message)
        };
        let (solicited, unsolicited) = (NdiscNeighborFlags::SOLICITED, NdiscNeighborFlags::OVERRIDE);
        for vip in ["fd00::101", "fd00::2"] {
            let address: Ipv6Addr = vip.parse().unwrap();
            let claim = |mac, how| Some((vip.to_owned(), mac, how));
            for (flags, lladdr, expected) in [
                (solicited, Some(CLIENT_MAC), claim(CLIENT_MAC, How::Answers)),
                (solicited, None, claim(station, How::Answers)),
                (unsolicited, Some(CLIENT_MAC), claim(CLIENT_MAC, How::Announces)),
                (unsolicited, Some(PORT_MAC), None),
            ] {
                assert_eq!(claimed(&advertised(flags, address, lladdr)), expected, "{flags:?} {lladdr:?}");
            }
            assert_eq!(claimed(&request(CLIENT_MAC, address, client(), None)), claim(CLIENT_MAC, How::Asks));
        }
        assert_eq!(claimed(&advertised(solicited, client(), None)), None);
        let (target, group) = ("fd00::101".parse().unwrap(), solicited_node("fd00::101".parse().unwrap()));
        let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None };
        let detection = packet(CLIENT_MAC, Ipv6Addr::UNSPECIFIED, group, multicast_mac(group), message);
        assert_eq!(claimed(&detection), None, "who detects duplicates has nothing yet");
    }

    #[test]
    fn an_answer_without_a_mac_address_confirms_the_frames_source() {
        let backend: Ipv6Addr = "fd00::3".parse().unwrap();
        let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
        let message = NdiscRepr::NeighborAdvert { flags, target_addr: backend, lladdr: None };
        let frame = packet(CLIENT_MAC, backend, "fd00::2".parse().unwrap(), PORT_MAC, message);
        let learned = Learned { address: backend.into(), mac: CLIENT_MAC, evidence: Evidence::Hint };
        assert_eq!(after(&frame), Outcome { learned: Some(learned), ..Outcome::default() });
    }

    #[test]
    fn a_solicitation_without_a_mac_address_is_answered_to_the_frames_source() {
        let target: Ipv6Addr = "fd00::101".parse().unwrap();
        let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None };
        let reply = after(&packet(CLIENT_MAC, client(), target, PORT_MAC, message)).reply.unwrap();
        let expected = advertisement(PORT_MAC, target, client(), CLIENT_MAC, NdiscNeighborFlags::SOLICITED);
        assert_eq!(reply.bytes, expected);
    }

    #[test]
    fn addresses_that_end_alike_share_a_group() {
        let addresses = ["fd00::101", "fd01::101", "192.168.0.101"].map(|address| address.parse().unwrap());
        assert_eq!(groups(addresses), [Mac([0x33, 0x33, 0, 0, 0, 1]), Mac([0x33, 0x33, 0xff, 0, 1, 1])]);
    }

    #[test]
    fn groups_and_their_macs() {
        let group = solicited_node("2001:db8::12:3456".parse().unwrap());
        assert_eq!(group.to_string(), "ff02::1:ff12:3456");
        assert_eq!(multicast_mac(group), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    }
}
