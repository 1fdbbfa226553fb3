//! Fragments of packets larger than the MTU, and path MTU discovery by the backends.

use std::net::UdpSocket;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use ctl::request::{BackendSpec, Request, ServiceAdd};
use dataplane::dpdk::Driver;
use dataplane::testing::frame::{Ethernet, eth};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Topology, VIP, VIP6};
use crate::wire::{Capture, send};

const PORT: u16 = 5_300;

/// A UDP service on each VIP, whose only backend is rs1.
fn add_udp_services(lab: &Lab) {
    for (vip, backend) in [(VIP.to_owned(), "192.168.0.3"), (format!("[{VIP6}]"), "fd00::3")] {
        let service = format!("{vip}:{PORT}/udp").parse().unwrap();
        let backend = BackendSpec::new(backend.parse().unwrap());
        lab.ask(Request::ServiceAdd(ServiceAdd::new(service, vec![backend])));
    }
}

/// Datagrams of these lengths reach the backend's socket whole and are answered. One that is lost is sent again, as on a busy machine a worker may
/// not run for as long as it would hold a fragment.
fn large_datagrams_arrive(lab: &Lab, lengths: &'static [u16]) {
    for (vip, client) in [(VIP, "0.0.0.0:0"), (VIP6, "[::]:0")] {
        let payload =
            |number: u8, length: u16| -> Vec<u8> { (0..length).map(|i| i.to_le_bytes()[0] ^ number).collect() };
        let (ready, listening) = channel();
        let (done, end) = channel::<()>();
        let server = lab.inside("rs1", move || {
            let socket = UdpSocket::bind((vip, PORT)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            ready.send(()).unwrap();
            let mut buffer = vec![0; 64_000];
            while end.try_recv() != Err(TryRecvError::Disconnected) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).unwrap();
                }
            }
        });
        listening.recv().unwrap();
        let client = lab.inside("client", move || {
            for number in 0..20 {
                for &length in lengths {
                    // Each datagram from a port of its own, so that there are many flows.
                    let socket = UdpSocket::bind(client).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                    let mut buffer = vec![0; 64_000];
                    let received = (0..4).find_map(|_| {
                        socket.send_to(&payload(number, length), (vip, PORT)).unwrap();
                        socket.recv(&mut buffer).ok()
                    });
                    let received = received.unwrap_or_else(|| panic!("{length} bytes to {vip} get no answer"));
                    assert!(buffer[..received] == payload(number, length), "{length} bytes to {vip}");
                }
            }
        });
        client.join().unwrap();
        drop(done);
        server.join().unwrap();
    }
    for reason in ["fragment_hold_full", "fragment_tiny", "fragment_pass_full", "truncated", "too_big"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}

/// A first fragment reaches the backend though no other fragment of its packet comes.
fn a_lone_first_fragment_arrives(lab: &Lab) {
    let payload = [0x5a; 64];
    let ip = to_director(lab).ipv4("192.168.0.10", VIP).fragment(0x2000);
    let capture = Capture::start(lab, "rs1");
    send(lab, "client", vec![ip.udp(4_242, PORT, &payload)]);
    let arrived = capture.finish();
    let alone =
        |frame: &&Vec<u8>| frame.len() >= 42 + 64 && frame[20..22] == [0x20, 0] && frame[42..42 + 64] == payload;
    assert_eq!(arrived.iter().filter(alone).count(), 1);
}

/// The Ethernet header of a frame from the client to the director.
fn to_director(lab: &Lab) -> Ethernet {
    eth().from(lab.mac("client")).to(lab.mac("director"))
}

#[test]
fn a_fragmented_datagram_reaches_a_backends_socket_whole() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    add_udp_services(&lab);
    large_datagrams_arrive(&lab, &[1_600, 3_000]);
    a_lone_first_fragment_arrives(&lab);
}

/// AF_PACKET has one worker's fragments reassembled, too, unless the driver is kept from it.
#[test]
fn fragments_go_through_af_packet_as_they_are() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 2 {
        println!("skipped in part: two workers need two cores");
    }
    for workers in ["[0]", "[0, 1]"].into_iter().take(cores) {
        lab.configure_daemon([1, 1], Driver::AfPacket, &format!("workers = {workers}\nslow_path = 0\n"));
        lab.restart();
        let warnings = lab.status().warnings;
        assert!(!warnings.iter().any(|warning| warning.starts_with("Port lan0")), "{warnings:?}");
        add_udp_services(&lab);
        large_datagrams_arrive(&lab, &[1_600, 3_000, 9_000]);
        a_lone_first_fragment_arrives(&lab);
        if workers.contains(',') {
            one_flow_stays_with_one_worker(&lab);
        }
        lab.end_daemon(Signal::SIGTERM);
    }
}

/// Also where it is more than that worker can take.
fn one_flow_stays_with_one_worker(lab: &Lab) {
    /// Some twenty times what a worker's ring holds.
    const FRAMES: usize = 10_000;
    let frame = to_director(lab).ipv4("192.168.0.10", VIP).udp(4_243, PORT, b"one of many");
    let received = |lab: &Lab| lab.workers().iter().map(|worker| worker.rx_packets).collect::<Vec<_>>();
    let before = received(lab);
    send(lab, "client", vec![frame; FRAMES]);
    let after = received(lab);
    let mut frames: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    frames.sort_unstable();
    // The other worker may have got ARP, and what the hosts say by themselves.
    assert!(frames[0] < 50 && frames[1] > 500, "{frames:?}");
}

/// The path to the client has a link of 1,000 bytes in it, which the backend learns from ICMP errors to the VIP.
#[test]
fn path_mtu_discovery_works_through_the_vip() {
    let Some(mut lab) = Lab::new(Topology::Gateway) else { return };
    lab.start([1, 1]);
    let text: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
    for server in ["rs1", "rs2"] {
        std::fs::write(lab.folder().join(server).join("files/text"), &text).unwrap();
    }
    // The gateway's link to the client is narrow; the client does not know (it announces its own MSS).
    lab.on("gw", &["ip", "link", "set", "wan0", "mtu", "1300"]);
    let before = lab.status().forwarded_packets;
    for vip in [VIP.to_owned(), format!("[{VIP6}]")] {
        for number in 0..4 {
            let file = lab.folder().join(format!("got-{number}"));
            let url = format!("http://{vip}/files/text");
            lab.on("client", &["curl", "-s", "--fail", "--max-time", "15", "-o", file.to_str().unwrap(), &url]);
            assert!(std::fs::read(&file).unwrap() == text, "{vip}: byte for byte");
        }
    }
    assert!(lab.status().forwarded_packets > before);
    assert_eq!(lab.counted("icmp_quote"), 0);
    // The servers have learned the MTU, so the errors have reached them.
    let learned = ["rs1", "rs2"].map(|server| {
        ["10.0.0.10", "fd01::10"].map(|client| lab.on(server, &["ip", "route", "get", client]).contains("mtu 1300"))
    });
    for family in 0..2 {
        assert!(learned.iter().any(|server| server[family]), "{learned:?}");
    }
}
