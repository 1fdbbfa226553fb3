//! The Linux interface behind a port changes while the director runs: its link, its MTU, its MAC address; it goes, and comes back.

use std::net::{Ipv4Addr, Ipv6Addr};

use ctl::Mac;
use ctl::answer::{Answer, Port};
use ctl::request::Request;
use dataplane::dpdk::Driver;
use dataplane::slow::{arp, ndp};
use dataplane::testing::frame::eth;

use crate::lab::{Lab, Topology, VIP, VIP6, run, wait_for};
use crate::wire::{Capture, send};

fn port(lab: &Lab, name: &str) -> Port {
    let Answer::Ports(ports) = lab.ask(Request::PortList) else { panic!("no ports") };
    ports.into_iter().find(|port| port.name == name).unwrap()
}

fn count(lab: &Lab, kind: &str) -> usize {
    lab.events(kind).len()
}

/// The VIPs' announcements and the multicast listener reports among these frames.
fn announced(frames: &[Vec<u8>], mac: Mac) -> [usize; 3] {
    let (vip, vip6): (Ipv4Addr, Ipv6Addr) = (VIP.parse().unwrap(), VIP6.parse().unwrap());
    let count = |wanted: &[u8]| frames.iter().filter(|frame| frame.starts_with(wanted)).count();
    let report = [&[0x33, 0x33, 0, 0, 0, 0x16], &mac.0[..]].concat();
    [count(&arp::announcement(mac, vip)), count(&ndp::announcement(mac, vip6)), count(&report)]
}

fn assert_serves(lab: &Lab) {
    for vip in [VIP, VIP6] {
        assert_eq!(lab.requests(vip, 20).len(), 20);
    }
}

/// The link goes, by the other end or by our own, and comes back.
fn link(lab: &Lab, host: &str, interface: &str, advice: &str) {
    let before = (count(lab, "link-down"), count(lab, "link-up"));
    assert!(port(lab, "lan0").link_up && lab.status().ports.up == 1);
    lab.on(host, &["ip", "link", "set", interface, "down"]);
    wait_for("the link is down", || !port(lab, "lan0").link_up);
    assert_eq!(port(lab, "lan0").speed_mbps, None);
    assert_eq!(lab.status().ports.up, 0);
    let down = lab.events("link-down");
    assert_eq!(down.len(), before.0 + 1);
    let message = &down.last().unwrap().message;
    assert!(message.contains("port lan0") && message.contains(advice), "{message}");
    let capture = Capture::start(lab, "client");
    lab.on(host, &["ip", "link", "set", interface, "up"]);
    wait_for("the link is up", || port(lab, "lan0").link_up);
    wait_for("that is an event", || count(lab, "link-up") == before.1 + 1);
    // The first announcement is made at once, the second a second later.
    std::thread::sleep(std::time::Duration::from_millis(1_300));
    let announced = announced(&capture.finish(), lab.mac("director"));
    assert!(announced.iter().all(|&count| count >= 1), "ARP, NDP, MLD: {announced:?}");
    assert_serves(lab);
}

fn interface_that_changes(driver: Driver) {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start_with([1, 1], driver);
    assert_eq!(port(&lab, "lan0").speed_mbps, Some(10_000), "veth's own claim");
    link(&lab, "switch", "director", "lan0 has no carrier");
    link(&lab, "director", "lan0", "`ip link set lan0 up`");

    // The port's networks are told the new MAC address, and take it.
    let new = Mac([2, 0, 0, 0, 0, 0x77]);
    let capture = Capture::start(&lab, "client");
    lab.on("director", &["ip", "link", "set", "lan0", "address", &new.to_string()]);
    wait_for("the MAC address is taken", || port(&lab, "lan0").mac == new);
    wait_for("that is an event", || count(&lab, "mac-changed") == 1);
    assert_serves(&lab);
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    let announced = announced(&capture.finish(), new);
    assert!(announced.iter().all(|&count| count >= 1), "ARP, NDP, MLD: {announced:?}");

    lab.on("director", &["ip", "link", "set", "lan0", "mtu", "1400"]);
    wait_for("the MTU is taken", || port(&lab, "lan0").mtu == 1_400);
    wait_for("that is an event", || count(&lab, "mtu-changed") == 1);
    assert_serves(&lab);
    lab.on("director", &["ip", "link", "set", "lan0", "mtu", "3000"]);
    if driver == Driver::AfXdp {
        // A page for each frame.
        wait_for("the MTU fits", || port(&lab, "lan0").mtu == 3_000);
    } else {
        wait_for("the MTU does not fit", || count(&lab, "mtu-too-large") == 1);
        assert_eq!(port(&lab, "lan0").mtu, 1_958, "what the port was opened for is in force");
    }
    assert_serves(&lab);
}

#[test]
fn a_link_a_mac_address_and_an_mtu_that_change_are_followed_by_af_xdp() {
    interface_that_changes(Driver::AfXdp);
}

#[test]
fn a_link_a_mac_address_and_an_mtu_that_change_are_followed_by_af_packet() {
    interface_that_changes(Driver::AfPacket);
}

/// The second port, with a backend of its own behind it.
const LAN1: &str = "[[ports]]\nname = \"lan1\"\ndevice = \"iface:lan1\"\ndriver = \"DRIVER\"\naddresses = [\"10.2.0.2/24\"]\n[[services]]\n";
/// A VIP whose only backend is behind the second port.
const FAR: &str = "192.168.0.111";
const FAR_BACKEND: &str = "10.2.0.3";

/// A director with two ports: the hosts are behind lan0, and rs3 is behind lan1, on a link of its own.
fn two_ports(driver: Driver) -> Option<Lab> {
    let mut lab = Lab::new(Topology::Segment)?;
    connect_rs1(&lab);
    lab.configure_daemon([0, 1], driver, "");
    // A probe under way holds a packet buffer, and these tests count them.
    lab.configure_services("check = \"arp\"");
    let text = std::fs::read_to_string(lab.config()).unwrap();
    let name = if driver == Driver::AfXdp { "af_xdp" } else { "af_packet" };
    let service = format!(
        "vip = \"{FAR}\"\nport = \"any\"\nprotocol = \"udp\"\nbackends = [{{ address = \"{FAR_BACKEND}\" }}]\n"
    );
    let second = LAN1.replace("DRIVER", name) + &service;
    std::fs::write(lab.config(), text.replacen("[[services]]", &(second + "[[services]]"), 1)).unwrap();
    lab.restart();
    Some(lab)
}

/// Makes the director's lan1 and the link to rs1.
fn connect_rs1(lab: &Lab) {
    let (director, rs1) = (lab.namespace("director"), lab.namespace("rs1"));
    run(&["ip", "link", "add", "lan1", "netns", &director, "type", "veth", "peer", "name", "far0", "netns", &rs1]);
    lab.on("director", &["sysctl", "-qw", "net.ipv6.conf.lan1.disable_ipv6=1"]);
    lab.configure("rs1", "far0", &["10.2.0.3/24"]);
    lab.configure("director", "lan1", &[]);
}

/// Datagrams from the client to the VIP whose backend is behind lan1, one from each port.
fn datagrams(lab: &Lab, ports: std::ops::Range<u16>) {
    let (director, client) = (lab.mac("director"), lab.mac("client"));
    let frame = |port| eth().from(client).to(director).ipv4("192.168.0.10", FAR).udp(port, 5_300, &port.to_be_bytes());
    send(lab, "client", ports.map(frame).collect());
}

/// The datagrams that rs1 has received on its link to lan1, by their ports.
fn received(capture: Capture) -> Vec<u16> {
    let datagram = |frame: &Vec<u8>| {
        let to_far = frame.get(23) == Some(&17) && frame.get(30..34) == Some(&[192, 168, 0, 111]);
        to_far.then(|| u16::from_be_bytes([frame[34], frame[35]]))
    };
    capture.finish().iter().filter_map(datagram).collect()
}

/// How many files the daemon has open.
fn descriptors(lab: &Lab) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).unwrap().count()
}

fn a_port_whose_interface_goes_and_comes_back(driver: Driver) {
    let Some(lab) = two_ports(driver) else { return };
    let to_far = |lab: &Lab| {
        wait_for("the backend behind lan1 is resolved", || lab.status().backends.up == lab.status().backends.total);
        let capture = Capture::start_on(lab, "rs1", "far0");
        datagrams(lab, 1_000..1_020);
        assert_eq!(received(capture), (1_000..1_020).collect::<Vec<u16>>());
    };
    to_far(&lab);
    let held = |lab: &Lab| (lab.status().packet_buffers.in_use, descriptors(lab));
    let before = held(&lab);
    for round in 1..=2 {
        // The other port forwards as before.
        lab.on("director", &["ip", "link", "delete", "lan1"]);
        wait_for("it is gone", || count(&lab, "port-gone") == round);
        assert!(!port(&lab, "lan1").link_up && port(&lab, "lan0").link_up);
        let warnings = lab.status().warnings;
        assert!(warnings.iter().any(|warning| warning.contains("there is no interface lan1")), "{warnings:?}");
        let before = (lab.counted("link_down"), lab.status().forwarded_packets);
        datagrams(&lab, 2_000..2_030);
        wait_for("what was for it is dropped", || lab.counted("link_down") >= before.0 + 30);
        assert_eq!(lab.status().forwarded_packets, before.1, "and does not count as forwarded");
        assert_serves(&lab);

        // It comes back: another interface of that name.
        connect_rs1(&lab);
        wait_for("it is up again", || port(&lab, "lan1").link_up);
        let (listed, mac) = (port(&lab, "lan1"), lab.on("director", &["cat", "/sys/class/net/lan1/address"]));
        assert_eq!(listed.mac.to_string(), mac.trim());
        assert_eq!(count(&lab, "mac-changed"), round);
        wait_for("the operator is told", || count(&lab, "port-back") >= round);
        to_far(&lab);
        assert_serves(&lab);
    }
    // Renamed, it is gone, too; under its old name, it is back.
    for command in [&["down"][..], &["name", "lan9"]] {
        lab.on("director", &[&["ip", "link", "set", "lan1"], command].concat());
    }
    wait_for("it is gone", || count(&lab, "port-gone") == 3);
    let capture = Capture::start_on(&lab, "rs1", "far0");
    for command in [&["name", "lan1"][..], &["up"]] {
        let name = if command[0] == "up" { "lan1" } else { "lan9" };
        lab.on("director", &[&["ip", "link", "set", name], command].concat());
    }
    wait_for("it is up again", || port(&lab, "lan1").link_up);
    to_far(&lab);
    assert_serves(&lab);
    // Where the first announcement comes before the other end is ready, those after one and two seconds do not.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let announcement = arp::announcement(port(&lab, "lan1").mac, [10, 2, 0, 2].into());
    assert!(capture.finish().iter().any(|frame| frame.starts_with(&announcement)), "the network is told");
    // Neither buffers nor files are lost.
    let (after, mut lab) = (held(&lab), lab);
    assert!(after.0 < before.0 + 500, "{before:?} packet buffers and files were in use, and {after:?} are");
    assert!(after.1 <= before.1, "{before:?} packet buffers and files were in use, and {after:?} are");
    // It stops, too, while the interface is gone.
    lab.on("director", &["ip", "link", "delete", "lan1"]);
    wait_for("it is gone", || count(&lab, "port-gone") == 4);
    assert!(lab.end_daemon(nix::sys::signal::Signal::SIGTERM).success());
}

#[test]
fn a_port_whose_interface_goes_and_comes_back_by_af_xdp() {
    a_port_whose_interface_goes_and_comes_back(Driver::AfXdp);
}

#[test]
fn a_port_whose_interface_goes_and_comes_back_by_af_packet() {
    a_port_whose_interface_goes_and_comes_back(Driver::AfPacket);
}
