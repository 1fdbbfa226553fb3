//! Events: mistakes of real servers, which are named; changes; floods.

use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ctl::answer::{Answer, Event, Severity};
use ctl::request::{EventQuery, Request};
use dataplane::dpdk::Driver;
use dataplane::slow::arp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::shuntctl;
use crate::lab::{DIRECTOR, DIRECTOR6, Lab, Topology, VIP, VIP6, service_id, wait_for};
use crate::wire::send;

const GATEWAY: &str = "192.168.0.1";
const GATEWAY6: &str = "fd00::1";
const RS1: &str = "192.168.0.3";
const RS1_V6: &str = "fd00::3";
const REAL_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/real-server");

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn url(vip: &str) -> String {
    if vip.contains(':') { format!("http://[{vip}]/") } else { format!("http://{vip}/") }
}

/// A request to the VIP gets no answer.
fn fails(lab: &Lab, vip: &str) {
    assert_eq!(lab.try_on("client", &["curl", "-s", "--max-time", "2", &url(vip)]), None);
}

/// Waits for the first event of a kind that is about a VIP.
fn event_about(lab: &Lab, kind: &str, vip: &str) -> Event {
    let find = || lab.events(kind).into_iter().find(|event| event.subject.vip == Some(address(vip)));
    wait_for(&format!("a {kind} about {vip}"), || find().is_some());
    find().unwrap()
}

fn assert_names(event: &Event, lab: &Lab, backend: &str, advice: &str) {
    assert_eq!(event.severity, Severity::Error);
    let (mac, subject) = (lab.mac("rs1"), &event.subject);
    assert_eq!((subject.backend, subject.mac), (Some(address(backend)), Some(mac)), "{event}");
    assert_eq!(subject.port.as_deref(), Some("lan0"));
    assert!(event.message.contains(&format!("Backend {backend} ({mac})")), "{event}");
    assert!(event.message.contains(advice), "{event}");
    assert!(lab.logged().contains(&event.message), "it is in the log, too");
}

fn dropped_of_service(lab: &Lab, vip: &str, reason: &str) -> u64 {
    let Answer::Service(service) = lab.ask(Request::ServiceShow(service_id(vip))) else { panic!("no service") };
    service.drops.iter().find(|count| count.reason == reason).map_or(0, |count| count.packets)
}

#[test]
fn a_real_server_whose_default_route_is_the_director_is_named() {
    let Some(mut lab) = Lab::new(Topology::Gateway) else { return };
    lab.start([1, 0]);
    let route = |lab: &Lab, hop: &str, hop6: &str| {
        lab.on("rs1", &["ip", "route", "replace", "default", "via", hop]);
        lab.on("rs1", &["ip", "-6", "route", "replace", "default", "via", hop6]);
    };
    route(&lab, DIRECTOR, DIRECTOR6);
    for (vip, backend) in [(VIP, RS1), (VIP6, RS1_V6)] {
        fails(&lab, vip);
        let event = event_about(&lab, "return-via-director", vip);
        assert_names(&event, &lab, backend, "default route");
    }
    assert!(lab.counted("return_via_director") >= 2);
    let Answer::Status(status) = lab.ask(Request::Status) else { panic!("no status") };
    assert!(status.events.error >= 2, "{status:?}");
    // As the advice says.
    route(&lab, GATEWAY, GATEWAY6);
    assert_eq!(lab.requests(VIP, 10).len() + lab.requests(VIP6, 10).len(), 20);
}

#[test]
fn a_real_server_without_the_vip_that_forwards_is_named() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    lab.on("rs1", &[REAL_SERVER, "stop", VIP, VIP6]);
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        lab.on("rs1", &["sysctl", "-qw", &format!("net.{setting}")]);
    }
    for (vip, backend) in [(VIP, RS1), (VIP6, RS1_V6)] {
        fails(&lab, vip);
        let event = event_about(&lab, "loop", vip);
        assert_names(&event, &lab, backend, &format!("scripts/real-server start {vip}"));
        assert!(dropped_of_service(&lab, vip, "loop") > 0);
    }
    let both = dropped_of_service(&lab, VIP, "loop") + dropped_of_service(&lab, VIP6, "loop");
    assert_eq!(both, lab.counted("loop"), "each drop is counted for a service, too");
    let shown = |arguments: &[&str]| String::from_utf8(shuntctl(&lab, arguments).stdout).unwrap();
    let drops = shown(&["drops", "--worker"]);
    assert!(drops.contains(&format!("of {VIP}:80/tcp")) && drops.contains("worker 0: "), "{drops}");
    assert!(shown(&["service", "show", &format!("{VIP}:80")]).contains(" loop (what that means"));
    lab.real_server("rs1", &[VIP, VIP6]);
    assert_eq!(lab.requests(VIP, 10).len(), 10);
}

/// Twenty thousand frames, each from another unknown station, are a few events.
#[test]
fn a_flood_of_returns_is_a_few_events() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let eth = dataplane::testing::frame::eth().to(lab.mac("director"));
    let begin = Instant::now();
    while lab.counted("return_via_director") < 20_000 {
        // The MAC address of an unknown station, another one for each frame.
        let frames = (0..5_000u16).map(|number| {
            let [high, low] = number.to_be_bytes();
            eth.from(ctl::Mac([2, 0, 0, 1, high, low])).ipv4(VIP, "10.0.0.10").tcp(80, number).ack()
        });
        send(&lab, "client", frames.collect());
    }
    wait_for("there is an event", || !lab.events("return-via-director").is_empty());
    let most = 1 + begin.elapsed().as_secs() / 10;
    let events = lab.events("return-via-director");
    assert!(events.len() as u64 <= most, "{events:?}");
    assert!(events[0].message.starts_with("Station 02:00:00:01:"), "{events:?}");
    assert_eq!(lab.requests(VIP, 50).len(), 50);
}

#[test]
fn changes_by_operators_and_backends_are_events() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    assert_eq!(lab.events("started")[0].sequence, 1);
    assert_eq!(lab.events("backend-resolved").len(), 4);
    let service = "192.168.0.102:80";
    for (command, kind) in [
        (&["service", "add", service][..], "service-added"),
        (&["backend", "add", service, "192.168.0.77"], "backend-added"),
        (&["backend", "edit", service, "192.168.0.77", "--weight", "7"], "backend-edited"),
    ] {
        assert!(shuntctl(&lab, command).status.success());
        let events = lab.events(kind);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].subject.service, Some(service_id("192.168.0.102")));
    }
    assert!(!shuntctl(&lab, &["service", "add", service]).status.success());
    assert_eq!(lab.events("service-added").len(), 1, "a refused change is no event");
    wait_for("the backend that does not exist is reported", || {
        lab.events("backend-unreachable").iter().any(|event| event.subject.backend == Some(address("192.168.0.77")))
    });
    let new = ctl::Mac([2, 0, 0, 0, 0, 0x33]);
    lab.on("rs1", &["ip", "link", "set", "lan0", "address", &new.to_string()]);
    send(&lab, "rs1", vec![arp::announcement(new, "192.168.0.3".parse().unwrap())]);
    wait_for("the new MAC address is reported", || {
        lab.events("backend-mac-changed").iter().any(|event| event.subject.mac == Some(new))
    });
    for command in [&["backend", "remove", service, "192.168.0.77"][..], &["service", "remove", service]] {
        assert!(shuntctl(&lab, command).status.success());
    }
    let query = |since, limit| match lab.ask(Request::Events(EventQuery { since, limit })) {
        Answer::Events(events) => events,
        other => panic!("{other:?}"),
    };
    let latest = query(None, Some(2));
    assert_eq!(
        latest.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["backend-removed", "service-removed"]
    );
    assert_eq!(query(Some(latest[0].sequence), None), latest[1..]);
}

#[test]
fn shuntctl_follows_events_until_it_is_interrupted() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let follow = |arguments: &[&str]| {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_shuntd")).with_file_name("shuntctl");
        let mut command = Command::new(binary);
        command.arg("--socket").arg(lab.socket()).args(["events", "--follow"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let followers = [follow(&["--limit", "1"]), follow(&["--limit", "0", "--json"])];
    std::thread::sleep(Duration::from_millis(500));
    lab.set_weight(VIP, RS1, 7);
    std::thread::sleep(Duration::from_millis(2_500));
    // When the daemon ends, the followers wait for the next one.
    assert!(lab.end_daemon(Signal::SIGTERM).success());
    std::thread::sleep(Duration::from_millis(1_500));
    lab.restart();
    std::thread::sleep(Duration::from_millis(2_500));
    let printed = followers.map(|mut follower| {
        kill(Pid::from_raw(i32::try_from(follower.id()).unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(follower.wait().unwrap().code(), Some(0), "Ctrl-C is not an error");
        let mut printed = String::new();
        follower.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        printed
    });
    let lines: Vec<&str> = printed[0].lines().collect();
    let says = ["backend-resolved", "weight 7", "started", "backend-resolved"];
    assert!(lines.len() == 7 && says.iter().zip(&lines).all(|(word, line)| line.contains(word)), "{lines:?}");
    let events: Vec<Event> = printed[1].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.len() == 6 && events[0].kind == "backend-edited" && events[1].sequence == 1, "{events:?}");
}

#[test]
fn a_flood_of_pings_is_cut_to_the_rate() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "echo_rate = 20\n");
    lab.restart();
    let begin = Instant::now();
    let printed = lab.on("client", &["ping", "-q", "-c", "300", "-i", "0.005", "-W", "1", VIP]);
    let most = 20.0 * (1.0 + begin.elapsed().as_secs_f64());
    let words: Vec<&str> = printed.split(' ').collect();
    let received: f64 = words[words.iter().position(|word| *word == "received,").unwrap() - 1].parse().unwrap();
    assert!(received >= 20.0 && received <= most.ceil(), "{printed}");
    assert!(lab.counted("echo_limited") as f64 >= 300.0 - most.ceil());
    assert_eq!(lab.requests(VIP, 20).len(), 20);
}

/// A capture of frames that the port drops.
fn write_capture(file: &Path, frames: usize) {
    let mut capture: Vec<u8> =
        [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1].into_iter().flat_map(u32::to_le_bytes).collect();
    let frame = [&[0x02, 0x70, 0x63, 0x61, 0x70, 0, 0x02, 0, 0, 0, 0, 0x77, 0x88, 0xb5][..], &[0; 46]].concat();
    let record: Vec<u8> = [0, 0, 60, 60].into_iter().flat_map(u32::to_le_bytes).chain(frame).collect();
    (0..frames).for_each(|_| capture.extend(&record));
    fs::write(file, capture).unwrap();
}

#[test]
fn packet_buffers_that_a_driver_keeps_are_reported_and_so_is_a_public_hash_key() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    // With infinite_rx, DPDK's pcap driver keeps all frames of the file in buffers of the port's pool: nearly all that there are.
    write_capture(&lab.folder().join("in.pcap"), 1_990);
    let director = format!("[director]\nsocket = \"{}\"\nhugepages = \"off\"\nmbufs = 2047\n", lab.socket().display());
    let port = format!(
        "[[ports]]\nname = \"lan0\"\ndevice = \"net_pcap0,rx_pcap={},infinite_rx=1\"\naddresses = [\"{DIRECTOR}/24\"]\n",
        lab.folder().join("in.pcap").display()
    );
    let service = format!("[[services]]\nvip = \"{VIP}\"\nport = 80\n");
    let backend = format!("backends = [{{ address = \"{RS1}\", mac = \"02:00:00:00:00:03\" }}]\n");
    fs::write(lab.config(), director + &port + &service + &backend).unwrap();

    let check = Command::new(env!("CARGO_BIN_EXE_shuntd")).arg("--check").arg(lab.config()).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success() && said.contains("a fresh one is: hash_key = \""), "{said}");

    lab.restart();
    wait_for("buffers-exhausted", || !lab.events("buffers-exhausted").is_empty());
    let event = lab.events("buffers-exhausted").remove(0);
    assert_eq!((event.severity, event.subject.port.as_deref()), (Severity::Error, Some("lan0")));
    assert!(event.message.contains("of 2047 packet buffers are in use"), "{event}");
    let warnings = lab.status().warnings;
    for says in ["packet buffers are in use", "a fresh one is: hash_key = \""] {
        assert!(warnings.iter().any(|warning| warning.contains(says)), "{warnings:?}");
    }
    assert!(!lab.logged().contains("hash_key = "), "what is in a log is no secret");
}
