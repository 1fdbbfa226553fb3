//! ARP, neighbor discovery, ping: the whole slow path, its MAC addresses and what it says, while time passes.
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
    fn listen(&mut self, _port: PortNo, groups: &[Mac]) {
        assert!(groups.iter().all(|group| group.0[0] & 1 == 1), "{groups:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let leases = Leases::new(vec![]);
    let mut model = Model::new([1; 16], 61, model().networks.to_vec());
    for wanted in [
        service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]),
        service("203.0.113.1:80", &[("192.168.0.3", 1)]),
        service("[fd00::101]:80", &[("fd00::3", 1)]),
    ] {
        model.add_service(&wanted, &leases).expect("the services are legal");
    }
    let director = Arc::new(Director::new(model, leases, vec![], vec![PORT]));
    let reporter = Reporter::new(Arc::new(Faults::default()), vec![]);
    let (mut punts, punted) = punt_rings(|_| RING);
    let (outgoing, mut said) = RingBuffer::new(RING);
    let neighbors: Arc<Mutex<Neighbors>> = Arc::default();
    let mut slow =
        SlowPath::new(director.clone(), neighbors, MemorySource, vec![punted], outgoing, Box::new(Ports), reporter);
    let mut now = *START;
    while !choices.is_empty() {
        match choices.below(8) {
            0 => now += Duration::from_millis(u64::from(choices.word())),
            1 => {
                slow.turn(now);
                listen(&mut said, &director.current());
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

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What it says is from us, and never claims an address that is not ours; whom it knows is somebody else.
fn listen(said: &mut Consumer<Outgoing<MemoryPacket>>, snapshot: &Snapshot) {
    let local = |address: IpAddr| snapshot.vips.local(address).is_some();
    for target in snapshot.targets.iter().filter(|target| target.known) {
        let mac = Mac(target.mac().try_into().expect("six bytes"));
        assert!(mac.is_unicast() && mac != PORT_MAC, "{mac}");
    }
    while let Ok(Outgoing { port, packet }) = said.pop() {
        let frame = &packet.bytes;
        assert!(port == PortNo::new(0) && frame[6..12] == PORT_MAC.0 && frame[..6] != PORT_MAC.0, "{frame:02x?}");
        match frame[12..14] {
            [0x08, 0x06] => {
                let address =
                    |offset: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[offset..offset + 4]).expect("four"));
                let (sender, target) = (address(28), address(38));
                assert_eq!(frame[22..28], PORT_MAC.0);
                // A VIP is announced and answered for, but nobody is asked in its name.
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
}
