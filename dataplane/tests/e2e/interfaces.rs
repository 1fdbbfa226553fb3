//! The Linux interface behind a port changes while the director runs: its link, its MTU, its MAC address.

use std::net::{Ipv4Addr, Ipv6Addr};

use ctl::Mac;
use ctl::answer::{Answer, Port};
use ctl::request::Request;
use dataplane::dpdk::Driver;
use dataplane::slow::{arp, ndp};

use crate::lab::{Lab, Topology, VIP, VIP6, wait_for};
use crate::wire::Capture;

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
