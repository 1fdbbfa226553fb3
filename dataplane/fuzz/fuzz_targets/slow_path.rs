//! ARP, neighbor discovery, ping, health checks: the whole slow path, its MAC addresses and what it says, while time passes.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use ctl::Mac;
use dataplane::base::ids::PortNo;
use dataplane::count::lease::Leases;
use dataplane::control::director::Director;
use dataplane::control::faults::Faults;
use dataplane::base::exit::{Exit, PuntReason};
use dataplane::control::model::Model;
use dataplane::health::Engine;
use dataplane::wire::headers::{Headers, Payload};
use dataplane::wire::parse;
use dataplane::slow::neighbor::Neighbors;
use dataplane::slow::report::Reporter;
use dataplane::slow::{PortControl, SlowPath};
use dataplane::state::snapshot::Snapshot;
use dataplane::state::vips::Local;
use dataplane::testing::choices::Choices;
use dataplane::testing::memory::{MemoryPacket, MemorySource};
use dataplane::testing::model::{PORT, PORT_MAC, model, service};
use dataplane::testing::traffic::Traffic;
use dataplane::forward::class::Class;
use dataplane::forward::rings::{Outgoing, Punt, punt_rings};
use libfuzzer_sys::fuzz_target;
use rtrb::{Consumer, RingBuffer};

const RING: usize = 128;

static TRAFFIC: LazyLock<Traffic> = LazyLock::new(Traffic::default);

struct Ports;

impl PortControl for Ports {
    fn missed(&self, _port: PortNo) -> u64 {
        0
    }

    fn listen(&mut self, _port: PortNo, groups: &[Mac]) {
        assert!(groups.iter().all(|group| group.0[0] & 1 == 1), "{groups:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let leases = Leases::new(vec![]);
    let mut model = Model::new([1; 16], 61, model().networks.to_vec());
    for (mut wanted, checks) in [
        (service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]), "tcp"),
        (service("203.0.113.1:80", &[("192.168.0.3", 1)]), "http body=well"),
        (service("203.0.113.1:53/udp", &[("192.168.0.3", 1)]), "dns name=www.example.org"),
        (service("192.168.0.101:53/udp", &[("192.168.0.4", 1)]), "icmp to=backend"),
        (service("[fd00::101]:80", &[("fd00::3", 1)]), "http"),
        (service("[fd00::101]:53/udp", &[("fd00::3", 1)]), "udp payload=x"),
    ] {
        wanted.checks = Some(vec![checks.parse().expect("it is a check")]);
        model.add_service(&wanted, &leases).expect("the services are legal");
    }
    let director = Arc::new(Director::new(model, leases, vec![], vec![PORT]));
    let reporter = Reporter::new(Arc::new(Faults::default()), vec![]);
    let (mut punts, punted) = punt_rings(|_| RING);
    let (outgoing, mut said) = RingBuffer::new(RING);
    let neighbors: Arc<Mutex<Neighbors>> = Arc::default();
    let known = (neighbors, Arc::new(Mutex::new(Engine::new(*START, 1))));
    let mut slow =
        SlowPath::new(director.clone(), known, MemorySource, vec![punted], outgoing, Box::new(Ports), reporter);
    let mut now = *START;
    let mut asked = Vec::new();
    while !choices.is_empty() {
        match choices.below(8) {
            0 => now += Duration::from_millis(u64::from(choices.word())),
            1 => {
                slow.turn(now);
                asked = listen(&mut said, &director.current());
            }
            2 | 3 if !asked.is_empty() => {
                let packet = answer(choices.of(&asked).clone(), &mut choices).into();
                let reason = PuntReason::OwnAddress;
                punts.push(Class::Answers, Punt { port: PortNo::new(0), reason, mtu: 1_280, packet });
            }
            _ => {
                let frame = TRAFFIC.frame(&mut choices);
                // The workers let nothing else through.
                if let Some(reason) = reason(&frame) {
                    let class = *choices.of(&Class::ALL);
                    punts.push(class, Punt { port: PortNo::new(0), reason, mtu: 1_280, packet: frame.into() });
                }
            }
        }
    }
    slow.turn(now);
    listen(&mut said, &director.current());
});

/// Why a worker would give a frame to the slow path, if it is for one of our addresses.
fn reason(frame: &[u8]) -> Option<PuntReason> {
    match parse::headers(frame, frame.len(), PORT_MAC.into(), 0) {
        Ok(Headers { payload: Payload::Echo, .. }) => Some(PuntReason::Echo),
        Ok(Headers { payload: Payload::Ndp, .. }) => Some(PuntReason::Ndp),
        Ok(Headers { payload: Payload::MldQuery, .. }) => Some(PuntReason::Mld),
        Ok(Headers { payload: Payload::Ports(_), .. }) => Some(PuntReason::TooBig),
        Ok(_) => Some(PuntReason::OwnAddress),
        Err(Exit::Punt(reason)) => Some(reason),
        Err(_) => None,
    }
}

/// An answer to a probe, or to another packet of its own: the same packet, sent back, with some bytes changed. Its checksum is
/// right, or nobody would read it.
fn answer(mut frame: Vec<u8>, choices: &mut Choices<'_>) -> Vec<u8> {
    let v4 = frame[12] == 0x08;
    let (addresses, size, transport) = if v4 { (26, 4, 34) } else { (22, 16, 54) };
    let protocol = if v4 { frame[23] } else { frame[20] };
    frame[..12].rotate_left(6);
    frame[addresses..addresses + 2 * size].rotate_left(size);
    let checksum = match protocol {
        6 => {
            frame[transport..transport + 4].rotate_left(2);
            // The number that it has sent, and one more, is acknowledged.
            let sent = u32::from_be_bytes(frame[transport + 4..transport + 8].try_into().expect("four"));
            frame[transport + 8..transport + 12].copy_from_slice(&sent.wrapping_add(1).to_be_bytes());
            frame[transport + 13] = *choices.of(&[0x12, 0x10, 0x14, 0x11, 0x18, 0x04]);
            transport + 16
        }
        17 => {
            frame[transport..transport + 4].rotate_left(2);
            transport + 6
        }
        // An answer to a ping.
        1 => {
            frame[transport] = 0;
            transport + 2
        }
        58 => {
            frame[transport] = 129;
            transport + 2
        }
        _ => return frame,
    };
    for _ in 0..choices.below(6) {
        let at = transport + choices.below(frame.len() - transport);
        frame[at] = choices.byte();
    }
    frame[checksum..checksum + 2].fill(0);
    // RFC 1071, over the packet and, but for ICMP, its pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
    let start = if protocol == 1 { transport } else { addresses };
    let pseudo = if protocol == 1 { 0 } else { u32::from(protocol) + (frame.len() - transport) as u32 };
    let words = frame[start..].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>() + pseudo;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[checksum..checksum + 2].copy_from_slice(&(!folded as u16).to_be_bytes());
    frame
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What it says is from us, and never claims an address that is not ours; whom it knows is somebody else. Returns the IP packets.
fn listen(said: &mut Consumer<Outgoing<MemoryPacket>>, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let local = |address: IpAddr| snapshot.vips.local(address).is_some();
    for target in snapshot.targets.iter().filter(|target| target.known) {
        let mac = Mac(target.mac().try_into().expect("six bytes"));
        assert!(mac.is_unicast() && mac != PORT_MAC, "{mac}");
    }
    while let Ok(Outgoing { port, packet }) = said.pop() {
        let frame = &packet.bytes;
        if frame[12..14] != [0x08, 0x06] && packets.len() < RING {
            packets.push(frame.to_vec());
        }
        assert!(port == PortNo::new(0) && frame[6..12] == PORT_MAC.0 && frame[..6] != PORT_MAC.0, "{frame:02x?}");
        match frame[12..14] {
            [0x08, 0x06] => {
                let address =
                    |offset: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[offset..offset + 4]).expect("four"));
                let (sender, target) = (address(28), address(38));
                assert_eq!(frame[22..28], PORT_MAC.0);
                // A VIP is announced and answered for, but nobody is asked in its name.
                // Who else has one of our addresses is asked in nobody's name (RFC 5227 §2.1.1).
                if sender.is_unspecified() {
                    assert!(frame[21] == 1 && local(target.into()), "{frame:02x?}");
                    continue;
                }
                let asks = frame[21] == 1 && sender != target;
                let expected = if asks { Some(Local::Own) } else { snapshot.vips.local(sender.into()) };
                assert!(local(sender.into()) && snapshot.vips.local(sender.into()) == expected, "{frame:02x?}");
            }
            [0x08, 0x00] => {
                let source = <[u8; 4]>::try_from(&frame[26..30]).expect("four");
                assert!(local(source.into()) && frame[0] & 1 == 0, "{frame:02x?}");
            }
            [0x86, 0xdd] => {
                let source: IpAddr = <[u8; 16]>::try_from(&frame[22..38]).expect("sixteen").into();
                let link_local = frame[22..24] == [0xfe, 0x80];
                assert!(local(source) || link_local || source.is_unspecified(), "{frame:02x?}");
            }
            _ => panic!("{frame:02x?}"),
        }
    }
    packets
}
