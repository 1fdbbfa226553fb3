//! Health checks through the VIP: backends that do not serve are found, named, and get no more requests.

use std::fs;
use std::time::{Duration, Instant};

use ctl::answer::{Answer, Backend, BackendState, Doctor};
use ctl::request::{DoctorQuery, Request};
use dataplane::dpdk::Driver;
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, REAL_SERVER, Topology, VIP, VIP6, by_server, wait_for};

const BACKENDS: [(&str, [&str; 2]); 2] = [(VIP, ["192.168.0.3", "192.168.0.4"]), (VIP6, ["fd00::3", "fd00::4"])];

/// Waits until rs1 is in this state for both VIPs. Returns what its first check has found, by VIP.
fn wait_for_state(lab: &Lab, state: BackendState) -> Vec<Backend> {
    let now = || BACKENDS.map(|(vip, [one, _])| lab.backend(vip, one));
    let begin = Instant::now();
    loop {
        let backends = now();
        if backends.iter().all(|backend| backend.state == state) {
            return backends.into();
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "rs1 is not {state:?}: {backends:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `shuntctl doctor` names these faults, and no others.
fn wait_for_faults(lab: &Lab, expected: &[(&str, &str)]) {
    let begin = Instant::now();
    loop {
        let Answer::Doctor(Doctor { mut faults, .. }) = lab.ask(Request::Doctor(DoctorQuery::default())) else {
            panic!("no diagnosis")
        };
        faults.sort_by_key(|fault| fault.backend);
        let named: Vec<(String, String)> = faults
            .iter()
            .map(|fault| (fault.fault.clone(), fault.backend.map(|address| address.to_string()).unwrap_or_default()))
            .collect();
        let same = named.iter().map(|(fault, backend)| (fault.as_str(), backend.as_str())).eq(expected.iter().copied());
        if same {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(6), "{faults:#?}");
    }
}

/// All requests go to these servers.
fn served_by(lab: &Lab, servers: &[&str]) {
    for (vip, _) in BACKENDS {
        let responses = lab.requests(vip, 40);
        assert_eq!(by_server(&responses).into_keys().collect::<Vec<_>>(), servers, "{vip}");
    }
}

/// Something happens to rs1. It is down within `fall` probes, with these words, and gets no request; and it is back by itself when
/// that is over.
fn goes_and_comes_back(lab: &mut Lab, [fault, words]: [&str; 2], harm: impl Fn(&mut Lab), mend: impl Fn(&mut Lab)) {
    wait_for_state(lab, BackendState::Up);
    let before = (lab.events("backend-down").len(), lab.events("backend-up").len());
    harm(lab);
    let harmed = Instant::now();
    let backends = wait_for_state(lab, BackendState::Down);
    // Three failed probes, of which the last one may wait for its answer for a second; the machine may be busy.
    assert!(harmed.elapsed() < Duration::from_secs(8), "{:?}", harmed.elapsed());
    for backend in &backends {
        let check = &backend.checks[0];
        assert!(check.words.contains(words) && check.up == Some(false) && check.failed >= 3, "{check:?}");
        assert_eq!(backend.share, 0.0);
    }
    wait_for_faults(lab, &[(fault, "192.168.0.3"), (fault, "fd00::3")]);
    assert!(lab.events(fault).len() >= 2, "{:?}", lab.events(fault));
    served_by(lab, &["rs2"]);
    let events = lab.events("backend-down");
    assert_eq!(events.len(), before.0 + 2, "{events:?}");
    assert!(events.iter().skip(before.0).all(|event| event.message.contains(words)), "{events:?}");
    mend(lab);
    wait_for_state(lab, BackendState::Up);
    assert_eq!(lab.events("backend-up").len(), before.1 + 2);
    wait_for_faults(lab, &[]);
    served_by(lab, &["rs1", "rs2"]);
}

#[test]
fn by_tcp_a_stopped_service_and_a_missing_vip_are_found() {
    for driver in [Driver::AfXdp, Driver::AfPacket] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        lab.start_with([1, 1], driver);
        goes_and_comes_back(
            &mut lab,
            ["service-closed", "connection refused"],
            |lab| lab.stop_nginx("rs1"),
            |lab| lab.nginx("rs1"),
        );
        let vip = |lab: &Lab, verb: &str| {
            let also: &[&str] = if verb == "start" { &["--interface", "lan0"] } else { &[] };
            lab.on("rs1", &[&[REAL_SERVER, verb], also, &[VIP, VIP6]].concat());
        };
        goes_and_comes_back(
            &mut lab,
            ["vip-missing", "no answer in 1s"],
            |lab| vip(lab, "stop"),
            |lab| vip(lab, "start"),
        );
        goes_and_comes_back(
            &mut lab,
            ["not-on-vip", "connection refused"],
            |lab| {
                lab.stop_nginx("rs1");
                lab.nginx_at("rs1", ["192.168.0.3", "fd00::3"]);
            },
            |lab| {
                lab.stop_nginx("rs1");
                lab.nginx("rs1");
            },
        );
        // Checks leave nothing behind on the backend.
        let left = lab.on("rs2", &["ss", "-Htan", "state", "all", "sport", "=", ":80"]);
        let left: Vec<&str> =
            left.lines().filter(|line| line.contains("192.168.0.2:") || line.contains("fd00::2")).collect();
        assert!(left.len() <= 2, "{left:?}");
    }
}

#[test]
fn by_http_a_wrong_answer_and_a_frozen_server_are_found() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    lab.configure_services("check = { type = \"http\", path = \"/health\", body = \"all w.ll\" }");
    lab.restart();
    let broken = lab.folder().join("rs1/broken");
    goes_and_comes_back(
        &mut lab,
        ["wrong-answer", "HTTP 503"],
        |_| fs::write(&broken, "").unwrap(),
        |_| fs::remove_file(&broken).unwrap(),
    );
    let signal = |lab: &Lab, signal| kill(lab.nginx_pid("rs1"), signal).unwrap();
    goes_and_comes_back(
        &mut lab,
        ["hung", "connected, and no answer"],
        |lab| signal(lab, Signal::SIGSTOP),
        |lab| signal(lab, Signal::SIGCONT),
    );
}

#[test]
fn a_director_that_was_stopped_takes_no_backend_for_down() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    wait_for("all are up by their checks", || {
        BACKENDS
            .iter()
            .all(|(vip, backends)| backends.iter().all(|backend| lab.backend(vip, backend).checks[0].up == Some(true)))
    });
    kill(lab.daemon_pid(), Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(20));
    kill(lab.daemon_pid(), Signal::SIGCONT).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(lab.events("backend-down"), []);
    assert_eq!(lab.events("backend-unreachable"), []);
    served_by(&lab, &["rs1", "rs2"]);
}

#[test]
fn checks_that_would_leave_too_few_are_not_believed() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    // The check asks a port where nobody listens.
    lab.configure_services("check = \"tcp port=81\"\nmin_up = 50");
    lab.restart();
    wait_for("the checks are not believed", || lab.events("checks-not-believed").len() == 2);
    let backends = BACKENDS.map(|(vip, [one, _])| lab.backend(vip, one));
    assert!(backends.iter().all(|backend| backend.state == BackendState::Up && backend.checks[0].up == Some(false)));
    served_by(&lab, &["rs1", "rs2"]);
}
