//! The director's addresses: ARP, neighbor discovery, ping, announcements. And the backends' MAC addresses that it
//! learns.

use std::net::{Ipv4Addr, Ipv6Addr};

use ctl::answer::{Answer, NeighborState};
use ctl::request::{Request, ServiceAdd};
use dataplane::slow::{arp, ndp};

use crate::lab::{DIRECTOR, DIRECTOR6, Lab, Topology, VIP, VIP6, service_id, wait_for};
use crate::wire::{Capture, send};

#[test]
fn arp_and_ndp_for_vips_and_own_addresses_lead_to_the_director() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let mac = lab.mac("director").to_string();
    for address in [VIP, DIRECTOR] {
        // One answer to each request, although the real servers have the VIP, too.
        let printed = lab.on("client", &["arping", "-c", "3", "-w", "5", "-I", "lan0", address]);
        assert!(printed.to_lowercase().contains(&mac), "{printed}");
        assert!(printed.contains("Received 3 response(s)"), "{printed}");
    }
    for address in [VIP6, DIRECTOR6] {
        lab.on("client", &["ping", "-c", "1", "-w", "5", address]);
        let neighbor = lab.on("client", &["ip", "-6", "neighbor", "show", address]);
        assert!(neighbor.contains(&mac), "{neighbor}");
    }
    let unused = lab.try_on("client", &["arping", "-c", "2", "-w", "3", "-I", "lan0", "192.168.0.99"]);
    assert_eq!(unused, None, "no answer for an unused address");
}

#[test]
fn ping_is_answered_for_vips_and_own_addresses() {
    let Some(mut lab) = Lab::new(Topology::Gateway) else { return };
    lab.start([1, 1]);
    for address in [VIP, DIRECTOR, VIP6, DIRECTOR6] {
        for size in ["0", "56", "1452"] {
            lab.on("client", &["ping", "-c", "3", "-i", "0.1", "-w", "5", "-s", size, address]);
        }
    }
    assert!(lab.counted("echo") >= 36);
}

#[test]
fn a_vip_that_appears_is_announced() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let mac = lab.mac("director");
    let (new, new6): (Ipv4Addr, Ipv6Addr) = ("192.168.0.102".parse().unwrap(), "fd00::102".parse().unwrap());
    let capture = Capture::start(&lab, "client");
    for vip in ["192.168.0.102", "fd00::102"] {
        let add = ServiceAdd::new(service_id(vip), vec![]);
        lab.ask(Request::ServiceAdd(add));
    }
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let frames = capture.finish();
    for announcement in [arp::announcement(mac, new), ndp::announcement(mac, new6)] {
        let count = frames.iter().filter(|frame| frame.starts_with(&announcement)).count();
        assert!(count >= 2, "announced {count} times");
    }
}

#[test]
fn a_backend_that_moves_to_another_mac_is_followed_at_once() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let of_rs1 = |lab: &Lab| {
        let neighbors = lab.neighbors();
        neighbors.into_iter().find(|neighbor| neighbor.address.to_string() == "192.168.0.3").unwrap()
    };
    let before = of_rs1(&lab);
    assert_eq!((before.state, before.mac), (NeighborState::Reachable, Some(lab.mac("rs1"))));
    let new = ctl::Mac([2, 0, 0, 0, 0, 0x33]);
    lab.on("rs1", &["ip", "link", "set", "lan0", "address", &new.to_string()]);
    send(&lab, "rs1", vec![arp::announcement(new, "192.168.0.3".parse().unwrap())]);
    wait_for("the new MAC address is taken", || of_rs1(&lab).mac == Some(new));
    assert_eq!(of_rs1(&lab).changes, 1);
    // A link that goes down and up makes the kernel announce itself over IPv6, too. IPv4 traffic goes on at once.
    assert_eq!(lab.requests(VIP, 50).len(), 50);
}

#[test]
fn a_backend_that_does_not_answer_gets_nothing_and_is_reported() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let backend = ctl::request::BackendSpec::new("192.168.0.77".parse().unwrap());
    let service = service_id("192.168.0.103");
    lab.ask(Request::ServiceAdd(ServiceAdd::new(service, vec![backend])));
    let url = "http://192.168.0.103/";
    assert_eq!(lab.try_on("client", &["curl", "-s", "--max-time", "2", url]), None);
    assert!(lab.counted("backend_mac_unknown") > 0);
    wait_for("the backend is given up", || {
        lab.neighbors().iter().any(|n| n.address.to_string() == "192.168.0.77" && n.state == NeighborState::Failed)
    });
    let warnings = lab.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("192.168.0.77")), "{warnings:?}");
    // Another service with the same backend need not wait: the backend is known to be down.
    let second_service = "192.168.0.104:80".parse().unwrap();
    let backends =
        ["192.168.0.3", "192.168.0.77"].map(|address| ctl::request::BackendSpec::new(address.parse().unwrap()));
    lab.ask(Request::ServiceAdd(ServiceAdd::new(second_service, backends.into())));
    wait_for("the backend that is down has no share", || {
        let Answer::Service(service) = lab.ask(Request::ServiceShow(second_service)) else { panic!("no service") };
        service.backends[0].share == 1.0
    });
}

/// Each backend is probed again before its confirmation is stale, first by unicast. Over IPv6, Linux answers such a
/// probe without its MAC address.
#[test]
fn backends_stay_confirmed_by_unicast_probes() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let capture = Capture::start(&lab, "client");
    std::thread::sleep(std::time::Duration::from_secs(24));
    let neighbors = lab.neighbors();
    let fresh = |neighbor: &ctl::answer::Neighbor| {
        neighbor.state == NeighborState::Reachable && neighbor.confirmed_s < Some(20)
    };
    assert_eq!(neighbors.len(), 4);
    assert!(neighbors.iter().all(fresh), "{neighbors:?}");
    // Only the backends were probed again. The client has heard each request at most once, at the start.
    let director = lab.mac("director");
    let frames = capture.finish();
    let asked = |target: [u8; 4]| {
        let request =
            |f: &&Vec<u8>| f[6..12] == director.0 && f[12..14] == [8, 6] && f[38..42] == target && f[28..32] != target;
        frames.iter().filter(request).count()
    };
    assert!(asked([192, 168, 0, 3]) <= 1 && asked([192, 168, 0, 4]) <= 1);
}
