//! A server with hundreds of services fails, or the daemon is stopped.

use std::net::IpAddr;
use std::time::Duration;

use ctl::CheckType;
use ctl::answer::{Answer, NeighborState};
use ctl::request::{BackendSpec, CheckSpec, Request, ServiceAdd};
use dataplane::testing::frame::eth;
use nix::sys::signal::Signal;

use crate::lab::{Lab, Topology, VIP, VIP6, wait_for};
use crate::wire::send;

const SERVICES: u16 = 300;
const FIRST_PORT: u16 = 1_000;
const FAILS: &str = "192.168.0.3";
const STAYS: &str = "192.168.0.4";

/// The packets of a backend over all these services, and its share of each.
fn of_backend(lab: &Lab, address: &str) -> (u64, Vec<f64>) {
    let Answer::Services(services) = lab.ask(Request::ServiceList) else { panic!("no services") };
    let address: IpAddr = address.parse().unwrap();
    let ours = services.iter().filter(|service| service.id.port.single().is_some_and(|port| port >= FIRST_PORT));
    let backends = ours.flat_map(|service| &service.backends).filter(|backend| backend.address == address);
    let (packets, shares): (Vec<u64>, Vec<f64>) = backends.map(|backend| (backend.packets, backend.share)).unzip();
    assert_eq!(shares.len(), usize::from(SERVICES));
    (packets.iter().sum(), shares)
}

#[test]
fn a_server_of_many_services_that_fails_gets_no_packets_and_the_others_take_its_flows() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    for number in 0..SERVICES {
        let spec = |address: &str, weight| BackendSpec { weight, ..BackendSpec::new(address.parse().unwrap()) };
        // Each service has other weights, so that each has a table of its own.
        let backends = vec![spec(FAILS, 500 + u32::from(number)), spec(STAYS, 499)];
        let service = format!("{VIP}:{}", FIRST_PORT + number).parse().unwrap();
        // Nobody listens on these ports.
        let checks = Some(vec![CheckSpec::new(CheckType::Arp)]);
        lab.ask(Request::ServiceAdd(ServiceAdd { checks, ..ServiceAdd::new(service, backends) }));
    }
    let (director, client) = (lab.mac("director"), lab.mac("client"));
    let mut source = 20_000;
    let mut flows_to_all = |lab: &Lab| {
        source += 1;
        let to = |port| eth().from(client).to(director).ipv4("192.168.0.10", VIP).tcp(source, FIRST_PORT + port).syn();
        send(lab, "client", (0..SERVICES).map(to).collect());
    };
    let forwarded = |lab: &Lab| of_backend(lab, FAILS).0 + of_backend(lab, STAYS).0;
    flows_to_all(&lab);
    wait_for("all of the first flows are forwarded", || forwarded(&lab) == u64::from(SERVICES));
    assert!(of_backend(&lab, FAILS).0 > 0, "it has its share");

    let generation = lab.status().generation;
    lab.on("rs1", &["ip", "link", "set", "lan0", "down"]);
    let failed = |lab: &Lab| {
        let neighbors = lab.neighbors();
        neighbors
            .iter()
            .any(|neighbor| neighbor.address.to_string() == FAILS && neighbor.state == NeighborState::Failed)
    };
    // Confirmed for 20 s, then probed for 6 s: longer than the time of `wait_for`.
    let begin = std::time::Instant::now();
    while !failed(&lab) {
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "it is not given up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The promise is 50 ms.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(lab.workers().iter().all(|worker| worker.generation > generation), "the workers know");

    // Whether the new tables are there or not, it gets no more packets, and no packet is lost.
    let (before, others_before) = (of_backend(&lab, FAILS).0, of_backend(&lab, STAYS).0);
    for round in 1..=5 {
        flows_to_all(&lab);
        let expected = others_before + round * u64::from(SERVICES);
        wait_for("the other server has all flows", || of_backend(&lab, STAYS).0 == expected);
    }
    assert_eq!(of_backend(&lab, FAILS).0, before);
    let printed = lab.on("client", &["arping", "-c", "3", "-w", "5", "-I", "lan0", VIP]);
    assert!(printed.contains("Received 3 response(s)"), "ARP is answered meanwhile: {printed}");

    wait_for("the tables follow", || of_backend(&lab, FAILS).1.iter().all(|share| *share == 0.0));
    // It comes back, and has its share again.
    lab.on("rs1", &["ip", "link", "set", "lan0", "up"]);
    wait_for("it is back in all tables", || of_backend(&lab, FAILS).1.iter().all(|share| *share > 0.4));
    assert_eq!(of_backend(&lab, FAILS).0, before, "no packets were sent since");
    for _ in 0..3 {
        flows_to_all(&lab);
    }
    wait_for("it has flows again", || of_backend(&lab, FAILS).0 > before);
}

/// A process that is stopped (SIGSTOP, a debugger, a frozen guest) sends no probes and hears no answers. That is no backend's
/// fault.
#[test]
fn a_daemon_that_was_stopped_goes_on_and_blames_no_backend() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    assert_eq!(lab.requests(VIP, 10).len(), 10);
    let pid = lab.daemon_pid();
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    // Requests are served at once.
    assert_eq!(lab.requests(VIP, 20).len() + lab.requests(VIP6, 20).len(), 40);
    assert_eq!(lab.events("backend-unreachable"), []);
    assert!(lab.neighbors().iter().all(|neighbor| neighbor.state == NeighborState::Reachable));
    // It ends as always.
    assert!(lab.end_daemon(Signal::SIGTERM).success());
}
