//! Properties of every frame.

use std::sync::Arc;

use ctl::Protocol;
use ctl::Tracking;
use ctl::request::BackendEdit;
use proptest::prelude::*;

use crate::base::packet::BURST;
use crate::control::model::Model;
use crate::control::model::{Outlook, Reachability};
use crate::count::counters::WorkerCounters;
use crate::count::lease::Leases;
use crate::forward::tests::rig::Rig;
use crate::testing::frame::CLIENT_MAC;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;
use crate::testing::model::PORT_MAC;
use crate::testing::model::model;
use crate::testing::model::service;
use crate::wire::flow::Flow;
use crate::wire::headers::Headers;
use crate::wire::headers::Payload;
use crate::wire::{l4, parse, plain};

/// A service of each IP version. Half of its slots have just moved, and all its flows are remembered if `all` is set.
fn handing_over(all: bool) -> Model {
    let leases = Leases::new(vec![Arc::new(WorkerCounters::new(1))]);
    let mut model = model();
    let services = [("192.168.0.101:80", "192.168.0.3", "192.168.0.4"), ("[fd00::101]:80", "fd00::3", "fd00::4")];
    for (protocol, (vip, first, second)) in
        [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| services.map(|s| (p, s)))
    {
        let mut wanted = service(vip, &[(first, 1), (second, 0)]);
        wanted.service.protocol = protocol;
        wanted.tracking = all.then_some(Tracking::All);
        model.add_service(&wanted, &leases).unwrap();
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| true });
        let address = second.parse().unwrap();
        let edit = BackendEdit { service: wanted.service, address, weight: Some(1), mac: None };
        model.edit_backend(&edit).unwrap();
    }
    model
}

proptest! {
    /// The fast parser of plain frames agrees with the full one.
    #[test]
    fn the_fast_parser_agrees_with_the_full_one(
        (mut frame, damage) in (
            (any::<bool>(), any::<bool>(), any::<u16>(), 0usize..30).prop_map(|(v6, udp, port, len)| {
                let data = vec![7; len];
                let ip = if v6 { eth().ipv6("2001:db8::1", "fd00::101") } else { eth().ipv4("10.0.0.1", "192.168.0.101") };
                if udp { ip.udp(port, 53, &data) } else { ip.tcp(port, 80).data(&data) }
            }),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        for (offset, byte) in damage {
            let offset = offset.index(frame.len().min(70));
            frame[offset] = byte;
        }
        let wire_len = frame.len();
        // The first segment may be shorter than the frame.
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        let whole = parse::headers(&frame, wire_len.max(14), PORT_MAC.into(), 0);
        let v4 = plain::plain_v4(&frame, wire_len, PORT_MAC.into()).map(Flow::from);
        let v6 = plain::plain_v6(&frame, wire_len, PORT_MAC.into()).map(Flow::from);
        for (flow, l4) in [(v4, plain::PLAIN_V4), (v6, plain::PLAIN_V6)] {
            let Some(flow) = flow else { continue };
            let segment = l4::segment(flow.transport().protocol, &frame[l4..]);
            prop_assert_eq!(whole, Ok(Headers::new(flow, Payload::Ports(segment))));
        }
    }

    /// Packets of remembered flows go to the same backends in bursts of any size as one by one.
    #[test]
    fn a_burst_is_answered_like_its_single_packets(
        packets in prop::collection::vec((any::<bool>(), 0u16..16, 0u8..8), 1..200),
        lens in prop::collection::vec(1usize..=BURST, 1..20),
        tracking in any::<bool>(),
    ) {
        let frames: Vec<Vec<u8>> = packets.iter().map(|&(v6, port, kind)| {
            let ip = if v6 { eth().ipv6("2001:db8::1", "fd00::101") } else { eth().ipv4("10.0.0.1", "192.168.0.101") };
            let port = 1_024 + port;
            match kind {
                0 => ip.tcp(port, 80).syn(),
                1 => ip.tcp(port, 80).fin(),
                2 => ip.tcp(port, 80).rst(),
                // The same ports of another protocol.
                3 | 4 => ip.udp(port, 80, b"x"),
                _ => ip.tcp(port, 80).data(b"x"),
            }
        }).collect();
        let sent = |lens: &mut dyn Iterator<Item = usize>| {
            let mut rig = Rig::new(handing_over(tracking));
            let mut frames = frames.iter();
            while frames.len() > 0 {
                let burst = frames.by_ref().take(lens.next().unwrap_or(1));
                rig.wire.0.borrow_mut().rx.extend(burst.map(|frame| MemoryPacket::from(frame.clone())));
                rig.worker.turn();
            }
            let sent: Vec<Vec<u8>> = rig.wire.0.borrow().tx.iter().map(|packet| packet.bytes.clone()).collect();
            let active: Vec<u64> = rig.counters.targets[..8].iter().map(|target| target.active.read()).collect();
            (sent, active)
        };
        let one_by_one = sent(&mut std::iter::repeat(1));
        prop_assert_eq!(one_by_one.0.len(), frames.len());
        prop_assert_eq!(sent(&mut lens.iter().copied().cycle()), one_by_one);
    }

    /// No frame causes a panic, and a sent frame differs from the received one in the two MAC addresses only.
    #[test]
    fn nothing_behind_the_addresses_ever_changes(
        mut frame in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, data)| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).data(&data)),
            (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, data)| eth().ipv6("2001:db8::1", "fd00::101").extension(60, &[0; 8]).tcp(port, 80).data(&data)),
            any::<[u8; 4]>().prop_map(|data| eth().ipv4("10.0.0.1", "192.168.0.101").udp(7, 53, &data)),
        ],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        if !frame.is_empty() {
            for (offset, byte) in damage {
                let offset = offset.index(frame.len());
                frame[offset] = byte;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
        }
        let mut rig = Rig::example();
        if let Ok(sent) = rig.fate(&frame) {
            prop_assert_eq!(&sent[12..], &frame[12..]);
            prop_assert_eq!(&sent[6..12], &PORT_MAC.0);
            prop_assert_ne!(&sent[..6], &CLIENT_MAC.0);
        }
    }
}
