//! Faults: real hosts that are set up wrong are named by `shuntctl doctor`, with what mends them, and are well again
//! when that was done.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctl::answer::{BackendState, Event, Fault};
use ctl::request::{BackendAdd, BackendName, BackendSpec, Request};
use dataplane::dpdk::Driver;
use dataplane::slow::{arp, ndp};
use nix::sys::signal::{Signal, kill};

use crate::control::shuntctl;
use crate::lab::{DIRECTOR, DIRECTOR6, Lab, REAL_SERVER, Topology, VIP, VIP6, service_id, wait_for};
use crate::wire::Capture;

const RS1: &str = "192.168.0.3";
const RS1_V6: &str = "fd00::3";
const RS2: &str = "192.168.0.4";
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

/// A host that is frozen, or whose firewall drops all, answers ARP and NDP and nothing else. One that ignores pings and lacks the VIP
/// shows that it is there by refusing connections to its own address.
#[test]
fn a_backend_that_answers_arp_alone_is_named_and_so_is_one_that_ignores_pings() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    shell(&lab, "rs1", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv6.icmp.echo_ignore_all=1");
    assert_eq!(doctor(&lab), [], "pings are not asked for");
    for (family, director) in [("-4", DIRECTOR), ("-6", DIRECTOR6)] {
        let rules =
            ["add pref 10 lookup local", "del pref 0", &format!("add pref 5 from {director} ipproto tcp blackhole")];
        rules.iter().for_each(|rule| shell(&lab, "rs1", &format!("ip {family} rule {rule}")));
    }
    for (backend, vip, protocol) in [(RS1, VIP, "ARP"), (RS1_V6, VIP6, "NDP")] {
        let fault = found(&lab, "hung", Some(backend), vip);
        assert!(fault.text.contains(&format!("answers {protocol} and nothing else")), "{fault:?}");
        assert!(fault.fix.contains("firewall"), "{fault:?}");
    }
    for family in ["-4", "-6"] {
        shell(&lab, "rs1", &format!("ip {family} rule del pref 5"));
    }
    ends(&lab, "hung");
    lab.on("rs1", &[REAL_SERVER, "stop", VIP, VIP6]);
    for (backend, vip) in [(RS1, VIP), (RS1_V6, VIP6)] {
        found(&lab, "vip-missing", Some(backend), vip);
    }
    lab.real_server("rs1", &[VIP, VIP6]);
    ends(&lab, "vip-missing");
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

/// Requests of four clients to both VIPs, on a connection each, as long as a test goes on.
struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// A request, and which server has answered it.
#[derive(Debug, Clone)]
struct Sent {
    at: Instant,
    vip: &'static str,
    server: Option<String>,
}

impl Load {
    fn start(lab: &Lab) -> Load {
        let (ends, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let client = |_| {
            let (ends, sent) = (ends.clone(), sent.clone());
            lab.inside("client", move || {
                while !ends.load(Ordering::Relaxed) {
                    for vip in [VIP, VIP6] {
                        let at = Instant::now();
                        let server = request(vip);
                        sent.lock().unwrap().push(Sent { at, vip, server });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        };
        let clients = (0..4).map(client).collect();
        Load { ends, clients, sent }
    }

    /// The requests of a time. The last of them may be under way.
    fn between(&self, from: Instant, to: Instant) -> Vec<Sent> {
        self.sent.lock().unwrap().iter().filter(|sent| sent.at >= from && sent.at < to).cloned().collect()
    }

    /// All requests of a time are answered, and, if it is given, by this server.
    fn are_served(&self, what: &str, from: Instant, to: Instant, by: Option<&str>) {
        let sent = self.between(from, to);
        assert!(sent.iter().any(|sent| sent.vip == VIP) && sent.iter().any(|sent| sent.vip == VIP6), "{what}");
        let bad = sent.iter().find(|sent| sent.server.is_none() || by.is_some() && sent.server.as_deref() != by);
        assert!(bad.is_none(), "{what}: {:?} after {:?} of {:?}", bad, bad.map(|bad| bad.at - from), to - from);
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

/// Asks for a page of a VIP. Returns the server that has answered.
fn request(vip: &str) -> Option<String> {
    let patience = Duration::from_millis(400);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address(vip), 80), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.split_once(' ')?.0.into())
}

/// `doctor` names a fault of rs1 for both VIPs, and an event does, within the time that is allowed for it.
fn is_named(lab: &Lab, name: &str) {
    let begin = Instant::now();
    loop {
        let faults = doctor(lab);
        let named = |(vip, backend): &(&str, &str)| {
            faults.iter().any(|fault| {
                fault.fault == name
                    && fault.service == Some(service_id(vip))
                    && fault.backend == Some(address(backend))
                    && !fault.fix.is_empty()
            })
        };
        let told = |(_, backend): &(&str, &str)| {
            let events = events_of(lab, name);
            events.iter().any(|event| event.kind != "fault-ended" && event.subject.backend == Some(address(backend)))
        };
        let both = [(VIP, RS1), (VIP6, RS1_V6)];
        if both.iter().all(named) && both.iter().all(told) {
            println!("{name} is named after {:?}", begin.elapsed());
            assert!(faults.iter().all(|fault| fault.backend != Some(address(RS2))), "{faults:?}");
            break;
        }
        assert!(begin.elapsed() < SOON + Duration::from_millis(500), "{name} after {:?}: {faults:?}", begin.elapsed());
    }
    assert!(begin.elapsed() < SOON + Duration::from_millis(800), "{name} is named after {:?}", begin.elapsed());
}

/// Waits until rs1 gets requests of both VIPs, or none.
fn gets_requests(lab: &Lab, gets: bool) {
    wait_for(&format!("rs1 gets requests: {gets}"), || {
        let rs1 = [(VIP, RS1), (VIP6, RS1_V6)].map(|(vip, backend)| lab.backend(vip, backend));
        rs1.iter().all(|rs1| (rs1.share > 0.0) == gets && (rs1.state == BackendState::Up) == gets)
    });
}

/// Something happens to rs1 under load. It is named, gets nothing more, the other server serves on, and it is well again
/// soon when that is over.
fn takes_out(lab: &mut Lab, load: &Load, name: &str, harm: impl Fn(&mut Lab), mend: impl Fn(&mut Lab)) {
    let before = Instant::now();
    harm(lab);
    is_named(lab, name);
    gets_requests(lab, false);
    let down = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let mending = Instant::now();
    mend(lab);
    ends(lab, name);
    load.are_served(&format!("{name}, while rs1 is down"), down, mending, Some("rs2"));
    let by_rs2 = load.between(before, down).into_iter().filter(|sent| sent.server.as_deref() == Some("rs2"));
    assert!(by_rs2.count() > 4, "{name}: rs2 serves meanwhile");
    gets_requests(lab, true);
    let up = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    load.are_served(&format!("{name}, when rs1 is back"), mending, Instant::now() - Duration::from_millis(100), None);
    assert!(load.between(up, Instant::now()).iter().any(|sent| sent.server.as_deref() == Some("rs1")), "{name}");
}

/// A lab with HTTP checks, whose rs1 goes down no more than three times: after that, it would be held out.
fn with_http_checks() -> Option<(Lab, Load)> {
    let mut lab = Lab::new(Topology::Gateway)?;
    // It is there as soon as its link is up again: Linux would wait a second to find duplicates of its link-local address.
    for setting in ["lan0.keep_addr_on_down=1", "all.accept_dad=0", "lan0.accept_dad=0"] {
        lab.on("rs1", &["sysctl", "-qw", &format!("net.ipv6.conf.{setting}")]);
    }
    lab.configure_daemon([1, 1], Driver::Auto, "");
    lab.configure_services("check = { type = \"http\", path = \"/health\" }");
    lab.restart();
    gets_requests(&lab, true);
    let load = Load::start(&lab);
    Some((lab, load))
}

#[test]
fn who_does_not_serve_the_vip_is_named_at_once_and_the_other_one_serves_on() {
    let Some((mut lab, load)) = with_http_checks() else { return };
    let vip = |lab: &Lab, verb: &str| {
        let also: &[&str] = if verb == "start" { &["--interface", "lan0"] } else { &[] };
        lab.on("rs1", &[&[REAL_SERVER, verb], also, &[VIP, VIP6]].concat());
    };
    takes_out(&mut lab, &load, "vip-missing", |lab| vip(lab, "stop"), |lab| vip(lab, "start"));
    takes_out(&mut lab, &load, "service-closed", |lab| lab.stop_nginx("rs1"), |lab| lab.nginx("rs1"));
    let again = |lab: &mut Lab, addresses| {
        lab.stop_nginx("rs1");
        lab.nginx_at("rs1", addresses);
    };
    takes_out(&mut lab, &load, "not-on-vip", |lab| again(lab, [RS1, RS1_V6]), |lab| again(lab, [VIP, VIP6]));
    load.end();
    assert_eq!(doctor(&lab), []);
}

#[test]
fn who_does_not_answer_as_it_should_is_named_at_once_and_the_other_one_serves_on() {
    let Some((mut lab, load)) = with_http_checks() else { return };
    let signal = |lab: &Lab, signal| kill(lab.nginx_pid("rs1"), signal).unwrap();
    takes_out(&mut lab, &load, "hung", |lab| signal(lab, Signal::SIGSTOP), |lab| signal(lab, Signal::SIGCONT));
    let broken = lab.folder().join("rs1/broken");
    let (breaks, mends) = (broken.clone(), broken);
    takes_out(
        &mut lab,
        &load,
        "wrong-answer",
        move |_| std::fs::write(&breaks, "").unwrap(),
        move |_| std::fs::remove_file(&mends).unwrap(),
    );
    let link = |lab: &Lab, state: &str| {
        lab.on("rs1", &["ip", "link", "set", "lan0", state]);
        if state == "up" {
            lab.route("rs1", &["default", "via", "192.168.0.1"]);
            lab.route("rs1", &["default", "via", "fd00::1"]);
        }
    };
    takes_out(&mut lab, &load, "neighbor-silent", |lab| link(lab, "down"), |lab| link(lab, "up"));
    load.end();
    assert_eq!(doctor(&lab), []);
}

#[test]
fn what_takes_no_backend_out_is_named_and_the_others_serve_on() {
    let Some(mut lab) = Lab::new(Topology::Gateway) else { return };
    lab.host("other");
    lab.plug("other", "lan0", &["192.168.0.77/24", "fd00::77/64"]);
    lab.start([1, 1]);
    let load = Load::start(&lab);

    // Of the replies, those of rs1 come to the director, which drops them.
    let route = |lab: &Lab, [hop, hop6]: [&str; 2]| {
        lab.on("rs1", &["ip", "route", "replace", "default", "via", hop]);
        lab.on("rs1", &["ip", "-6", "route", "replace", "default", "via", hop6]);
    };
    let harmed = Instant::now();
    route(&lab, [DIRECTOR, DIRECTOR6]);
    is_named(&lab, "return-via-director");
    route(&lab, ["192.168.0.1", "fd00::1"]);
    let mended = Instant::now();
    ends(&lab, "return-via-director");
    let by_rs2 = load.between(harmed, mended).into_iter().filter(|sent| sent.server.as_deref() == Some("rs2"));
    assert!(by_rs2.count() > 2, "rs2 serves meanwhile");
    // A reply that was lost is repeated by the backend, but not in a moment.
    let calm = mended + Duration::from_millis(1_500);

    // Its replies are as before, and so are the others'.
    for setting in ["all.arp_ignore", "lan0.arp_ignore"] {
        lab.on("rs1", &["sysctl", "-qw", &format!("net.ipv4.conf.{setting}=0")]);
    }
    found(&lab, "arp-flux", Some(RS1), VIP);
    shell(&lab, "rs1", "sysctl -w net.ipv4.conf.all.arp_ignore=1");
    ends(&lab, "arp-flux");

    lab.on("other", &["ip", "addr", "add", &format!("{VIP}/32"), "dev", "lan0"]);
    lab.on("other", &["ip", "addr", "add", &format!("{VIP6}/128"), "dev", "lan0", "nodad"]);
    for vip in [VIP, VIP6] {
        assert_eq!(found(&lab, "vip-conflict", None, vip).mac, Some(lab.mac("other")));
    }
    // It does not come and go as long as the other host has it.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(events_of(&lab, "vip-conflict").len(), 2);
    lab.on("other", &["ip", "addr", "del", &format!("{VIP}/32"), "dev", "lan0"]);
    lab.on("other", &["ip", "addr", "del", &format!("{VIP6}/128"), "dev", "lan0"]);
    ends(&lab, "vip-conflict");
    load.are_served("the VIP's claims", calm, Instant::now() - Duration::from_secs(1), None);

    let changed = Instant::now();
    lab.on("rs1", &["ip", "link", "set", "lan0", "address", "02:00:00:00:00:33"]);
    is_named(&lab, "mac-changed");
    std::thread::sleep((changed + SOON + Duration::from_secs(1)).saturating_duration_since(Instant::now()));
    load.are_served("the new MAC address", changed + SOON, Instant::now() - Duration::from_millis(500), None);
    load.end();
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
