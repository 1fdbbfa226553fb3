//! ARP packets (RFC 826): which are valid, and whom they concern.

use std::net::Ipv4Addr;

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::wire::headers::Parties;

/// Ethernet's number, IPv4's EtherType, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Length of such a packet.
const LEN: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What becomes of an ARP packet: the slow path gets those that are valid.
#[cold]
pub(super) fn exit(packet: &[u8]) -> Exit {
    if parties(packet).is_some() { PuntReason::Arp.into() } else { DropReason::ArpInvalid.into() }
}

/// Whom a valid ARP packet concerns. `None`: it is a question or an answer of no kind that there is, or from a station
/// that there cannot be.
pub fn parties(packet: &[u8]) -> Option<Parties> {
    let packet: &[u8; LEN] = packet.first_chunk()?;
    let address = |offset: usize| packet[offset..].first_chunk().map(|&bytes: &[u8; 4]| Ipv4Addr::from(bytes));
    let (station, sender, target) = (&packet[8..14], address(14)?, address(24)?);
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    // A group is no station. A probe (RFC 5227 §2.1.1) has no sender address, and is a request.
    let a_station = station[0] & 1 == 0 && station != [0; 6];
    let an_address = !(sender.is_multicast() || sender.is_broadcast() || sender.is_loopback());
    if packet[..6] != ETHERNET_IPV4 || !a_station || !an_address {
        return None;
    }
    match operation {
        // An announcement (RFC 5227 §3) asks nothing.
        REQUEST if sender == target => Some(Parties { told: sender.into(), asked: None }),
        REQUEST => Some(Parties { told: sender.into(), asked: Some(target.into()) }),
        REPLY if !sender.is_unspecified() => Some(Parties { told: sender.into(), asked: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 4] = [192, 168, 0, 10];
    const VIP: [u8; 4] = [192, 168, 0, 101];

    fn packet(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        [&ETHERNET_IPV4[..], &[0, operation], &[2, 0, 0, 0, 0, 0xcc], &sender, &[0; 6], &target].concat()
    }

    #[test]
    fn requests_ask_and_all_tell_where_their_sender_is() {
        let of =
            |told: [u8; 4], asked: Option<[u8; 4]>| Some(Parties { told: told.into(), asked: asked.map(Into::into) });
        for (packet, expected) in [
            (packet(1, CLIENT, VIP), of(CLIENT, Some(VIP))),
            (packet(1, [0; 4], VIP), of([0; 4], Some(VIP))),
            (packet(1, CLIENT, CLIENT), of(CLIENT, None)),
            (packet(2, CLIENT, VIP), of(CLIENT, None)),
            (packet(2, CLIENT, CLIENT), of(CLIENT, None)),
        ] {
            assert_eq!(parties(&packet), expected, "{packet:?}");
            assert_eq!(parties(&[&packet[..], &[0; 18]].concat()), expected, "with padding");
            assert_eq!(exit(&packet), PuntReason::Arp.into());
        }
    }

    #[test]
    fn other_packets_are_invalid() {
        let good = packet(1, CLIENT, VIP);
        let with = |offset: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[offset] = byte;
            bytes
        };
        let mut wrong: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
        wrong.extend((0..8).map(|offset| with(offset, 0x77)));
        wrong.extend([with(8, 3), with(7, 0), with(7, 3), [&good[..8], &[0; 6], &good[14..]].concat()]);
        wrong.extend([[224, 0, 0, 1], [255; 4], [127, 0, 0, 1]].map(|sender| packet(1, sender, VIP)));
        wrong.push(packet(2, [0; 4], VIP));
        for bytes in wrong {
            assert_eq!(exit(&bytes), DropReason::ArpInvalid.into(), "{bytes:?}");
        }
    }
}
