//! Health checks through the VIP: backends that do not serve are found, named, and get no more requests.

use std::fs;
use std::time::{Duration, Instant};

use ctl::answer::{Answer, Backend, BackendState, Doctor};
use ctl::request::{DoctorQuery, Request};
use dataplane::dpdk::Driver;
use nix::sys::signal::{Signal, kill};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

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
    // With two workers, either may get the answer to a probe. DPDK's AF_XDP driver cannot give them two queues of a veth.
    let two = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) > 1;
    let workers = if two { "workers = [0, 1]\nslow_path = 0\n" } else { "" };
    for (driver, director) in [(Driver::AfXdp, ""), (Driver::AfPacket, workers)] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        lab.configure_daemon([1, 1], driver, director);
        lab.restart();
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

/// The certificate of `www.example.org` that a CA has signed and that ends so many days from now; and its key.
fn certificate(ca: &CertifiedIssuer<'_, KeyPair>, days: i64) -> [String; 2] {
    let day = Duration::from_secs(86_400);
    let now = date_time_ymd(1970, 1, 1) + std::time::UNIX_EPOCH.elapsed().unwrap();
    let mut params = CertificateParams::new(["www.example.org".to_string()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "www.example.org");
    params.not_before = now - 100 * day;
    let ahead = u32::try_from(days.abs()).unwrap() * day;
    params.not_after = if days < 0 { now - ahead } else { now + ahead };
    let key = KeyPair::generate().unwrap();
    [params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem()]
}

/// Starts an nginx that speaks TLS on both VIPs, in place of the one that did.
fn tls_server(lab: &mut Lab, host: &str, [certificate, key]: &[String; 2]) {
    let folder = lab.folder().join(format!("{host}-tls"));
    let (path, plain) = (folder.display(), lab.folder().join(host));
    fs::create_dir_all(&folder).unwrap();
    let configuration = format!(
        "daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error.log; events {{}}
         http {{
             access_log off; client_body_temp_path {path}/1; proxy_temp_path {path}/2;
             fastcgi_temp_path {path}/3; uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;
             server {{
                 listen {VIP}:443 ssl; listen [{VIP6}]:443 ssl; ssl_certificate {path}/cert; ssl_certificate_key {path}/key;
                 location /health {{ if (-f {}/broken) {{ return 503; }} return 200 \"all well\n\"; }}
             }}
         }}",
        plain.display()
    );
    for (name, text) in [("conf", &configuration), ("cert", certificate), ("key", key)] {
        fs::write(folder.join(name), text).unwrap();
    }
    let conf = folder.join("conf").display().to_string();
    let error_log = folder.join("error.log").display().to_string();
    let command = ["nginx", "-c", &conf, "-e", &error_log];
    let listens = |lab: &Lab, count: usize| {
        lab.try_on(host, &["ss", "-Hltn", "sport", "=", "443"]).is_some_and(|out| out.lines().count() == count)
    };
    if let Some(pid) = tls_server_pid(lab, host) {
        kill(pid, Signal::SIGKILL).unwrap();
        wait_for("nothing listens", || listens(lab, 0));
    }
    lab.spawn(host, &command);
    wait_for("nginx speaks TLS", || listens(lab, 2));
}

/// The process of a host's nginx that speaks TLS.
fn tls_server_pid(lab: &Lab, host: &str) -> Option<nix::unistd::Pid> {
    let text = fs::read_to_string(lab.folder().join(format!("{host}-tls/pid"))).ok()?;
    Some(nix::unistd::Pid::from_raw(text.trim().parse().ok()?))
}

#[test]
fn by_https_a_wrong_answer_a_frozen_server_and_a_server_without_tls_are_found() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    let ca = ca();
    for host in ["rs1", "rs2"] {
        tls_server(&mut lab, host, &certificate(&ca, 90));
    }
    let ca_file = lab.folder().join("ca.pem");
    fs::write(&ca_file, ca.pem()).unwrap();
    for verify in ["off".to_string(), ca_file.display().to_string()] {
        lab.configure_daemon([1, 1], Driver::Auto, "");
        lab.configure_services(&format!(
            "check = {{ type = \"https\", port = 443, path = \"/health\", host = \"www.example.org\", body = \"all w.ll\", verify = \"{verify}\" }}"
        ));
        lab.restart();
        let broken = lab.folder().join("rs1/broken");
        goes_and_comes_back(
            &mut lab,
            ["wrong-answer", "HTTP 503"],
            |_| fs::write(&broken, "").unwrap(),
            |_| fs::remove_file(&broken).unwrap(),
        );
        if verify == "off" {
            assert!(lab.end_daemon(Signal::SIGTERM).success());
        }
    }
    let pid = tls_server_pid(&lab, "rs1").unwrap();
    goes_and_comes_back(
        &mut lab,
        ["hung", "connected, and no answer"],
        |_| kill(pid, Signal::SIGSTOP).unwrap(),
        |_| kill(pid, Signal::SIGCONT).unwrap(),
    );
    // Checks leave nothing behind.
    let left = lab.on("rs2", &["ss", "-Htan", "state", "all", "sport", "=", ":443"]);
    let left = left.lines().filter(|line| line.contains("192.168.0.2:") || line.contains("fd00::2")).count();
    assert!(left <= 2, "{left}");
    // The plain server on port 80.
    assert!(lab.end_daemon(Signal::SIGTERM).success());
    lab.configure_daemon([1, 1], Driver::Auto, "");
    lab.configure_services("check = \"https\"");
    lab.restart();
    let backends = wait_for_state(&lab, BackendState::Down);
    assert!(backends.iter().all(|backend| backend.checks[0].words == "does not speak TLS"), "{backends:#?}");
    // A CA file that is not there is refused, with its place.
    assert!(lab.end_daemon(Signal::SIGTERM).success());
    lab.configure_daemon([1, 1], Driver::Auto, "");
    lab.configure_services("check = { type = \"https\", host = \"a.example\", verify = \"/does/not/exist\" }");
    let (shuntd, config) = (env!("CARGO_BIN_EXE_shuntd"), lab.config());
    let refused = lab.attempt("director", &[shuntd, "--check", config.to_str().unwrap()]).unwrap_err();
    assert!(refused.contains("services[0].check") && refused.contains("/does/not/exist cannot be read"), "{refused}");
}

/// Waits until there are so many events of a kind that are about certificates. They come within 3 s.
fn wait_for_events(lab: &Lab, kind: &str, count: usize) {
    let begin = Instant::now();
    let about = || lab.events(kind).iter().filter(|event| event.fault.as_deref() == Some("certificate")).count();
    // Bound: 3 s.
    while about() < count {
        assert!(begin.elapsed() < Duration::from_secs(3), "{kind}: {:#?}", lab.events(kind));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_expired_certificate_is_found_and_takes_a_backend_out_where_it_is_verified() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    let ca = ca();
    for host in ["rs1", "rs2"] {
        tls_server(&mut lab, host, &certificate(&ca, 90));
    }
    let ca_file = lab.folder().join("ca.pem");
    fs::write(&ca_file, ca.pem()).unwrap();
    let faults = [("certificate", "192.168.0.3"), ("certificate", "fd00::3")];
    let check = |lab: &Lab, more: &str| {
        lab.configure_daemon([1, 1], Driver::Auto, "");
        let (https, host) = ("type = \"https\", port = 443, path = \"/health\"", "host = \"www.example.org\"");
        lab.configure_services(&format!("check = {{ {https}, {host}{more} }}"));
    };
    check(&lab, "");
    lab.restart();
    wait_for_state(&lab, BackendState::Up);
    wait_for_faults(&lab, &[]);
    for (round, (days, words)) in
        [(-3, "certificate expired 3 days ago"), (10, "certificate ends in 9 days")].into_iter().enumerate()
    {
        tls_server(&mut lab, "rs1", &certificate(&ca, days));
        wait_for_events(&lab, "certificate", 2 * round + 2);
        wait_for_faults(&lab, &faults);
        let events = lab.events("certificate");
        assert!(events.iter().skip(2 * round).all(|event| event.message.contains(words)), "{events:#?}");
        // Nothing is verified: clients may not mind.
        wait_for_state(&lab, BackendState::Up);
        served_by(&lab, &["rs1", "rs2"]);
        tls_server(&mut lab, "rs1", &certificate(&ca, 90));
        wait_for_events(&lab, "fault-ended", 2 * round + 2);
        wait_for_faults(&lab, &[]);
    }
    assert!(lab.end_daemon(Signal::SIGTERM).success());
    check(&lab, &format!(", verify = \"{}\"", ca_file.display()));
    lab.restart();
    for (other, days, words) in [
        (&ca, -3, "certificate expired 3 days ago"),
        (&self::ca(), 90, "certificate is signed by nobody that is trusted"),
    ] {
        goes_and_comes_back(
            &mut lab,
            ["certificate", words],
            |lab| tls_server(lab, "rs1", &certificate(other, days)),
            |lab| tls_server(lab, "rs1", &certificate(&ca, 90)),
        );
    }
}

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
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
