//! Changes while traffic runs, and restarts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ctl::request::{BackendAdd, BackendSpec, Request};
use dataplane::config::Config;
use dataplane::control::model::Model;
use dataplane::count::lease::Leases;
use dataplane::select::maglev;
use dataplane::wire::flow::{Flow, FlowHasher, Transport};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Response, Topology, VIP, by_server, service_id, wait_for};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);

/// The real server of a flow from this client port, computed from the daemon's configuration.
pub(crate) fn server_of(model: &Model, port: u16) -> String {
    let destination = VIP.parse::<Ipv4Addr>().unwrap().to_bits();
    let flow = Flow::V4 { source: CLIENT.to_bits(), destination, transport: Transport::new(port, 80, 6) };
    let service = &model.services[&service_id(VIP)];
    let slot = maglev::slot(FlowHasher::new(&model.hash_key).hash(&flow), service.table.len());
    let backend = &service.backends[service.table[slot].index()];
    if backend.address.to_string() == "192.168.0.3" { "rs1".into() } else { "rs2".into() }
}

pub(crate) fn model(lab: &Lab) -> Model {
    Config::load(&lab.config()).unwrap().full_model(&Leases::new(vec![])).unwrap()
}

/// Sends a request from a given client port. Returns curl's message if it fails.
fn request_from(lab: &Lab, port: u16) -> Result<Response, String> {
    let url = format!("http://{VIP}/");
    let port = port.to_string();
    let command = ["curl", "-sS", "--max-time", "5", "--local-port", &port, "-H", "Connection: close", &url];
    lab.attempt("client", &command).map(|line| Response::parse(line.trim()))
}

#[test]
fn a_killed_and_restarted_daemon_sends_each_flow_to_the_same_backend() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([3, 1]);
    let servers = |lab: &Lab| -> BTreeMap<u16, String> {
        (20_000..20_060)
            .map(|port| (port, request_from(lab, port).unwrap_or_else(|error| panic!("port {port}: {error}")).server))
            .collect()
    };
    let before = servers(&lab);
    // If the last packet of a connection were lost with the daemon, the connection would keep its port for some
    // seconds.
    let open = |lab: &Lab| lab.on("client", &["ss", "-Htan", "dport", "=", "80"]);
    wait_for("all connections are closed", || open(&lab).is_empty());
    assert!(!lab.end_daemon(Signal::SIGKILL).success());
    assert!(request_from(&lab, 20_100).is_err(), "no director forwards now");
    lab.restart();
    let after = servers(&lab);
    assert_eq!(before, after);
    let model = model(&lab);
    assert!(after.iter().all(|(&port, server)| *server == server_of(&model, port)), "as computed from the file");
}

#[test]
fn removing_a_backend_affects_its_own_flows_only() {
    const LOOPS: u16 = 50;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let model = model(&lab);
    let lab = Arc::new(lab);
    let (stop, removed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let done = Arc::new(AtomicU32::new(0));
    let loops: Vec<_> = (0..LOOPS)
        .map(|number| {
            let (lab, stop, removed, done) = (lab.clone(), stop.clone(), removed.clone(), done.clone());
            std::thread::spawn(move || {
                // Each loop has its own ports, so that each flow is known even if it fails.
                let mut outcomes = Vec::new();
                for port in (10_000 + number * 400).. {
                    if stop.load(Ordering::Relaxed) || outcomes.len() == 400 {
                        break;
                    }
                    let after = removed.load(Ordering::SeqCst);
                    outcomes.push((port, after, request_from(&lab, port)));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                outcomes
            })
        })
        .collect();
    let until = |count: u32| {
        while done.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until(500);
    lab.remove_backend(VIP, "192.168.0.4");
    removed.store(true, Ordering::SeqCst);
    until(done.load(Ordering::Relaxed) + 500);
    stop.store(true, Ordering::Relaxed);
    let outcomes: Vec<_> = loops.into_iter().flat_map(|thread| thread.join().unwrap()).collect();

    let before = outcomes.iter().filter(|(_, after, _)| !after);
    for (port, _, response) in before {
        let belongs = server_of(&model, *port);
        match response {
            // It began before the removal. If its SYN came after the removal, it is at the backend that is left.
            Ok(response) => assert!(response.server == belongs || response.server == "rs1", "{port}: {response:?}"),
            Err(error) => {
                assert_eq!(
                    belongs, "rs2",
                    "the flow from port {port} broke ({error}), although its backend was not removed"
                )
            }
        }
    }
    let after: Vec<_> = outcomes.iter().filter(|(_, after, _)| *after).collect();
    assert!(after.len() >= 400, "{}", after.len());
    for (port, _, response) in after {
        assert_eq!(response.as_ref().map(|r| r.server.as_str()), Ok("rs1"), "port {port}, after the removal");
    }
}

#[test]
fn backends_come_and_go_without_losing_a_request() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    let lab = Arc::new(lab);
    let client = {
        let lab = lab.clone();
        std::thread::spawn(move || lab.requests(VIP, 3_000))
    };
    // rs2 has no share: its changes move no flows of rs1. Nor does a backend that does not exist get any flows.
    let spec = |address: &str, weight| BackendSpec { weight, ..BackendSpec::new(address.parse().unwrap()) };
    let add = |backend| lab.ask(Request::BackendAdd(BackendAdd { service: service_id(VIP), backend }));
    lab.remove_backend(VIP, "192.168.0.4");
    let mut changes = 0;
    while !client.is_finished() {
        add(spec("192.168.0.4", 0));
        add(spec("192.168.0.77", 1));
        lab.remove_backend(VIP, "192.168.0.4");
        lab.remove_backend(VIP, "192.168.0.77");
        changes += 4;
    }
    let responses = client.join().unwrap();
    assert_eq!(by_server(&responses)["rs1"], 3_000);
    assert!(changes > 20, "{changes}");
    assert_eq!(lab.counted("backend_mac_unknown"), 0);
    // A backend that exists takes part as soon as it is resolved.
    add(spec("192.168.0.4", 1));
    wait_for("the new backend takes part", || by_server(&lab.requests(VIP, 50)).len() == 2);
    assert_eq!(lab.counted("backend_mac_unknown"), 0);
}

#[test]
fn the_daemon_stops_cleanly_and_starts_again() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    for (times, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGINT)] {
        let status = lab.end_daemon(signal);
        assert!(status.success(), "{status}");
        assert!(!lab.socket().exists(), "the socket is removed");
        assert_eq!(lab.logged().matches(" INFO stopped").count(), times, "it logs its end when all is closed");
        let link = lab.on("director", &["ip", "link", "show", "lan0"]);
        assert!(!link.contains("PROMISC") && !link.contains("xdp"), "the interface is as before: {link}");
        lab.restart();
        assert_eq!(lab.requests(VIP, 10).len(), 10);
    }
    assert!(!lab.logged().contains("panic"));
}
