//! Links with different MTUs: a client learns the MTU when a packet does not fit, and large frames go where they fit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ctl::CheckType;
use ctl::request::{BackendSpec, CheckSpec, Request, ServiceAdd};
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6};

/// The bytes that a client uploads.
const UPLOAD: usize = 500_000;

/// Adds a service on each VIP whose only backend is rs1.
fn add_services(lab: &Lab, service: &str, backends: [&str; 2]) {
    for (vip, backend) in [VIP.to_owned(), format!("[{VIP6}]")].iter().zip(backends) {
        let service = format!("{vip}:{service}").parse().unwrap();
        let backend = BackendSpec::new(backend.parse().unwrap());
        // The servers here take one connection each.
        let checks = Some(vec![CheckSpec::new(CheckType::Arp)]);
        lab.ask(Request::ServiceAdd(ServiceAdd { checks, ..ServiceAdd::new(service, vec![backend]) }));
    }
}

/// The client sends [`UPLOAD`] bytes over TCP. The server checks them and confirms.
fn upload(lab: &Lab, to: SocketAddr) {
    let (ready, listening) = std::sync::mpsc::channel();
    let server = lab.inside("rs1", move || {
        let listener = TcpListener::bind(to).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; UPLOAD];
        stream.read_exact(&mut received).unwrap();
        stream.write_all(b"all").unwrap();
        received.iter().enumerate().all(|(offset, &byte)| byte == offset.to_le_bytes()[0])
    });
    listening.recv().unwrap();
    let client = lab.inside("client", move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let bytes: Vec<u8> = (0..UPLOAD).map(|offset| offset.to_le_bytes()[0]).collect();
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
    });
    client.join().unwrap();
    assert!(server.join().unwrap(), "{to}: byte for byte");
}

/// The bytes that a UDP datagram or a ping has besides its headers, in a packet of this length.
fn payload(vip: &str, packet: usize) -> usize {
    packet - if vip.contains(':') { 48 } else { 28 }
}

/// The client sends a datagram that makes an IP packet of this length. It gets to the server, in as few fragments as the MTU allows.
fn datagram(lab: &Lab, vip: &'static str, packet: usize) {
    let (ready, listening) = std::sync::mpsc::channel();
    let server = lab.inside("rs1", move || {
        let socket = UdpSocket::bind((vip, 5300)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        ready.send(()).unwrap();
        let mut buffer = vec![0; 30_000];
        socket.recv_from(&mut buffer).unwrap().0
    });
    listening.recv().unwrap();
    let len = payload(vip, packet);
    let client = lab.inside("client", move || {
        let any = if vip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        UdpSocket::bind(any).unwrap().send_to(&vec![7; len], (vip, 5300)).unwrap();
    });
    client.join().unwrap();
    assert_eq!(server.join().unwrap(), len);
}

/// The director's port to the backends has an MTU of 1,400 bytes. The clients and the backends do not know this.
#[test]
fn clients_learn_the_mtu_of_the_backends_port() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.plug("director", "lan1", &[]);
    lab.on("director", &["sysctl", "-qw", "net.ipv6.conf.lan1.disable_ipv6=1"]);
    lab.on("rs1", &["ip", "address", "add", "10.2.0.3/24", "dev", "lan0"]);
    lab.on("rs1", &["ip", "address", "add", "fd02::3/64", "dev", "lan0", "nodad"]);
    lab.configure_daemon([1, 1], Driver::Auto, "");
    let text = std::fs::read_to_string(lab.config()).unwrap();
    let second = "[[ports]]\nname = \"lan1\"\ndevice = \"iface:lan1\"\nmtu = 1400\n\
                  addresses = [\"10.2.0.2/24\", \"fd02::2/64\"]\n[[services]]";
    std::fs::write(lab.config(), text.replacen("[[services]]", second, 1)).unwrap();
    lab.restart();
    assert!(lab.logged().contains("mtu=1400"));
    add_services(&lab, "8080", ["10.2.0.3", "fd02::3"]);
    crate::lab::wait_for("the backends are resolved", || lab.status().backends.up == 6);
    for vip in [VIP, VIP6] {
        let before = lab.counted("too_big");
        upload(&lab, SocketAddr::new(vip.parse().unwrap(), 8080));
        assert!(lab.counted("too_big") > before, "{vip}");
        let route = lab.on("client", &["ip", "route", "get", vip]);
        assert!(route.contains("mtu 1400"), "{route}");
    }
    // It is made smaller while the director runs.
    lab.on("director", &["ip", "link", "set", "lan1", "mtu", "1300"]);
    crate::lab::wait_for("the MTU is taken", || lab.events("mtu-changed").len() == 1);
    for vip in [VIP, VIP6] {
        upload(&lab, SocketAddr::new(vip.parse().unwrap(), 8080));
        let route = lab.on("client", &["ip", "route", "get", vip]);
        assert!(route.contains("mtu 1300"), "{route}");
    }
    for reason in ["truncated", "too_big_unanswered", "tx_full"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}

/// Packets of 9,000 bytes go through AF_PACKET unsplit.
#[test]
fn jumbo_frames_are_forwarded() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    for host in ["client", "rs1"] {
        lab.on("switch", &["ip", "link", "set", host, "mtu", "9000"]);
        lab.on(host, &["ip", "link", "set", "lan0", "mtu", "9000"]);
    }
    lab.on("switch", &["ip", "link", "set", "director", "mtu", "9000"]);
    lab.configure_daemon([1, 1], Driver::Auto, "");
    let text = std::fs::read_to_string(lab.config()).unwrap();
    std::fs::write(lab.config(), text.replacen("device = ", "mtu = 9000\ndevice = ", 1)).unwrap();
    lab.restart();
    assert!(lab.logged().contains("mtu=9000"));
    add_services(&lab, "8080", ["192.168.0.3", "fd00::3"]);
    add_services(&lab, "5300/udp", ["192.168.0.3", "fd00::3"]);
    let before = lab.status().forwarded_packets;
    for vip in [VIP, VIP6] {
        upload(&lab, SocketAddr::new(vip.parse().unwrap(), 8080));
    }
    let frames = lab.status().forwarded_packets - before;
    assert!(frames < 2 * (UPLOAD / 2_000) as u64, "{frames} frames are too many to be large");
    for vip in [VIP, VIP6] {
        datagram(&lab, vip, 9_000);
        lab.on("client", &["ping", "-c", "1", "-w", "5", "-M", "do", "-s", &payload(vip, 9_000).to_string(), vip]);
        // Three fragments.
        datagram(&lab, vip, 20_000);
    }
    for reason in ["too_big", "truncated", "headers_split"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}

/// The largest packets that AF_XDP takes get through. Of one byte more, the sender is told.
#[test]
fn the_largest_packets_of_af_xdp_get_through() {
    const MOST: usize = 3_498;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    for (host, mtu) in [("client", MOST + 1), ("rs1", 9_000)] {
        lab.on("switch", &["ip", "link", "set", host, "mtu", "9000"]);
        lab.on(host, &["ip", "link", "set", "lan0", "mtu", &mtu.to_string()]);
    }
    // What veth allows at the other end of AF_XDP.
    lab.on("switch", &["ip", "link", "set", "director", "mtu", "3506"]);
    let configure = |lab: &Lab, mtu: usize| {
        lab.configure_daemon([1, 1], Driver::AfXdp, "");
        let text = std::fs::read_to_string(lab.config()).unwrap();
        std::fs::write(lab.config(), text.replacen("device = ", &format!("mtu = {mtu}\ndevice = "), 1)).unwrap();
    };
    configure(&lab, MOST + 1);
    let refused = lab.daemon_output();
    let says = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && says.contains("set the port's mtu to 3498 or less"), "{says}");
    configure(&lab, MOST);
    lab.restart();
    add_services(&lab, "8080", ["192.168.0.3", "fd00::3"]);
    add_services(&lab, "5300/udp", ["192.168.0.3", "fd00::3"]);
    for vip in [VIP, VIP6] {
        datagram(&lab, vip, MOST);
        assert_eq!(lab.counted("too_big"), 0, "{vip}: it fits");
        lab.on("client", &["ping", "-c", "1", "-w", "5", "-M", "do", "-s", &payload(vip, MOST).to_string(), vip]);
    }
    for vip in [VIP, VIP6] {
        let before = lab.counted("too_big");
        upload(&lab, SocketAddr::new(vip.parse().unwrap(), 8080));
        assert!(lab.counted("too_big") > before, "{vip}");
        let route = lab.on("client", &["ip", "route", "get", vip]);
        assert!(route.contains(&format!("mtu {MOST}")), "{route}");
    }
    for reason in ["truncated", "too_big_unanswered", "tx_full"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}
