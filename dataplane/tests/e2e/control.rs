//! The control socket: bad requests, slow clients, too many clients. And the command lines of the two binaries.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ctl::answer::{Answer, Service};
use ctl::request::Request;
use dataplane::dpdk::Driver;
use dataplane::testing::exposition::{self, Family, Flavor};

use crate::lab::{Lab, Topology, VIP, wait_for};

fn connect(lab: &Lab) -> UnixStream {
    let stream = UnixStream::connect(lab.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends raw bytes; returns the line that comes back.
fn raw(lab: &Lab, bytes: &[u8]) -> String {
    let mut stream = connect(lab);
    // The daemon may close the connection before all bytes are sent.
    let _ = stream.write_all(bytes);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

pub(crate) fn shuntctl(lab: &Lab, arguments: &[&str]) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_shuntd")).with_file_name("shuntctl");
    assert!(binary.exists(), "shuntctl is not built: cargo build --workspace");
    Command::new(binary).arg("--socket").arg(lab.socket()).args(arguments).output().unwrap()
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let before = services(&lab);
    let service = format!(r#""service":{{"vip":"{VIP}","port":80}}"#);
    let edit =
        |rest: &str| format!("{{\"version\":1,\"command\":\"backend-edit\",\"arguments\":{{{service},{rest}}}}}\n");
    let add = |rest: &str| {
        format!("{{\"version\":1,\"command\":\"backend-add\",\"arguments\":{{{service},\"backend\":{{{rest}}}}}}}\n")
    };
    for (request, says) in [
        ("GET / HTTP/1.1\n".to_owned(), "not JSON"),
        ("\0\0\0\0\n".into(), "not JSON"),
        ("{}\n".into(), "missing field"),
        (
            "{\"version\":1,\"command\":\"service-show\",\"arguments\":{\"vip\":\"192.168.0.9\",\"port\":80}}\n".into(),
            "no service",
        ),
        (edit(r#""address":"192.168.0.3","weight":65536"#), "out of range"),
        (edit(r#""address":"192.168.0.3","weight":-1"#), "arguments.weight"),
        (edit(r#""address":"192.168.0.9","weight":1"#), "no backend"),
        (add(r#""address":"192.168.0.3""#), "already"),
        (add(r#""address":"192.168.0.5","port":8080"#), "changes no port"),
        (add(r#""address":"10.9.9.9""#), "192.168.0.0/24 (lan0)"),
        (add(r#""address":"192.168.0.5","mac":"ff:ff:ff:ff:ff:ff""#), "single station"),
    ] {
        let answer = raw(&lab, request.as_bytes());
        assert!(answer.contains("\"error\"") && answer.contains(says), "{request}: {answer}");
    }
    let mut line = vec![b'x'; 10 << 20];
    line.push(b'\n');
    assert!(raw(&lab, &line).contains("longer than"), "a line of 10 MB");
    assert_eq!(services(&lab), before);
}

/// The services, without what the checks find, which goes on.
fn services(lab: &Lab) -> Vec<Service> {
    let Answer::Services(mut services) = lab.ask(Request::ServiceList) else { panic!("no services") };
    services.iter_mut().flat_map(|service| &mut service.backends).for_each(|backend| backend.checks.clear());
    services
}

#[test]
fn a_client_that_hangs_does_not_disturb_others() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    // Half a request, and then the client hangs: for the daemon, a socket on which no more bytes come.
    let mut half = connect(&lab);
    half.write_all(b"{\"version\":1,\"comm").unwrap();
    let silent: Vec<UnixStream> = (0..20).map(|_| connect(&lab)).collect();
    let before = lab.workers();
    assert_eq!(lab.requests(VIP, 200).len(), 200);
    let after = lab.workers();
    assert!(after[0].forwarded_packets >= before[0].forwarded_packets + 800, "the worker's counters go on");
    assert!(after[0].turns > before[0].turns);
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("not complete after 10 s"), "{answer}");
    drop(silent);
}

#[test]
fn workers_report_how_long_frames_were_with_them() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let latency = |lab: &Lab| lab.workers()[0].latency.clone().expect("this daemon measures it");
    let before = lab.workers()[0].forwarded_packets;
    lab.requests(VIP, 1_000);
    let forwarded = lab.workers()[0].forwarded_packets - before;
    let measured = latency(&lab);
    for of in [&measured.recent, &measured.since_start] {
        // One burst in 32 is a sample. The number of samples varies with the size of the bursts.
        assert!(of.samples >= forwarded / 32 / 3 && of.samples <= forwarded / 5, "{} of {forwarded}", of.samples);
        let percentiles = of.percentiles.expect("there are samples");
        let [p50, p99, p999, max] = [percentiles.p50_ns, percentiles.p99_ns, percentiles.p999_ns, percentiles.max_ns];
        assert!(p50 <= p99 && p99 <= p999 && p999 <= max, "{percentiles:?}");
        // A worker that shares its core may be delayed for some time, but not for half of the frames.
        assert!((100..10_000_000).contains(&p50) && max < 10_000_000_000, "{percentiles:?}");
        assert!(of.sum_ns >= of.samples * 100 && of.sum_ns <= of.samples * max, "{of:?}");
        assert_eq!(of.buckets.last().expect("buckets").samples, of.samples);
    }
    assert!(measured.recent.seconds <= 70);
    let output = shuntctl(&lab, &["worker", "list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("the last ")).expect("the line of the recent time");
    assert!(line.starts_with("worker 0") && !line.ends_with('-'), "{text}");
    // Pings and ARP are processed by the slow path, and are no samples.
    let samples = latency(&lab).since_start.samples;
    lab.on("client", &["ping", "-c", "200", "-i", "0.002", "-w", "10", "-q", VIP]);
    assert_eq!(latency(&lab).since_start.samples, samples);
}

#[test]
fn metrics_show_the_same_as_shuntctl() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "metrics = \"127.0.0.1:9747\"\n");
    lab.restart();
    lab.requests(VIP, 300);
    let scrape = |accept: &str| {
        let header = format!("Accept: {accept}");
        lab.on("director", &["curl", "-sSf", "--max-time", "10", "-H", &header, "http://127.0.0.1:9747/metrics"])
    };
    let open = exposition::read(&scrape("application/openmetrics-text;version=1.0.0"), Flavor::OpenMetrics).unwrap();
    // As curl asks by itself.
    let page = scrape("*/*");
    let classic = exposition::read(&page, Flavor::Classic).unwrap();
    let names = |families: &[Family]| -> Vec<String> {
        families.iter().flat_map(|family| &family.samples).map(|sample| sample.name.clone()).collect()
    };
    assert_eq!(names(&open), names(&classic));
    let value = |series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{page}")).parse().unwrap()
    };
    let Answer::Service(service) = lab.ask(Request::ServiceShow(format!("{VIP}:80").parse().unwrap())) else {
        panic!()
    };
    for backend in &service.backends {
        let of = |name: &str| value(&format!("{name}{{service=\"{VIP}:80/tcp\",backend=\"{}\"}}", backend.address));
        assert_eq!(of("shunt_backend_packets_total"), backend.packets as f64);
        assert_eq!((of("shunt_backend_up"), of("shunt_backend_weight")), (1.0, 1.0));
    }
    assert_eq!(value(&format!("shunt_service_up{{service=\"{VIP}:80/tcp\"}}")), 1.0);
    let forwarded: u64 = service.backends.iter().map(|backend| backend.packets).sum();
    assert!(forwarded >= 1_200 && value("shunt_forwarded_packets_total{port=\"lan0\"}") >= forwarded as f64);
    let all = value("shunt_worker_latency_seconds_bucket{le=\"+Inf\",worker=\"0\"}");
    assert!(all > 0.0 && all == value("shunt_worker_latency_seconds_count{worker=\"0\"}"));
    assert!(value("shunt_worker_latency_seconds_sum{worker=\"0\"}") > 0.0);
    assert!(
        value("shunt_worker_seconds_total{worker=\"0\"}") >= value("shunt_worker_busy_seconds_total{worker=\"0\"}")
    );
    // What the control side counts.
    assert_eq!(value("shunt_events_total{kind=\"started\",severity=\"info\"}"), 1.0);
    assert!(value("shunt_table_build_seconds_count") >= 1.0 && value("shunt_table_build_seconds_sum") > 0.0);
    assert_eq!(value("shunt_scrapes_total{format=\"openmetrics\"}"), 1.0);
    let shown = |page: &str| {
        let series = "shunt_requests_total{command=\"service-show\",outcome=\"ok\"} ";
        page.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok()).unwrap()
    };
    let before = shown(&page);
    wait_for("a newer page tells of the request", || shown(&scrape("*/*")) > before);
}

#[test]
fn idle_clients_shut_nobody_out() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let clients: Vec<UnixStream> = (0..80).map(|_| connect(&lab)).collect();
    assert_eq!(lab.status().services.total, 2);
    let mut said = String::new();
    BufReader::new(&clients[0]).read_line(&mut said).unwrap();
    assert!(said.contains("it was silent, and others came"), "{said}");
}

#[test]
fn shuntctl_prints_for_people_and_for_programs() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([3, 1]);
    for arguments in [
        &["status"][..],
        &["service", "list"],
        &["service", "show", "192.168.0.101:80"],
        &["neighbor", "list"],
        &["port", "list"],
        &["worker", "list"],
        &["drops"],
        &["drops", "--all", "--worker"],
        &["events"],
    ] {
        let output = shuntctl(&lab, arguments);
        assert!(output.status.success() && output.stdout.len() > 40, "{arguments:?}: {output:?}");
        let output = shuntctl(&lab, &[&["--json"], arguments].concat());
        assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok(), "{arguments:?}: {output:?}");
    }
    let done = |arguments: &[&str]| assert!(shuntctl(&lab, arguments).status.success(), "{arguments:?}");
    done(&["service", "add", "[fd00::102]:53/udp", "--backend", "fd00::3,weight=2"]);
    done(&["backend", "add", "[fd00::102]:53/udp", "fd00::4", "--weight", "5"]);
    done(&["backend", "edit", "[fd00::102]:53/udp", "fd00::4", "--mac", "02:00:00:00:00:44"]);
    let Answer::Service(service) = lab.ask(Request::ServiceShow("[fd00::102]:53/udp".parse().unwrap())) else {
        panic!()
    };
    let backends: Vec<_> = service.backends.iter().map(|b| (b.address.to_string(), b.weight, b.mac_pinned)).collect();
    assert_eq!(backends, [("fd00::3".into(), 2, false), ("fd00::4".into(), 5, true)]);
    done(&["backend", "remove", "[fd00::102]:53/udp", "fd00::4"]);
    done(&["service", "remove", "[fd00::102]:53/udp"]);

    let refused = shuntctl(&lab, &["service", "show", "192.168.0.9:80"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("There is no service 192.168.0.9:80/tcp"));
    assert_eq!(shuntctl(&lab, &["service", "shows"]).status.code(), Some(2));
    let not_running = Command::new(Path::new(env!("CARGO_BIN_EXE_shuntd")).with_file_name("shuntctl"))
        .args(["--socket", "/nonexistent/shuntd.sock", "status"])
        .output()
        .unwrap();
    assert_eq!(not_running.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&not_running.stderr).contains("is it running"));
}

#[test]
fn only_root_and_the_daemons_user_may_change_anything() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    // The socket's mode lets every user connect, and a user who may connect may read.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(lab.socket(), open).unwrap();
    std::fs::set_permissions(lab.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let binary = lab.folder().join("shuntctl");
    std::fs::copy(Path::new(env!("CARGO_BIN_EXE_shuntd")).with_file_name("shuntctl"), &binary).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let setpriv = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        Command::new("setpriv")
            .args(setpriv)
            .arg(&binary)
            .arg("--socket")
            .arg(lab.socket())
            .args(arguments)
            .output()
            .unwrap()
    };
    assert!(as_nobody(&["status"]).status.success());
    let refused = as_nobody(&["service", "remove", "192.168.0.101:80"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Only root"), "{refused:?}");
    let status = lab.status();
    assert_eq!(status.services.total, 2);
    let buffers = status.packet_buffers;
    assert!(buffers.total > 1_000 && buffers.in_use < buffers.total, "{buffers:?}");
}

#[test]
fn shuntd_checks_a_file_without_starting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shunt.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_shuntd")).arg("--check").arg(&file).output().unwrap()
    };
    let good = check(
        "[[ports]]\nname = \"lan0\"\ndevice = \"iface:lan0\"\naddresses = [\"192.168.0.2/24\"]\n[[services]]\n\
         vip = \"192.168.0.101\"\nport = 80\nbackends = [{ address = \"192.168.0.3\" }]\n",
    );
    assert!(good.status.success(), "{good:?}");
    let bad = check("[director]\nworker = [1]\n[[ports]]\nname = \"lan0\"\n");
    assert_eq!(bad.status.code(), Some(1));
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(said.contains("shunt.toml:2: director.worker: Unknown key; did you mean `workers`?"), "{said}");
    assert!(said.contains("shunt.toml:3: ports[0].device: Missing"), "{said}");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let second = Command::new(env!("CARGO_BIN_EXE_shuntd")).arg("--config").arg(lab.config()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("Another shuntd answers"), "{second:?}");
    assert_eq!(lab.requests(VIP, 10).len(), 10, "the first goes on");
}
