//! Links with different MTUs: a client learns the MTU when a packet does not fit, and large frames go where they fit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ctl::request::{BackendSpec, Request, ServiceAdd};
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6};

/// The bytes that a client uploads.
const UPLOAD: usize = 500_000;

/// Adds a service on each VIP whose only backend is rs1.
fn add_services(lab: &Lab, service: &str, backends: [&str; 2]) {
    for (vip, backend) in [VIP.to_owned(), format!("[{VIP6}]")].iter().zip(backends) {
        let service = format!("{vip}:{service}").parse().unwrap();
        let backend = BackendSpec { address: backend.parse().unwrap(), port: None, weight: 1, mac: None };
        lab.ask(Request::ServiceAdd(ServiceAdd::new(service, vec![backend])));
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
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let bytes: Vec<u8> = (0..UPLOAD).map(|offset| offset.to_le_bytes()[0]).collect();
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
    });
    client.join().unwrap();
    assert!(server.join().unwrap(), "{to}: byte for byte");
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
    // The largest datagram that needs no fragments, over IPv4 and IPv6, and a ping of that size.
    for (vip, any, len) in [(VIP, "0.0.0.0:0", 9_000 - 28), (VIP6, "[::]:0", 9_000 - 48)] {
        let server = lab.inside("rs1", move || {
            let socket = UdpSocket::bind((vip, 5300)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = vec![0; 10_000];
            let (received, _) = socket.recv_from(&mut buffer).unwrap();
            received
        });
        std::thread::sleep(Duration::from_millis(200));
        let client = lab.inside("client", move || {
            UdpSocket::bind(any).unwrap().send_to(&vec![7; len], (vip, 5300)).unwrap();
        });
        client.join().unwrap();
        assert_eq!(server.join().unwrap(), len);
        lab.on("client", &["ping", "-c", "1", "-w", "5", "-M", "do", "-s", &len.to_string(), vip]);
    }
    for reason in ["too_big", "truncated", "headers_split"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}
