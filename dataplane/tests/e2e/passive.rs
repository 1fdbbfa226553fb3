//! Passive health: a backend whose answers do not reach the clients, although its checks are good.

use std::fs;
use std::time::{Duration, Instant};

use ctl::answer::{Answer, BackendState, Doctor, Fault};
use ctl::request::{DoctorQuery, Request};
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6};

/// The clients' networks.
const NETWORKS: u8 = 12;

/// Gives the client an address in each network, and the real servers a route to them. Returns curl's configuration for some requests
/// from all of them to both VIPs.
fn clients(lab: &Lab) -> String {
    let mut requests = Vec::new();
    for network in 1..=NETWORKS {
        let (v4, v6) = (format!("10.9.{network}.1"), format!("fd09:0:{network}::1"));
        lab.on("client", &["ip", "address", "add", &format!("{v4}/32"), "dev", "lan0"]);
        lab.on("client", &["ip", "address", "add", &format!("{v6}/128"), "dev", "lan0", "nodad"]);
        for (vip, address) in [(VIP.to_owned(), v4), (format!("[{VIP6}]"), v6)] {
            let request = format!(
                "url = \"http://{vip}/\"\ninterface = \"{address}\"\nsilent\nfail\nmax-time = 3\noutput = \"/dev/null\"\n"
            );
            requests.extend(std::iter::repeat_n(request, 8));
        }
    }
    for server in ["rs1", "rs2"] {
        route(lab, server, "add");
    }
    let file = lab.folder().join("clients");
    fs::write(&file, requests.join("next\n")).unwrap();
    file.to_str().unwrap().into()
}

/// Adds or deletes a real server's routes to the clients.
fn route(lab: &Lab, server: &str, verb: &str) {
    lab.on(server, &["ip", "route", verb, "10.9.0.0/16", "via", "192.168.0.10"]);
    lab.on(server, &["ip", "-6", "route", verb, "fd09::/16", "via", "fd00::10"]);
}

/// Adds or deletes routes in their place that drop what is for the clients.
fn drop_route(lab: &Lab, server: &str, verb: &str) {
    lab.on(server, &["ip", "route", verb, "blackhole", "10.9.0.0/16"]);
    lab.on(server, &["ip", "-6", "route", verb, "blackhole", "fd09::/16"]);
}

/// The faults of this kind that `shuntctl doctor` names, by backend.
fn one_way(lab: &Lab) -> Vec<Fault> {
    let Answer::Doctor(Doctor { mut faults, .. }) = lab.ask(Request::Doctor(DoctorQuery::default())) else {
        panic!("no diagnosis")
    };
    faults.retain(|fault| fault.fault == "one-way");
    faults.sort_by_key(|fault| fault.backend);
    faults
}

fn wait_long(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_backend_whose_answers_do_not_reach_the_clients_is_found_by_their_packets_and_taken_out() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    // Each worker samples its own part of the handshakes.
    let two = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) > 1;
    let workers = if two { "workers = [0, 1]\nslow_path = 0\n" } else { "" };
    lab.configure_daemon([1, 1], Driver::Auto, workers);
    lab.configure_services("passive = \"remove\"");
    let requests = clients(&lab);
    lab.restart();
    let batch = format!("curl -Z --parallel-max 64 -K {requests}");
    lab.spawn("client", &["sh", "-c", &format!("while :; do {batch}; sleep 0.5; done")]);
    let backends = [(VIP, "192.168.0.3"), (VIP6, "fd00::3")];
    let has_state = |lab: &Lab, state| backends.iter().all(|(vip, one)| lab.backend(vip, one).state == state);
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(one_way(&lab), []);
    // The director's checks are answered, the clients are not.
    route(&lab, "rs1", "del");
    drop_route(&lab, "rs1", "add");
    wait_long("it is found", || one_way(&lab).len() == 2 || has_state(&lab, BackendState::Down));
    wait_long("it is taken out", || has_state(&lab, BackendState::Down));
    let faults = one_way(&lab);
    let named: Vec<String> = faults.iter().map(|fault| fault.backend.unwrap().to_string()).collect();
    assert_eq!(named, ["192.168.0.3", "fd00::3"]);
    assert!(faults.iter().all(|fault| fault.text.contains("sampled handshakes got no answer")), "{faults:#?}");
    assert_eq!(lab.events("one-way").len(), 2);
    let out = lab.events("backend-down");
    assert!(out.len() == 2 && out.iter().all(|event| event.message.contains("taken out for 30s")), "{out:#?}");
    // All others are served, by the other.
    lab.on("client", &["curl", "-Z", "--fail-early", "-K", &requests]);
    drop_route(&lab, "rs1", "del");
    route(&lab, "rs1", "add");
    wait_long("it is tried again", || has_state(&lab, BackendState::Up));
    wait_long("all is well", || one_way(&lab).is_empty());
    assert_eq!((lab.events("fault-ended").len(), lab.events("backend-down").len()), (2, 2));
}
