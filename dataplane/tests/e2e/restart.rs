//! Backends are restarted one after the other, while clients go on asking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctl::answer::BackendState;
use ctl::request::{BackendDrain, BackendName, FallbackChange, Request, ServiceEdit};

use crate::lab::{Lab, Topology, VIP, VIP6, by_server, service_id, wait_for};

const VIPS: [&str; 2] = [VIP, VIP6];
const HOSTS: [(&str, [&str; 2]); 2] = [("rs1", ["192.168.0.3", "fd00::3"]), ("rs2", ["192.168.0.4", "fd00::4"])];

/// A request: when it began and ended, and the server that answered.
#[derive(Debug)]
struct Asked {
    begin: Instant,
    end: Instant,
    answer: Result<String, String>,
}

/// Clients that ask one request after the other, each on a connection of its own.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Asked>>>,
}

fn ask(vip: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&vip, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(body.split(' ').next().unwrap_or_default().to_owned())
}

impl Clients {
    /// So many clients, half of them of each VIP.
    fn start(lab: &Lab, count: usize) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let (stop, vip) = (stop.clone(), SocketAddr::new(VIPS[number % 2].parse().unwrap(), 80));
            lab.inside("client", move || {
                let mut all = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let answer = ask(vip).map_err(|error| error.to_string());
                    all.push(Asked { begin, end: Instant::now(), answer });
                    std::thread::sleep(Duration::from_millis(100));
                }
                all
            })
        };
        let threads = (0..count).map(client).collect();
        Clients { stop, threads }
    }

    fn finish(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Waits until a host's backends are in this state, for both VIPs.
fn wait_for_state(lab: &Lab, backends: [&str; 2], state: BackendState) {
    wait_for(&format!("{backends:?} {state:?}"), || {
        VIPS.into_iter().zip(backends).all(|(vip, backend)| lab.backend(vip, backend).state == state)
    });
}

fn name(vip: &str, backend: &str) -> BackendName {
    BackendName { service: service_id(vip), address: backend.parse().unwrap() }
}

fn answered_by(asked: &[Asked], server: &str) -> usize {
    asked.iter().filter(|asked| asked.answer.as_deref() == Ok(server)).count()
}

#[test]
fn a_rolling_restart_of_drained_backends_fails_no_request() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    HOSTS.iter().for_each(|(_, backends)| wait_for_state(&lab, *backends, BackendState::Up));
    let clients = Clients::start(&lab, 50);
    let mut phases = vec![(Instant::now(), "all serve".to_string())];
    for (host, backends) in HOSTS {
        // A SYN that is repeated after the change is a new flow, although its first copy went to the drained one: all clients begin at
        // once, and what is lost of that is repeated after a second.
        std::thread::sleep(Duration::from_secs(3));
        phases.push((Instant::now(), format!("{host} is drained")));
        for (vip, backend) in VIPS.into_iter().zip(backends) {
            let BackendName { service, address } = name(vip, backend);
            lab.ask(Request::BackendDrain(BackendDrain { service, address, deadline_s: None }));
        }
        // The director's own probes come all the time. What was on its way to it comes within a second or two.
        let (begin, mut quiet) = (Instant::now(), Instant::now());
        while quiet.elapsed() < Duration::from_secs(2) {
            let open = lab.on(host, &["ss", "-Htn", "state", "established", "sport", "=", ":80"]);
            if open.lines().any(|line| !line.contains("192.168.0.2:") && !line.contains("[fd00::2]:")) {
                quiet = Instant::now();
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "connections do not end: {open}");
            std::thread::sleep(Duration::from_millis(50));
        }
        phases.push((Instant::now(), format!("{host} is stopped")));
        lab.stop_nginx(host);
        wait_for_state(&lab, backends, BackendState::Down);
        phases.push((Instant::now(), format!("{host} is started")));
        lab.nginx(host);
        wait_for_state(&lab, backends, BackendState::Draining);
        phases.push((Instant::now(), format!("{host} is enabled")));
        for (vip, backend) in VIPS.into_iter().zip(backends) {
            lab.ask(Request::BackendEnable(name(vip, backend)));
        }
        wait_for_state(&lab, backends, BackendState::Up);
    }
    std::thread::sleep(Duration::from_secs(1));
    let asked = clients.finish();
    let failed: Vec<&Asked> = asked.iter().filter(|asked| asked.answer.is_err()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?} {phases:?}", failed.len(), asked.len());
    assert!(HOSTS.iter().all(|(host, _)| answered_by(&asked, host) > 200), "{}", asked.len());
}

#[test]
fn without_a_drain_requests_fail_until_the_last_failed_probe_and_no_longer() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    HOSTS.iter().for_each(|(_, backends)| wait_for_state(&lab, *backends, BackendState::Up));
    let clients = Clients::start(&lab, 50);
    std::thread::sleep(Duration::from_secs(1));
    let (host, backends) = HOSTS[0];
    let stopped = Instant::now();
    lab.stop_nginx(host);
    wait_for_state(&lab, backends, BackendState::Down);
    // What was listed as down is so on all workers within 100 ms.
    let down = Instant::now() + Duration::from_millis(100);
    std::thread::sleep(Duration::from_secs(1));
    lab.nginx(host);
    wait_for_state(&lab, backends, BackendState::Up);
    std::thread::sleep(Duration::from_secs(1));
    let asked = clients.finish();
    // Three probes, one a second; the machine may be busy.
    assert!(down - stopped < Duration::from_secs(8), "{:?}", down - stopped);
    let failed = |asked: &&Asked| asked.answer.is_err();
    let late = asked.iter().filter(failed).find(|asked| asked.end < stopped || asked.begin > down);
    assert!(late.is_none(), "{late:?}, {stopped:?} to {down:?}");
    assert!(asked.iter().any(|asked| asked.answer.is_err()), "it was asked while it was stopped");
    let again = asked.iter().filter(|asked| asked.begin > down && asked.answer.as_deref() == Ok(host)).count();
    assert!(again > 50, "it has its share again: {again}");
}

#[test]
fn a_disabled_backend_gets_no_request_and_the_fallback_serves_only_when_no_other_does() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let served_by = |lab: &Lab, servers: &[&str]| {
        for vip in VIPS {
            let responses = lab.requests(vip, 40);
            assert_eq!(by_server(&responses).into_keys().collect::<Vec<_>>(), servers, "{vip}");
        }
    };
    let [(first, ones), (_, twos)] = HOSTS;
    for (vip, backend) in VIPS.into_iter().zip(ones) {
        lab.ask(Request::BackendDisable(name(vip, backend)));
    }
    served_by(&lab, &["rs2"]);
    // It is probed all the same.
    let checks = |lab: &Lab| lab.backend(VIP, ones[0]).checks[0].passed;
    let before = checks(&lab);
    wait_for("more probes", || checks(&lab) > before + 1);
    assert_eq!(lab.backend(VIP, ones[0]).state, BackendState::Disabled);
    for (vip, backend) in VIPS.into_iter().zip(ones) {
        lab.ask(Request::BackendEnable(name(vip, backend)));
    }
    served_by(&lab, &["rs1", "rs2"]);

    for (vip, backend) in VIPS.into_iter().zip(twos) {
        lab.remove_backend(vip, backend);
        let fallback = Some(FallbackChange::Use(backend.parse().unwrap()));
        lab.ask(Request::ServiceEdit(ServiceEdit { fallback, ..ServiceEdit::new(service_id(vip)) }));
    }
    served_by(&lab, &["rs1"]);
    lab.stop_nginx(first);
    wait_for_state(&lab, ones, BackendState::Down);
    served_by(&lab, &["rs2"]);
    wait_for("it is an event", || lab.events("fallback-serves").len() == 2);
    lab.nginx(first);
    wait_for_state(&lab, ones, BackendState::Up);
    served_by(&lab, &["rs1"]);
    wait_for("it is an event", || lab.events("fallback-rests").len() == 2);
}
