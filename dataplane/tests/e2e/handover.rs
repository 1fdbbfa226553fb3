//! Hand-over: running connections stay at their backend through changes, wherever that is possible.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctl::answer::{Answer, Backend, BackendState, Service};
use ctl::request::{BackendAdd, BackendDrain, BackendName, BackendSpec, Request, ServiceAdd};
use ctl::{Scheduler, ServiceId, Tracking};
use dataplane::dpdk::Driver;
use dataplane::testing::frame::eth;
use nix::sys::signal::Signal;

use crate::changes::{model, server_of};
use crate::lab::{Lab, Topology, VIP, VIP6, by_server, run, service_id, wait_for};
use crate::wire::send;

const RS1: &str = "192.168.0.3";
const RS2: &str = "192.168.0.4";

fn service(lab: &Lab, id: ServiceId) -> Service {
    match lab.ask(Request::ServiceShow(id)) {
        Answer::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

fn backend(lab: &Lab, address: &str) -> Backend {
    let backends = service(lab, service_id(VIP)).backends;
    backends.into_iter().find(|backend| backend.address.to_string() == address).unwrap()
}

fn named(address: &str) -> BackendName {
    BackendName { service: service_id(VIP), address: address.parse().unwrap() }
}

fn drain(lab: &Lab, address: &str, deadline_s: Option<u32>) {
    let BackendName { service, address } = named(address);
    lab.ask(Request::BackendDrain(BackendDrain { service, address, deadline_s }));
}

fn add(lab: &Lab, address: &str) {
    let backend = BackendSpec::new(address.parse().unwrap());
    lab.ask(Request::BackendAdd(BackendAdd { service: service_id(VIP), backend }));
}

/// Downloads that take some seconds, each from a given client port.
struct Downloads {
    curls: Vec<(PathBuf, Child)>,
}

const SIZE: u32 = 4 << 20;

/// The byte at an offset of the file.
fn content(offset: u32) -> u8 {
    offset.wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

impl Downloads {
    fn start(lab: &Lab, ports: &[u16]) -> Downloads {
        for server in ["rs1", "rs2"] {
            fs::write(lab.folder().join(server).join("files/large"), (0..SIZE).map(content).collect::<Vec<u8>>())
                .unwrap();
        }
        let start = |port: &u16| {
            let path = lab.folder().join(format!("download-{port}"));
            let mut curl = Command::new("ip");
            curl.args(["netns", "exec", &lab.namespace("client"), "curl", "-sS", "--fail", "--max-time", "60"]);
            curl.args(["--local-port", &port.to_string(), "-o"]).arg(&path);
            let curl = curl.arg(format!("http://{VIP}/slow/large")).spawn().unwrap();
            (path, curl)
        };
        let downloads = Downloads { curls: ports.iter().map(start).collect() };
        let runs = |(path, _): &(PathBuf, Child)| fs::metadata(path).is_ok_and(|file| file.len() > 0);
        wait_for("all downloads run", || downloads.curls.iter().all(runs));
        downloads
    }

    /// Asserts that no download is done yet, so that the last change met all of them.
    fn assert_running(&mut self, what: &str) {
        for (path, curl) in &mut self.curls {
            let ended = curl.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: {} ended, {ended:?}", path.display());
        }
    }

    /// Waits until all have ended; returns how many broke. Of the others, every byte must be right.
    fn broken(mut self) -> usize {
        let mut broken = 0;
        for (path, mut curl) in std::mem::take(&mut self.curls) {
            if curl.wait().unwrap().success() {
                let got = fs::read(&path).unwrap();
                assert_eq!(got.len(), SIZE as usize);
                assert!(got.iter().zip(0..).all(|(&byte, offset)| byte == content(offset)), "every byte at its offset");
            } else {
                broken += 1;
            }
        }
        broken
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        for (_, curl) in &mut self.curls {
            let _ = curl.kill();
            let _ = curl.wait();
        }
    }
}

#[test]
fn downloads_survive_reweighting_draining_removal_of_others_and_a_restart() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let by_file = model(&lab);
    let ports_of = |server: &str, first: u16| -> Vec<u16> {
        (first..).filter(|&port| server_of(&by_file, port) == server).take(4).collect()
    };
    let handed_over = |lab: &Lab| service(lab, service_id(VIP)).slots_in_handover;

    // The daemon is killed. The next one sends each flow to the same backend.
    let mut downloads = Downloads::start(&lab, &ports_of("rs1", 10_000));
    lab.end_daemon(Signal::SIGKILL);
    lab.restart();
    downloads.assert_running("a restart");
    assert_eq!(downloads.broken(), 0, "a restart");

    let both = [ports_of("rs1", 20_000), ports_of("rs2", 20_000)].concat();
    let mut downloads = Downloads::start(&lab, &both);
    assert_eq!(handed_over(&lab), 0);
    lab.set_weight(VIP, RS1, 7);
    assert!(handed_over(&lab) > 0);
    std::thread::sleep(Duration::from_millis(500));
    lab.set_weight(VIP, RS1, 1);
    lab.set_weight(VIP, RS2, 0);
    std::thread::sleep(Duration::from_millis(500));
    lab.set_weight(VIP, RS2, 1);
    downloads.assert_running("weights to and fro");
    assert_eq!(downloads.broken(), 0, "weights to and fro");

    let mut downloads = Downloads::start(&lab, &ports_of("rs1", 35_000));
    drain(&lab, RS1, None);
    assert_eq!(by_server(&lab.requests(VIP, 40)), BTreeMap::from([("rs2", 40)]), "new flows go elsewhere");
    assert_eq!(backend(&lab, RS1).state, BackendState::Draining);
    // The client of a download sends some packets every second.
    wait_for("the worker has met the downloads", || backend(&lab, RS1).active_flows >= 4);
    downloads.assert_running("the drain of their own backend");
    assert_eq!(downloads.broken(), 0, "the drain of their own backend");
    lab.ask(Request::BackendEnable(named(RS1)));

    let mut downloads = Downloads::start(&lab, &ports_of("rs1", 40_000));
    lab.remove_backend(VIP, RS2);
    downloads.assert_running("the removal of another backend");
    assert_eq!(downloads.broken(), 0, "the removal of another backend");

    // A drain with a deadline: flows that are not done by then leave the backend, and break.
    add(&lab, RS2);
    wait_for("the other backend takes part again", || backend(&lab, RS2).share > 0.4);
    let downloads = Downloads::start(&lab, &ports_of("rs1", 50_000));
    drain(&lab, RS1, Some(1));
    wait_for("the drain is over", || backend(&lab, RS1).state == BackendState::Drained);
    assert_eq!(downloads.broken(), 4, "the flows that were left have gone to a backend that does not know them");
}

/// Connections from one namespace that stay open, with a request on each from time to time.
struct Connections {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(usize, usize), String>>,
}

/// An HTTP connection to the VIP, and the server of its first answer.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    pub(crate) server: String,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = Connection { stream: BufReader::new(stream), server: String::new() };
        connection.server = connection.ask()?;
        Ok(connection)
    }

    /// Sends a request; returns the server that answers.
    pub(crate) fn ask(&mut self) -> std::io::Result<String> {
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).split(' ').next().unwrap_or_default().to_owned())
    }
}

impl Connections {
    /// Opens `count` connections from the client, and sends requests on each of them again and again.
    /// [`finish`](Self::finish) returns how many connections and how many requests there were, or panics with the
    /// error.
    fn open(lab: &Lab, vip: &str, count: usize) -> Connections {
        let address: SocketAddr = format!("{vip}:80").parse().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = lab.inside("client", move || {
            let open = |_| Connection::open(address).map_err(|error| format!("a connection does not open: {error}"));
            let mut connections = (0..count).map(open).collect::<Result<Vec<_>, String>>()?;
            ready.send(()).map_err(|error| error.to_string())?;
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (number, connection) in connections.iter_mut().enumerate() {
                    let server = connection
                        .ask()
                        .map_err(|error| format!("connection {number} of {}: {error}", connection.server))?;
                    if server != connection.server {
                        return Err(format!("connection {number} of {} was answered by {server}", connection.server));
                    }
                    asked += 1;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok((count, asked))
        });
        opened.recv().unwrap_or_default();
        Connections { stop, thread }
    }

    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap_or_else(|problem| panic!("{problem}"))
    }
}

/// Sends `count` TCP segments to the VIP, each from another source address.
fn flood(lab: &Lab, syn: bool, count: u32, salt: u32) {
    let eth = eth().to(lab.mac("director"));
    let frames = (0..count).map(|number| {
        let random = (number ^ salt).wrapping_mul(2_654_435_761);
        let source = Ipv4Addr::from_bits(0x0b00_0000 | random & 0x00ff_ffff).to_string();
        let tcp = eth.ipv4(&source, VIP).tcp(1_024 + u16::try_from(number % 60_000).unwrap(), 80);
        if syn { tcp.syn() } else { tcp.ack() }
    });
    send(lab, "gw", frames.collect());
}

#[test]
fn floods_during_a_hand_over_break_no_connection_and_keep_none_out() {
    const CONNECTIONS: usize = 200;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    // An exception table for a few flows only: the floods could fill it many times. And a hand-over that ends during
    // the test.
    lab.configure_daemon([1, 1], Driver::Auto, "exceptions = 1024\n");
    let text = fs::read_to_string(lab.config()).unwrap();
    fs::write(lab.config(), text.replace("port = 80\n", "port = 80\nidle_timeout = \"8s\"\n")).unwrap();
    lab.restart();
    lab.remove_backend(VIP, RS2);
    let connections = Connections::open(&lab, VIP, CONNECTIONS);
    add(&lab, RS2);
    wait_for("the new backend takes part", || backend(&lab, RS2).share > 0.4);
    let handover = Instant::now();
    for round in 0..3 {
        flood(&lab, true, 6_000, round << 24);
        flood(&lab, false, 6_000, round << 24 | 1 << 23);
        assert_eq!(lab.requests(VIP, 40).len(), 40, "new connections");
    }
    assert!(lab.workers()[0].unremembered_packets > 0, "the floods have filled the table");
    assert!(
        service(&lab, service_id(VIP)).slots_in_handover > 0,
        "the hand-over must last until here: {:?}",
        handover.elapsed()
    );
    wait_for("the hand-over ends", || service(&lab, service_id(VIP)).slots_in_handover == 0);
    flood(&lab, false, 6_000, 77);
    let (opened, asked) = connections.finish();
    assert_eq!(opened, CONNECTIONS);
    assert!(asked > 5 * CONNECTIONS, "{asked}");
    let responses = lab.requests(VIP, 100);
    assert_eq!(by_server(&responses).len(), 2);
}

#[test]
fn a_backend_that_fails_loses_its_flows_and_comes_back_without_breaking_others() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    lab.on("rs2", &["ip", "link", "set", "lan0", "down"]);
    // Backends are confirmed every 20 s, and probed six times before they are given up.
    let begin = Instant::now();
    while backend(&lab, RS2).state != BackendState::Unreachable {
        assert!(begin.elapsed() < Duration::from_secs(40), "it is not given up");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for("its slots go to the other", || backend(&lab, RS2).share == 0.0);
    assert_eq!(by_server(&lab.requests(VIP, 30)), BTreeMap::from([("rs1", 30)]));
    let connections = Connections::open(&lab, VIP, 40);
    lab.on("rs2", &["ip", "link", "set", "lan0", "up"]);
    lab.on("rs2", &["ip", "route", "replace", "default", "via", "192.168.0.1"]);
    wait_for("it is back", || backend(&lab, RS2).share > 0.4);
    wait_for("it gets new flows", || by_server(&lab.requests(VIP, 20)).len() == 2);
    assert_eq!(connections.finish().0, 40, "connections that began in the meantime stay");
}

#[test]
fn schedulers_that_decide_flow_by_flow_keep_their_promise() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([3, 1]);
    let replace = |vip: &str, scheduler| {
        let mut wanted = ServiceAdd { scheduler, ..ServiceAdd::new(service_id(vip), vec![]) };
        for (last, weight) in [(3, 3), (4, 1)] {
            let network = if vip.contains(':') { "fd00::" } else { "192.168.0." };
            let address = format!("{network}{last}").parse().unwrap();
            wanted.backends.push(BackendSpec { weight, ..BackendSpec::new(address) });
        }
        // A packet of a connection that is still closing would be an old flow to the new service.
        wait_for("all connections are closed", || lab.on("client", &["ss", "-Htan", "dport", "=", "80"]).is_empty());
        lab.ask(Request::ServiceRemove(wanted.service));
        lab.ask(Request::ServiceAdd(wanted));
        wait_for("both are reachable", || {
            service(&lab, service_id(vip)).backends.iter().all(|backend| backend.state == BackendState::Up)
        });
    };
    for vip in [VIP, VIP6] {
        replace(vip, Scheduler::Wrr);
        assert_eq!(
            by_server(&lab.requests(vip, 80)),
            BTreeMap::from([("rs1", 60), ("rs2", 20)]),
            "exactly, flow by flow"
        );
        replace(vip, Scheduler::Rr);
        assert_eq!(by_server(&lab.requests(vip, 80)), BTreeMap::from([("rs1", 40), ("rs2", 40)]));
    }
    replace(VIP, Scheduler::Wlc);
    let connections = Connections::open(&lab, VIP, 40);
    let flows: Vec<u64> = service(&lab, service_id(VIP)).backends.iter().map(|backend| backend.active_flows).collect();
    assert_eq!(flows, [30, 10], "connections that stay open, by weight");
    connections.finish();
    replace(VIP, Scheduler::Lc);
    let connections = Connections::open(&lab, VIP, 40);
    let flows: Vec<u64> = service(&lab, service_id(VIP)).backends.iter().map(|backend| backend.active_flows).collect();
    assert_eq!(flows, [20, 20]);
    connections.finish();
}

/// Sends a datagram of each flow from the client to a service; returns how many of them each backend got.
fn datagrams(lab: &Lab, id: ServiceId, flows: std::ops::Range<u16>) -> [u64; 2] {
    let packets = || -> [u64; 2] {
        let backends = service(lab, id).backends;
        [backends[0].packets, backends[1].packets]
    };
    let before = packets();
    let (eth, to) = (eth().from(lab.mac("client")).to(lab.mac("director")), id.port.single().unwrap());
    let frame = |from| match id.vip {
        std::net::IpAddr::V4(vip) => eth.ipv4("192.168.0.10", &vip.to_string()).udp(from, to, b"x"),
        std::net::IpAddr::V6(vip) => eth.ipv6("fd00::10", &vip.to_string()).udp(from, to, b"x"),
    };
    send(lab, "client", flows.clone().map(frame).collect());
    let sent = u64::try_from(flows.len()).unwrap();
    wait_for("the datagrams are forwarded", || packets().iter().sum::<u64>() == before.iter().sum::<u64>() + sent);
    let after = packets();
    [after[0] - before[0], after[1] - before[1]]
}

#[test]
fn a_udp_service_hands_over_for_its_own_time_and_one_without_tracking_not_at_all() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let (mut handed_over, mut at_once) = (Vec::new(), Vec::new());
    for (vip, network) in [(VIP.to_string(), "192.168.0."), (format!("[{VIP6}]"), "fd00::")] {
        let backend = |last| BackendSpec::new(format!("{network}{last}").parse().unwrap());
        let new = |port| ServiceAdd::new(format!("{vip}:{port}/udp").parse().unwrap(), vec![backend(3), backend(4)]);
        let slow = ServiceAdd { handover_time_s: Some(5), ..new(443) };
        let quick = ServiceAdd { tracking: Some(Tracking::None), ..new(53) };
        for (wanted, list) in [(slow, &mut handed_over), (quick, &mut at_once)] {
            list.push((wanted.service, wanted.backends[0].address));
            lab.ask(Request::ServiceAdd(wanted));
        }
    }
    let share = |id: ServiceId| service(&lab, id).backends[0].share;
    let old = 20_000..20_060;
    let mut at_first = BTreeMap::new();
    for &(id, drained) in handed_over.iter().chain(&at_once) {
        at_first.insert(id, datagrams(&lab, id, old.clone())[0]);
        assert!((1..60).contains(&at_first[&id]), "{id}: both backends have flows");
        lab.ask(Request::BackendDrain(BackendDrain { service: id, address: drained, deadline_s: None }));
        // From the change on, while the hand-over lasts.
        let (share, new) = (share(id), datagrams(&lab, id, 21_000..21_060)[0]);
        if at_once.contains(&(id, drained)) {
            assert_eq!((share, new, datagrams(&lab, id, old.clone())[0]), (0.0, 0, 0), "{id}");
        } else {
            assert!(share > 0.4 && (1..60).contains(&new), "{id}: {share} {new}");
            assert_eq!(datagrams(&lab, id, old.clone())[0], at_first[&id], "{id}: old flows stay");
        }
    }
    for (id, _) in handed_over {
        wait_for("the hand-over ends", || service(&lab, id).slots_in_handover == 0);
        assert_eq!((share(id), datagrams(&lab, id, 22_000..22_060)[0]), (0.0, 0), "{id}: new flows go elsewhere");
        assert_eq!(datagrams(&lab, id, old.clone())[0], at_first[&id], "{id}: old flows stay");
    }
}

/// A second port of the director leads to the second server alone. Its link is lost, and comes back.
#[test]
fn behind_a_port_without_a_link_old_flows_wait_and_new_ones_go_elsewhere() {
    const FAR: &str = "10.9.0.4";
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    let (director, server) = (lab.namespace("director"), lab.namespace("rs2"));
    run(&["ip", "link", "add", "lan1", "netns", &director, "type", "veth", "peer", "name", "lan1", "netns", &server]);
    lab.configure("director", "lan1", &[]);
    lab.on("director", &["sysctl", "-qw", "net.ipv6.conf.lan1.disable_ipv6=1"]);
    lab.on("rs2", &["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.lan1.rp_filter=0"]);
    lab.configure("rs2", "lan1", &["10.9.0.4/24", "fd09::4/64"]);
    let port = "[[ports]]\nname = \"lan1\"\ndevice = \"iface:lan1\"\naddresses = [\"10.9.0.2/24\", \"fd09::2/64\"]\n";
    let text = fs::read_to_string(lab.config()).unwrap().replacen("[[services]]", &format!("{port}[[services]]"), 1);
    fs::write(lab.config(), text.replace("192.168.0.4", FAR).replace("fd00::4", "fd09::4")).unwrap();
    lab.restart();
    let far = |lab: &Lab, vip: &str| {
        let backends = service(lab, service_id(vip)).backends;
        backends.into_iter().find(|backend| [FAR, "fd09::4"].contains(&&*backend.address.to_string())).unwrap()
    };
    let (old, old_v6) = (Connections::open(&lab, VIP, 30), Connections::open(&lab, &format!("[{VIP6}]"), 30));
    for vip in [VIP, VIP6] {
        assert_eq!(by_server(&lab.requests(vip, 30)).len(), 2, "both serve {vip}");
    }
    lab.on("director", &["ip", "link", "set", "lan1", "down"]);
    for vip in [VIP, VIP6] {
        wait_for("its share goes to the other", || far(&lab, vip).share == 0.0);
        let cut_off = far(&lab, vip);
        assert!(cut_off.state == BackendState::CutOff && cut_off.mac.is_some(), "{cut_off:?}");
        assert_eq!(by_server(&lab.requests(vip, 30)), BTreeMap::from([("rs1", 30)]));
    }
    lab.on("director", &["ip", "link", "set", "lan1", "up"]);
    for vip in [VIP, VIP6] {
        wait_for("it has its share again", || far(&lab, vip).share > 0.4 && far(&lab, vip).state == BackendState::Up);
        wait_for("it gets new flows", || by_server(&lab.requests(vip, 20)).len() == 2);
    }
    assert_eq!((old.finish().0, old_v6.finish().0), (30, 30), "no connection has moved or broken");
}
