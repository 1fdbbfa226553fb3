//! Fragments of packets larger than the MTU, and path MTU discovery by the backends.

use std::net::UdpSocket;
use std::time::Duration;

use ctl::request::{BackendSpec, Request, ServiceAdd};
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6};

const PORT: u16 = 5_300;

/// A UDP service on each VIP, whose only backend is rs1.
fn add_udp_services(lab: &Lab) {
    for (vip, backend) in [(VIP.to_owned(), "192.168.0.3"), (format!("[{VIP6}]"), "fd00::3")] {
        let service = format!("{vip}:{PORT}/udp").parse().unwrap();
        let backend = BackendSpec { address: backend.parse().unwrap(), port: None, weight: 1, mac: None };
        lab.ask(Request::ServiceAdd(ServiceAdd::new(service, vec![backend])));
    }
}

/// Datagrams of 3,000 bytes, which take three fragments, reach the backend's socket whole and are answered.
fn large_datagrams_arrive(lab: &Lab, vips: &[(&'static str, &'static str)]) {
    for &(vip, client) in vips {
        let payload = |number: u8| -> Vec<u8> { (0..3_000u16).map(|i| i.to_le_bytes()[0] ^ number).collect() };
        let server = lab.inside("rs1", move || {
            let socket = UdpSocket::bind((vip, PORT)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut buffer = vec![0; 10_000];
            for _ in 0..20 {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        let client = lab.inside("client", move || {
            for number in 0..20 {
                // Each datagram from a port of its own, so that there are many flows.
                let socket = UdpSocket::bind(client).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket.send_to(&payload(number), (vip, PORT)).unwrap();
                let mut buffer = vec![0; 10_000];
                let length =
                    socket.recv(&mut buffer).unwrap_or_else(|error| panic!("datagram {number} to {vip}: {error}"));
                assert_eq!(buffer[..length], payload(number));
            }
        });
        client.join().unwrap();
        server.join().unwrap();
    }
    for reason in ["fragment_orphan", "fragment_hold_full", "fragment_tiny", "fragment_pass_full"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}

#[test]
fn a_fragmented_datagram_reaches_a_backends_socket_whole() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    add_udp_services(&lab);
    large_datagrams_arrive(&lab, &[(VIP, "0.0.0.0:0"), (VIP6, "[::]:0")]);
}

#[test]
fn a_datagram_whose_fragments_reach_different_workers_arrives_whole() {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        println!("skipped: two workers need two cores");
        return;
    }
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::AfPacket, "workers = [0, 1]\nslow_path = 0\n");
    lab.restart();
    add_udp_services(&lab);
    // IPv6 only: with the AF_PACKET driver, the kernel reassembles IPv4 packets before it spreads them over the
    // workers.
    large_datagrams_arrive(&lab, &[(VIP6, "[::]:0")]);
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
