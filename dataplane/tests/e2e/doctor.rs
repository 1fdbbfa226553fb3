//! Faults: real hosts that are set up wrong are named by `shuntctl doctor`, with what mends them, and are well again
//! when that was done.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ctl::answer::{BackendState, Event, Fault};
use ctl::request::{BackendAdd, BackendName, BackendSpec, Request};
use dataplane::slow::{arp, ndp};

use crate::control::shuntctl;
use crate::lab::{Lab, Topology, VIP, VIP6, service_id, wait_for};
use crate::wire::Capture;

const RS1: &str = "192.168.0.3";
const RS1_V6: &str = "fd00::3";
/// Within which time a fault has to be told of, and its end.
const SOON: Duration = Duration::from_secs(3);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What `shuntctl doctor` finds, which is the case within the time that is allowed for it. Also checks its exit status.
fn doctor(lab: &Lab) -> Vec<Fault> {
    let begin = Instant::now();
    let output = shuntctl(lab, &["doctor", "--json"]);
    assert!(begin.elapsed() < SOON + Duration::from_millis(500), "{:?}", begin.elapsed());
    let faults: Vec<Fault> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!faults.is_empty())), "{faults:?}");
    faults
}

/// The open faults of a kind, without a round of checks.
fn open(lab: &Lab, name: &str) -> Vec<Fault> {
    lab.status().faults.into_iter().filter(|fault| fault.fault == name).collect()
}

/// The fault of a kind that `doctor` finds, and that an event tells of.
fn found(lab: &Lab, name: &str, backend: Option<&str>, vip: &str) -> Fault {
    let faults = doctor(lab);
    let of_vip = |fault: &&Fault| fault.service == Some(service_id(vip));
    let fault = faults.iter().filter(of_vip).find(|fault| fault.fault == name && fault.backend == backend.map(address));
    let fault = fault.unwrap_or_else(|| panic!("no {name} of {backend:?} for {vip}: {faults:?}")).clone();
    let tells = |event: &Event| event.subject.backend == fault.backend && event.message.contains(&fault.text);
    assert!(events_of(lab, name).iter().any(tells), "no event of {fault:?}");
    fault
}

/// The events with which faults of a kind begin and end.
fn events_of(lab: &Lab, name: &str) -> Vec<Event> {
    let mut events: Vec<Event> =
        [name, "backend-mac-changed", "fault-ended"].iter().flat_map(|kind| lab.events(kind)).collect();
    events.retain(|event| event.fault.as_deref() == Some(name));
    events
}

/// All faults of a kind end soon.
fn ends(lab: &Lab, name: &str) {
    let begin = Instant::now();
    wait_for(&format!("{name} ends"), || open(lab, name).is_empty());
    assert!(begin.elapsed() <= SOON + Duration::from_millis(300), "{name} has ended after {:?}", begin.elapsed());
    assert_eq!(
        events_of(lab, name).iter().filter(|event| event.kind == "fault-ended").count() > 0,
        name != "link-down"
    );
}

fn shell(lab: &Lab, host: &str, command: &str) {
    lab.on(host, &["sh", "-c", command]);
}

#[test]
fn where_nothing_is_wrong_the_doctor_says_so() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    assert_eq!(shuntctl(&lab, &["doctor"]).status.code(), Some(2), "no daemon");
    lab.start([1, 1]);
    assert_eq!(doctor(&lab), []);
    let output = shuntctl(&lab, &["doctor", &format!("{VIP}:80")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        &*format!("{VIP}:80/tcp"),
        "  claims      ok     nobody else has the VIP",
        &format!("  {RS1}  {} on lan0", lab.mac("rs1")),
        "    link        ok     lan0 has its link",
        "    claims      ok     does not answer ARP for the VIP",
        "1 service, 2 backends: nothing is wrong",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is not in\n{text}");
    }
    assert_eq!(shuntctl(&lab, &["doctor", "192.168.0.9:80"]).status.code(), Some(2), "no such service");
}

#[test]
fn a_backend_that_answers_for_the_vip_is_named_and_the_fix_mends_it() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    for setting in ["all.arp_ignore", "lan0.arp_ignore"] {
        lab.on("rs1", &["sysctl", "-qw", &format!("net.ipv4.conf.{setting}=0")]);
    }
    let fault = found(&lab, "arp-flux", Some(RS1), VIP);
    assert_eq!(fault.mac, Some(lab.mac("rs1")));
    assert!(fault.text.contains("answers ARP for 192.168.0.101"), "{fault:?}");
    assert!(open(&lab, "arp-flux").iter().all(|fault| fault.backend == Some(address(RS1))));
    let text = String::from_utf8(shuntctl(&lab, &["doctor"]).stdout).unwrap();
    assert!(text.contains(&format!("fix: {}", fault.fix)), "{text}");
    shell(&lab, "rs1", &fault.fix);
    ends(&lab, "arp-flux");

    // A VIP on an interface answers neighbor discovery, whatever the sysctls.
    lab.on("rs1", &["ip", "addr", "add", &format!("{VIP6}/128"), "dev", "lan0", "nodad"]);
    let fault = found(&lab, "arp-flux", Some(RS1_V6), VIP6);
    assert!(fault.text.contains("answers NDP for fd00::101"), "{fault:?}");
    lab.on("rs1", &["ip", "addr", "del", &format!("{VIP6}/128"), "dev", "lan0"]);
    ends(&lab, "arp-flux");
    assert_eq!(doctor(&lab), []);
}

/// `arp_announce=0`: it asks its neighbors with the VIP as its sender. It is answered all the same.
#[test]
fn a_backend_that_asks_from_the_vip_is_named_and_goes_on_serving() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    for setting in ["all.arp_announce", "lan0.arp_announce"] {
        lab.on("rs1", &["sysctl", "-qw", &format!("net.ipv4.conf.{setting}=0")]);
    }
    lab.on("rs1", &["ip", "neigh", "flush", "all"]);
    assert_eq!(lab.requests(VIP, 10).len(), 10);
    wait_for("arp-flux", || !open(&lab, "arp-flux").is_empty());
    let fault = found(&lab, "arp-flux", Some(RS1), VIP);
    assert!(fault.text.contains("asks by ARP with 192.168.0.101 as its sender"), "{fault:?}");
    assert!(fault.fix.contains("arp_announce=2"));
}

#[test]
fn another_host_that_has_the_vip_is_named_and_the_vip_is_defended() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    // Its own announcements at the start are over.
    std::thread::sleep(Duration::from_secs(6));
    let capture = Capture::start(&lab, "client");
    lab.on("gw", &["ip", "addr", "add", &format!("{VIP}/32"), "dev", "lan0"]);
    lab.on("gw", &["ip", "addr", "add", &format!("{VIP6}/128"), "dev", "lan0", "nodad"]);
    for vip in [VIP, VIP6] {
        let fault = found(&lab, "vip-conflict", None, vip);
        assert_eq!((fault.mac, fault.vip), (Some(lab.mac("gw")), Some(address(vip))));
        assert!(fault.text.contains("which is no backend"), "{fault:?}");
    }
    let frames = capture.finish();
    let director = lab.mac("director");
    for announcement in
        [arp::announcement(director, VIP.parse().unwrap()), ndp::announcement(director, VIP6.parse().unwrap())]
    {
        let defences = frames.iter().filter(|frame| frame.starts_with(&announcement)).count();
        // One of the schedule may be among them.
        assert!((1..=2).contains(&defences), "{defences}");
    }
    lab.on("gw", &["ip", "addr", "del", &format!("{VIP}/32"), "dev", "lan0"]);
    lab.on("gw", &["ip", "addr", "del", &format!("{VIP6}/128"), "dev", "lan0"]);
    ends(&lab, "vip-conflict");
    assert_eq!(doctor(&lab), []);
}

/// The addresses of two hosts that are not on the director's segment.
const FAR: [(&str, [&str; 2]); 2] = [(VIP, ["192.168.0.50", "192.168.0.51"]), (VIP6, ["fd00::50", "fd00::51"])];

/// Puts a real server with these addresses behind the gateway, which answers for them on the director's segment.
fn far_hosts(lab: &mut Lab) {
    lab.host("far");
    lab.connect(("gw", "far0"), "far");
    lab.configure("gw", "far0", &["10.9.0.1/24", "fd09::1/64"]);
    lab.configure("far", "lan0", &["10.9.0.2/24", "fd09::2/64"]);
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.lan0.proxy_arp=1"] {
        lab.on("gw", &["sysctl", "-qw", &format!("net.{setting}")]);
    }
    for setting in ["ipv6.conf.lan0.proxy_ndp=1", "ipv4.neigh.lan0.proxy_delay=0", "ipv6.neigh.lan0.proxy_delay=0"] {
        lab.on("gw", &["sysctl", "-qw", &format!("net.{setting}")]);
    }
    for (host, host6) in FAR[0].1.into_iter().zip(FAR[1].1) {
        lab.on("far", &["ip", "addr", "add", &format!("{host}/32"), "dev", "lan0"]);
        lab.on("far", &["ip", "addr", "add", &format!("{host6}/128"), "dev", "lan0", "nodad"]);
        lab.route("gw", &[&format!("{host}/32"), "dev", "far0"]);
        lab.route("gw", &[&format!("{host6}/128"), "dev", "far0"]);
        lab.on("gw", &["ip", "-6", "neigh", "add", "proxy", host6, "dev", "lan0"]);
    }
    lab.route("far", &["default", "via", "10.9.0.1"]);
    lab.route("far", &["default", "via", "fd09::1"]);
    lab.real_server("far", &[VIP, VIP6]);
    lab.nginx("far");
}

#[test]
fn two_backends_behind_a_router_that_answers_for_them_are_named() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    far_hosts(&mut lab);
    lab.start([1, 1]);
    for (vip, hosts) in FAR {
        for host in hosts {
            let backend = BackendSpec { weight: 0, ..BackendSpec::new(address(host)) };
            lab.ask(Request::BackendAdd(BackendAdd { service: service_id(vip), backend }));
        }
    }
    wait_for("shared-mac", || open(&lab, "shared-mac").len() == 4);
    for (vip, hosts) in FAR {
        for host in hosts {
            assert_eq!(found(&lab, "shared-mac", Some(host), vip).mac, Some(lab.mac("gw")));
            // The VIP is on its lo, and its service listens there: it is not the host that is to be mended.
            let fault = found(&lab, "off-link", Some(host), vip);
            assert!(fault.text.contains("answers from behind a router"), "{fault:?}");
        }
        assert_eq!(lab.requests(vip, 20).len(), 20, "the others serve on");
    }
    for (vip, [host, _]) in FAR {
        lab.ask(Request::BackendRemove(BackendName { service: service_id(vip), address: address(host) }));
    }
    ends(&lab, "shared-mac");
    for (vip, [_, host]) in FAR {
        lab.ask(Request::BackendRemove(BackendName { service: service_id(vip), address: address(host) }));
    }
    wait_for("what is removed has no faults", || open(&lab, "off-link").is_empty());
}

#[test]
fn a_backend_with_another_mac_address_is_named_and_its_flows_go_on() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    std::fs::write(lab.folder().join("rs1/files/large"), vec![7; 8 << 20]).unwrap();
    let download = lab.inside("client", || {
        let url = format!("http://{VIP}/slow/large");
        Command::new("curl")
            .args(["-s", "--max-time", "60", "-o", "/dev/null", "-w", "%{size_download}", &url])
            .output()
    });
    std::thread::sleep(Duration::from_secs(1));
    lab.on("rs1", &["ip", "link", "set", "lan0", "address", "02:00:00:00:00:33"]);
    for (backend, vip) in [(RS1, VIP), (RS1_V6, VIP6)] {
        let fault = found(&lab, "mac-changed", Some(backend), vip);
        assert_eq!(fault.mac, Some(lab.mac("rs1")), "{fault:?}");
    }
    assert_eq!(String::from_utf8_lossy(&download.join().unwrap().unwrap().stdout), (8 << 20).to_string());
    wait_for("the change is past", || open(&lab, "mac-changed").is_empty());
    assert_eq!(doctor(&lab), []);
}

#[test]
fn a_backend_whose_interface_is_down_is_silent_until_it_is_up_again() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.on("rs1", &["sysctl", "-qw", "net.ipv6.conf.lan0.keep_addr_on_down=1"]);
    lab.start([1, 1]);
    lab.on("rs1", &["ip", "link", "set", "lan0", "down"]);
    for (backend, vip) in [(RS1, VIP), (RS1_V6, VIP6)] {
        let fault = found(&lab, "neighbor-silent", Some(backend), vip);
        assert!(fault.fix.contains("ip link set INTERFACE up"), "{fault:?}");
    }
    assert_eq!(open(&lab, "neighbor-silent").len(), 2, "the other one answers");
    // After it was given up, too.
    wait_for("it is given up", || lab.events("backend-unreachable").len() == 2);
    lab.on("rs1", &["ip", "link", "set", "lan0", "up"]);
    ends(&lab, "neighbor-silent");
}

#[test]
fn a_port_of_the_director_without_a_link_is_a_fault() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    lab.on("director", &["ip", "link", "set", "lan0", "down"]);
    wait_for("link-down", || !open(&lab, "link-down").is_empty());
    let fault = &open(&lab, "link-down")[0];
    assert_eq!((fault.port.as_deref(), fault.fix.as_str(), fault.service), (Some("lan0"), "ip link set lan0 up", None));
    let text = String::from_utf8(shuntctl(&lab, &["doctor"]).stdout).unwrap();
    assert!(text.starts_with("The director\n  link        ERROR  link-down, for "), "{text}");
    lab.on("director", &["ip", "link", "set", "lan0", "up"]);
    ends(&lab, "link-down");
}

/// A backend whose link carries less than the director's answers all checks.
#[test]
fn a_link_that_carries_less_is_named_and_takes_nobody_out() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    // Linux removes the IPv6 addresses of a link that carries less than 1,280 bytes.
    let set = |lab: &Lab, mtu: &str| lab.on("rs1", &["ip", "link", "set", "lan0", "mtu", mtu]);
    set(&lab, "1400");
    lab.start([1, 1]);
    let of_rs1 = |lab: &Lab| {
        let open: Vec<IpAddr> = open(lab, "mtu").iter().filter_map(|fault| fault.backend).collect();
        open == [address(RS1), address(RS1_V6)]
    };
    wait_for("mtu at the start", || of_rs1(&lab));
    for (vip, backend) in [(VIP, RS1), (VIP6, RS1_V6)] {
        let fault = found(&lab, "mtu", Some(backend), vip);
        assert!(fault.text.contains("none of 1500") && fault.fix.contains("mtu 1500"), "{fault:?}");
        assert_eq!(fault.mac, Some(lab.mac("rs1")));
        assert_eq!(lab.backend(vip, backend).state, BackendState::Up);
        assert_eq!(lab.requests(vip, 20).len(), 20);
    }
    set(&lab, "1500");
    ends(&lab, "mtu");
    assert_eq!(doctor(&lab), []);
    let text = String::from_utf8(shuntctl(&lab, &["doctor"]).stdout).unwrap();
    assert_eq!(text.matches("    mtu         ok     takes packets of 1500 bytes").count(), 4, "{text}");
    // The doctor asks at once.
    set(&lab, "1300");
    for (vip, backend) in [(VIP, RS1), (VIP6, RS1_V6)] {
        found(&lab, "mtu", Some(backend), vip);
    }
}
