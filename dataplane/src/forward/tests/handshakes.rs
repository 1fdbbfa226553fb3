//! Which packets tell of a handshake, and at which backend it is counted.

use ctl::ServiceId;

use crate::base::clock::Clock;
use crate::forward::tests::rig::{Rig, with_vlans};
use crate::testing::frame::{Ip, eth};

/// When a cycle begins that the worker has seen begin.
const BEGIN_MS: u64 = 10_000;

/// Answered and unanswered handshakes of a service's first backend.
fn counted(rig: &Rig, service: &str) -> (u64, u64) {
    let id: ServiceId = service.parse().unwrap();
    let number = rig.current.model.services[&id].backends[0].target.number();
    let counters = &rig.counters.handshakes[number.index()];
    (counters.answered.read(), counters.unanswered.iter().map(|part| part.read()).sum())
}

/// Handshakes of all backends.
fn all(rig: &Rig) -> u64 {
    let parts = |counters: &crate::count::counters::HandshakeCounters| -> u64 {
        counters.unanswered.iter().map(|part| part.read()).sum()
    };
    rig.counters.handshakes.iter().map(|counters| counters.answered.read() + parts(counters)).sum()
}

/// A rig whose worker looks from now on.
fn looking(mut rig: Rig) -> Rig {
    rig.worker.turn();
    at(&mut rig, BEGIN_MS, []);
    rig
}

/// Receives frames at this time.
fn at(rig: &mut Rig, now_ms: u64, frames: impl IntoIterator<Item = Vec<u8>>) {
    rig.worker.set_clock(Clock::stopped_at(now_ms));
    rig.worker.turn();
    rig.receive(frames);
    rig.worker.turn();
}

/// Packets to a VIP in all the forms that they may have, with the service.
fn forms() -> Vec<(&'static str, Ip)> {
    let (v4, v6) = (eth().ipv4("10.0.0.1", "192.168.0.101"), eth().ipv6("2001:db8::1", "fd00::101"));
    vec![
        ("192.168.0.101:80", v4.clone()),
        ("192.168.0.101:80", v4.options(&[1; 4])),
        ("[fd00::101]:80", v6.clone()),
        ("[fd00::101]:80", v6.extension(60, &[0, 0, 1, 4, 0, 0, 0, 0])),
    ]
}

fn tagged_forms() -> Vec<(&'static str, Ip)> {
    let (one, two) = (eth().tag(0x8100, 100), eth().tag(0x88a8, 200).tag(0x8100, 30));
    vec![
        ("192.168.0.101:81", eth().ipv4("192.168.0.10", "192.168.0.101")),
        ("10.1.0.101:80", one.ipv4("10.0.0.1", "10.1.0.101")),
        ("10.1.0.101:80", two.ipv4("10.0.0.1", "10.1.0.101")),
        ("[fd01::101]:80", one.ipv6("2001:db8::1", "fd01::101")),
    ]
}

#[test]
fn a_repeated_syn_counts_at_its_backend_and_an_answered_one_does_too() {
    for (rig, forms) in [(Rig::example as fn() -> Rig, forms()), (with_vlans, tagged_forms())] {
        for (service, packet) in forms {
            let port = service.parse::<ServiceId>().unwrap().port.to_string().parse().unwrap();
            let flow = |source| packet.clone().tcp(source, port);
            let mut rig = looking(rig());
            at(&mut rig, BEGIN_MS, [flow(1).syn(), flow(2).syn(), flow(3).syn(), flow(4).syn()]);
            at(&mut rig, BEGIN_MS + 30, [flow(1).ack(), flow(4).data(b"x"), flow(7).ack()]);
            assert_eq!((counted(&rig, service), all(&rig)), ((2, 0), 2), "{service}");
            at(&mut rig, BEGIN_MS + 1_020, [flow(1).syn(), flow(2).syn(), flow(5).syn()]);
            assert_eq!((counted(&rig, service), all(&rig)), ((2, 1), 3), "{service}");
            at(&mut rig, BEGIN_MS + 1_050, [flow(1).ack(), flow(2).ack(), flow(3).rst()]);
            assert_eq!((counted(&rig, service), all(&rig)), ((3, 1), 4), "{service}");
        }
    }
}

#[test]
fn what_does_not_tell_of_a_backend_counts_for_nothing() {
    let mut rig = looking(Rig::example());
    for (net, client, vip) in [(4, "10.0.0.1", "192.168.0.101"), (6, "2001:db8::1", "fd00::101")] {
        let packet = || if net == 4 { eth().ipv4(client, vip) } else { eth().ipv6(client, vip) };
        let (protocol, unreachable, body) = if net == 4 { (1, 3, 4) } else { (58, 1, 4) };
        let syn = packet().tcp(1, 80).syn();
        let error = || packet().icmp(protocol, unreachable, 1, &[&vec![0; body][..], &syn[14..]].concat());
        for ms in [0, 1_020] {
            at(
                &mut rig,
                BEGIN_MS + ms,
                [
                    // No backend, no MAC address, weight 0, no service.
                    packet().tcp(1, 81).syn(),
                    packet().tcp(1, 82).syn(),
                    packet().tcp(1, 83).syn(),
                    packet().tcp(1, 84).syn(),
                    // Not TCP, but its bytes look alike.
                    packet().udp(1, 53, &[2; 20]),
                    packet().protocol(132, &[&[0, 1, 0x0b, 0x59][..], &[2; 16]].concat()),
                    error(),
                ],
            );
        }
    }
    for ms in [2_040, 3_060] {
        at(&mut rig, BEGIN_MS + ms, [eth().ipv4("10.0.0.1", "192.168.0.101").fragment(0x2000).tcp(9, 80).syn()]);
    }
    assert_eq!(all(&rig), 0);
}

#[test]
fn outside_its_windows_a_worker_does_not_look() {
    let flow = |source| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(source, 80);
    let mut rig = Rig::example();
    at(&mut rig, 100, [flow(1).syn()]);
    at(&mut rig, 1_120, [flow(1).syn()]);
    assert_eq!(all(&rig), 0, "no cycle has begun");
    at(&mut rig, BEGIN_MS, []);
    // So many that the rest of the cycle is for what follows.
    for _ in 0..1 << 13 {
        rig.receive(vec![flow(9).ack(); 64]);
        rig.sent();
    }
    at(&mut rig, BEGIN_MS + 10, [flow(2).syn(), flow(3).syn()]);
    at(&mut rig, BEGIN_MS + 20, [flow(4).syn()]);
    at(&mut rig, BEGIN_MS + 1_020, [flow(2).syn(), flow(3).syn(), flow(4).syn()]);
    assert_eq!(all(&rig), 0, "they came when enough had been seen");
}

#[test]
fn a_flood_of_forged_syns_counts_for_nothing() {
    let mut rig = looking(Rig::example());
    for number in 0..20_000_u32 {
        let source = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number * 5_003).to_string();
        let ms = u64::from(number / 10);
        at(&mut rig, BEGIN_MS + ms, [eth().ipv4(&source, "192.168.0.101").tcp(1_000, 80).syn()]);
        rig.sent();
    }
    assert_eq!(all(&rig), 0);
    let honest = |port| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80);
    at(&mut rig, BEGIN_MS + 4_000, [honest(1).syn()]);
    at(&mut rig, BEGIN_MS + 4_010, [honest(1).ack()]);
    assert_eq!(counted(&rig, "192.168.0.101:80"), (1, 0), "and there is room again");
}
