//! Backends that return: their share grows step by step, and those that come and go too often stay out for a while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctl::answer::{Backend, BackendState};
use ctl::request::{BackendName, Request};
use dataplane::dpdk::Driver;

use crate::handover::Connection;
use crate::lab::{Lab, Topology, VIP, VIP6, by_server, service_id, wait_for};

/// The backend that goes and returns, by IPv4 and IPv6.
const RETURNS: [(&str, &str); 2] = [(VIP, "192.168.0.3"), (VIP6, "fd00::3")];

fn both(lab: &Lab) -> [Backend; 2] {
    RETURNS.map(|(vip, address)| lab.backend(vip, address))
}

fn wait_for_state(lab: &Lab, state: BackendState) {
    wait_for(&format!("rs1 is {state:?}"), || both(lab).iter().all(|backend| backend.state == state));
}

/// The VIPs go from rs1's loopback, or come back.
fn vips(lab: &Lab, verb: &str) {
    lab.on("rs1", &["ip", "address", verb, &format!("{VIP}/32"), "dev", "lo"]);
    lab.on("rs1", &["ip", "address", verb, &format!("{VIP6}/128"), "dev", "lo", "nodad"]);
}

/// A service that is checked ten times a second, by two workers where there are two cores.
fn start(services: &str) -> Option<Lab> {
    let mut lab = Lab::new(Topology::Segment)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 2 {
        println!("skipped in part: two workers need two cores");
    }
    let workers = if cores < 2 { "" } else { "workers = [0, 1]\nslow_path = 0\n" };
    lab.configure_daemon([1, 1], Driver::AfPacket, workers);
    lab.configure_services(&format!("check = \"tcp interval=200ms timeout=200ms rise=2 fall=2\"\n{services}"));
    lab.restart();
    wait_for_state(&lab, BackendState::Up);
    Some(lab)
}

#[test]
fn the_share_of_a_backend_that_returns_grows_and_no_connection_breaks() {
    let Some(lab) = start("slow_start = \"6s\"") else { return };
    // A service that is younger than its slow start has none.
    std::thread::sleep(Duration::from_secs(7));
    vips(&lab, "del");
    wait_for_state(&lab, BackendState::Down);
    let open = |count: usize| {
        let vip = |number: usize| SocketAddr::new(RETURNS[number % 2].0.parse().unwrap(), 80);
        lab.inside("client", move || {
            (0..count).map(|number| Connection::open(vip(number)).unwrap()).collect::<Vec<_>>()
        })
    };
    let mut connections = open(60).join().unwrap();
    vips(&lab, "add");
    wait_for_state(&lab, BackendState::Up);
    let begin = Instant::now();
    let mut steps: Vec<[f64; 2]> = Vec::new();
    while both(&lab).iter().any(|backend| backend.slow_start_percent.is_some()) {
        let shares = both(&lab).map(|backend| backend.share);
        if steps.last() != Some(&shares) {
            steps.push(shares);
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "{steps:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(4), "{took:?}: {steps:?}");
    assert!(steps.len() >= 6 && steps[0].iter().all(|share| *share < 0.2), "{steps:?}");
    assert!(steps.is_sorted_by(|before, after| before[0] <= after[0] && before[1] <= after[1]), "{steps:?}");
    assert!(both(&lab).iter().all(|backend| (backend.share - 0.5).abs() < 0.01), "{:?}", both(&lab));
    for connection in &mut connections {
        assert_eq!(connection.ask().unwrap(), "rs2");
    }
    assert_eq!(by_server(&lab.requests(VIP, 60)).len(), 2);
}

#[test]
fn a_backend_that_comes_and_goes_is_held_out_and_let_in_by_hand() {
    let Some(lab) = start("") else { return };
    for times in 1..=4 {
        vips(&lab, "del");
        wait_for_state(&lab, BackendState::Down);
        vips(&lab, "add");
        if times < 4 {
            wait_for_state(&lab, BackendState::Up);
        }
    }
    wait_for("its checks are good", || both(&lab).iter().all(|backend| backend.checks[0].up == Some(true)));
    let held = both(&lab);
    for backend in &held {
        assert_eq!((backend.state, backend.share), (BackendState::Down, 0.0), "{backend:?}");
        assert!(backend.damped_left_s.is_some_and(|left| (15..=30).contains(&left)), "{backend:?}");
    }
    for (vip, _) in RETURNS {
        assert_eq!(by_server(&lab.requests(vip, 40)).into_keys().collect::<Vec<_>>(), ["rs2"]);
    }
    assert_eq!((lab.events("backend-damped").len(), lab.events("backend-released").len()), (2, 0));
    for (vip, address) in RETURNS {
        lab.ask(Request::BackendEnable(BackendName { service: service_id(vip), address: address.parse().unwrap() }));
    }
    wait_for_state(&lab, BackendState::Up);
    for (vip, _) in RETURNS {
        assert_eq!(by_server(&lab.requests(vip, 40)).len(), 2);
    }
}
