//! ARP (RFC 826): answers for VIPs and own addresses, probes of backends, announcements (RFC 5227 §2.3).

use std::net::{IpAddr, Ipv4Addr};

use ctl::Mac;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use crate::slow::view::{Evidence, Frame, How, Learned, Outcome, View};

const BROADCAST: Mac = Mac([0xff; 6]);

/// Answers a request for an address of ours; learns the sender's MAC address.
pub fn process(frame: &[u8], view: View<'_>) -> Outcome {
    let Some(ArpRepr::EthernetIpv4 {
        operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
    }) = parse(frame)
    else {
        return Outcome::default();
    };
    let sender = Mac(source_hardware_addr.0);
    if !sender.is_unicast() || sender == view.mac() {
        return Outcome::default();
    }
    // A probe (RFC 5227 §2.1.1) has no sender address that could be learned, but it must be answered.
    let learned = (!source_protocol_addr.is_unspecified()).then(|| Learned {
        address: source_protocol_addr.into(),
        mac: sender,
        evidence: match operation {
            ArpOperation::Reply if target_protocol_addr != source_protocol_addr => Evidence::Answer,
            _ => Evidence::Announcement,
        },
    });
    let may_ask = source_protocol_addr.is_unspecified() || view.may_ask(source_protocol_addr.into());
    let wanted = operation == ArpOperation::Request
        && may_ask
        && source_protocol_addr != target_protocol_addr
        && view.answers_for(IpAddr::V4(target_protocol_addr));
    let reply = wanted.then(|| {
        let bytes = packet(view.mac(), sender, ArpOperation::Reply, target_protocol_addr, sender, source_protocol_addr);
        Frame { network: view.network, bytes }
    });
    let how = match operation {
        _ if target_protocol_addr == source_protocol_addr => How::Announces,
        ArpOperation::Request => How::Asks,
        _ => How::Answers,
    };
    let claim = view.claim(IpAddr::V4(source_protocol_addr), sender, station(frame), how);
    Outcome { reply, learned, claim }
}

/// The source of a frame. It need not be the sender that the ARP packet names.
fn station(frame: &[u8]) -> Mac {
    Mac(EthernetFrame::new_unchecked(frame).src_addr().0)
}

/// A request for `target`: by broadcast, or to the MAC address that it had last.
pub fn request(own_mac: Mac, own_address: Ipv4Addr, target: Ipv4Addr, last: Option<Mac>) -> Vec<u8> {
    packet(own_mac, last.unwrap_or(BROADCAST), ArpOperation::Request, own_address, Mac::default(), target)
}

/// A question by broadcast whether anybody has `address` (RFC 5227 §2.1.1): it has no sender that could be learned.
pub fn probe(own_mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(own_mac, Ipv4Addr::UNSPECIFIED, address, None)
}

/// An announcement by broadcast that `address` is at `own_mac` (RFC 5227 §3: a request for one's own address).
pub fn announcement(own_mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    packet(own_mac, BROADCAST, ArpOperation::Request, address, Mac::default(), address)
}

fn parse(frame: &[u8]) -> Option<ArpRepr> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()
}

fn packet(
    own_mac: Mac,
    to: Mac,
    operation: ArpOperation,
    source: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own_mac.0),
        dst_addr: EthernetAddress(to.0),
        ethertype: EthernetProtocol::Arp,
    };
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(own_mac.0),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress(target_mac.0),
        target_protocol_addr: target,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::testing::frame::CLIENT_MAC;
    use crate::testing::model::{PORT_MAC, leases, model, service, snapshot};

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);

    fn after(frame: &[u8]) -> Outcome {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
        model.add_service(&service("203.0.113.1:80", &[]), &leases()).unwrap();
        process(frame, View { current: &snapshot(model), network: NetworkNo::new(0) })
    }

    fn who_has(target: &str) -> Vec<u8> {
        request(CLIENT_MAC, CLIENT, target.parse().unwrap(), None)
    }

    #[test]
    fn vips_and_own_addresses_are_answered_for_and_others_are_not() {
        for target in ["192.168.0.101", "192.168.0.2", "203.0.113.1"] {
            let reply = after(&who_has(target)).reply.expect(target);
            let target = target.parse().unwrap();
            assert_eq!(reply.bytes, packet(PORT_MAC, CLIENT_MAC, ArpOperation::Reply, target, CLIENT_MAC, CLIENT));
        }
        for target in ["192.168.0.3", "192.168.0.100", "0.0.0.0"] {
            assert_eq!(after(&who_has(target)).reply, None, "{target}");
        }
    }

    #[test]
    fn a_probe_is_answered_and_teaches_nothing() {
        let probe = request(CLIENT_MAC, Ipv4Addr::UNSPECIFIED, "192.168.0.101".parse().unwrap(), None);
        let outcome = after(&probe);
        assert!(outcome.reply.is_some());
        assert_eq!(outcome.learned, None);
    }

    #[test]
    fn the_sender_of_any_packet_is_learned() {
        let learned = |evidence| Some(Learned { address: CLIENT.into(), mac: CLIENT_MAC, evidence });
        assert_eq!(after(&who_has("192.168.0.9")).learned, learned(Evidence::Announcement));
        assert_eq!(after(&announcement(CLIENT_MAC, CLIENT)).learned, learned(Evidence::Announcement));
        let own = "192.168.0.2".parse().unwrap();
        let reply = packet(CLIENT_MAC, PORT_MAC, ArpOperation::Reply, CLIENT, PORT_MAC, own);
        assert_eq!(after(&reply).learned, learned(Evidence::Answer));
    }

    #[test]
    fn a_request_from_an_address_that_is_no_hosts_is_not_answered() {
        let vip = "192.168.0.101".parse().unwrap();
        for source in ["192.168.0.2", "192.168.0.255", "255.255.255.255", "224.0.0.1", "127.0.0.1"] {
            assert_eq!(after(&request(CLIENT_MAC, source.parse().unwrap(), vip, None)).reply, None, "{source}");
        }
    }

    #[test]
    fn who_else_says_that_it_has_an_address_of_ours_claims_it() {
        let claimed = |frame: &[u8]| after(frame).claim.map(|claim| (claim.address.to_string(), claim.how));
        let own = "192.168.0.2".parse().unwrap();
        for vip in ["192.168.0.101", "192.168.0.2", "203.0.113.1"] {
            let address: Ipv4Addr = vip.parse().unwrap();
            let claim = |how| Some((vip.to_owned(), how));
            let reply = |target| packet(CLIENT_MAC, PORT_MAC, ArpOperation::Reply, address, PORT_MAC, target);
            assert_eq!(claimed(&reply("192.168.0.7".parse().unwrap())), claim(How::Answers));
            assert_eq!(claimed(&reply(Ipv4Addr::UNSPECIFIED)), claim(How::Answers), "to our probe");
            assert_eq!(claimed(&reply(address)), claim(How::Announces));
            assert_eq!(claimed(&announcement(CLIENT_MAC, address)), claim(How::Announces));
            assert_eq!(claimed(&request(CLIENT_MAC, address, CLIENT, None)), claim(How::Asks));
            assert_eq!(claimed(&request(PORT_MAC, address, CLIENT, None)), None, "our own frame, reflected");
        }
        assert_eq!(claimed(&probe(CLIENT_MAC, "192.168.0.101".parse().unwrap())), None, "who probes has nothing yet");
        assert_eq!(claimed(&request(CLIENT_MAC, CLIENT, own, None)), None);
        // The frame's source is another station than the sender in the packet.
        let mut frame = announcement(CLIENT_MAC, own);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x99]);
        let claim = after(&frame).claim.unwrap();
        assert_eq!((claim.mac, claim.station), (CLIENT_MAC, Mac([2, 0, 0, 0, 0, 0x99])));
    }

    /// So asks a backend that has `arp_announce=0`; and a host that is routed has an address of another network.
    #[test]
    fn a_request_from_a_vip_or_from_another_network_is_answered() {
        let own = "192.168.0.2".parse().unwrap();
        for source in ["192.168.0.101", "203.0.113.1", "198.51.100.7"] {
            assert!(after(&request(CLIENT_MAC, source.parse().unwrap(), own, None)).reply.is_some(), "{source}");
        }
    }

    #[test]
    fn replies_announcements_and_malformed_packets_are_not_answered() {
        let vip = "192.168.0.101".parse().unwrap();
        assert_eq!(after(&announcement(CLIENT_MAC, vip)).reply, None);
        let reply = packet(CLIENT_MAC, PORT_MAC, ArpOperation::Reply, CLIENT, PORT_MAC, vip);
        assert_eq!(after(&reply).reply, None);
        assert_eq!(after(&who_has("192.168.0.101")[..30]), Outcome::default());
        assert_eq!(after(&request(Mac([0xff; 6]), CLIENT, vip, None)), Outcome::default());
        assert_eq!(after(&request(PORT_MAC, CLIENT, vip, None)), Outcome::default(), "our own frame, reflected");
    }
}
