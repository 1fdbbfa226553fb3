//! Hosts, a switch and a director in network namespaces, removed with the value.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ctl::answer::{Answer, Backend, Drop as Reason, Event, Neighbor, Status, Worker};
use ctl::request::{BackendEdit, BackendName, EventQuery, Request};
use ctl::{Client, ClientError, Mac, ServiceId};
use dataplane::dpdk::Driver;

pub(crate) const VIP: &str = "192.168.0.101";
pub(crate) const VIP6: &str = "fd00::101";
/// The director's own addresses.
pub(crate) const DIRECTOR: &str = "192.168.0.2";
pub(crate) const DIRECTOR6: &str = "fd00::2";
const PREFIX: &str = "shunt-e2e";
const ACCESS_PORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/access_port.c");
pub(crate) const REAL_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/real-server");

/// The network of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// On the director's segment.
    Segment,
    /// Behind a gateway, on a network of its own.
    Gateway,
}

/// A switch with hosts on it. Host names are `client`, `director`, `rs1`, …, `gw`.
pub(crate) struct Lab {
    name: String,
    topology: Topology,
    namespaces: Vec<String>,
    children: Vec<Child>,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
    /// The port of the client's next request.
    next_port: AtomicU16,
    /// A lock: one lab at a time, whatever runs the tests.
    _turn: File,
}

impl Lab {
    /// A lab with the client, the director, two real servers with nginx on both VIPs, and a gateway. `None` if this
    /// machine cannot do that; then it prints the reason.
    pub(crate) fn new(topology: Topology) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let turn = File::create(std::env::temp_dir().join(format!("{PREFIX}.lock"))).unwrap();
        turn.lock().unwrap();
        remove_leftovers();
        static LABS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let mut lab = Lab {
            name,
            topology,
            namespaces: Vec::new(),
            children: Vec::new(),
            folder,
            daemon: None,
            next_port: AtomicU16::new(30_000),
            _turn: turn,
        };
        lab.build();
        Some(lab)
    }

    fn build(&mut self) {
        for host in ["switch", "client", "director", "rs1", "rs2", "gw"] {
            self.host(host);
        }
        self.on("switch", &["ip", "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"]);
        self.on("switch", &["ip", "link", "set", "br0", "up"]);
        self.plug("director", "lan0", &[]);
        self.on("director", &["sysctl", "-qw", "net.ipv6.conf.lan0.disable_ipv6=1"]);
        self.plug("gw", "lan0", &["192.168.0.1/24", "fd00::1/64"]);
        for (server, last) in [("rs1", 3), ("rs2", 4)] {
            self.plug(server, "lan0", &[&format!("192.168.0.{last}/24"), &format!("fd00::{last}/64")]);
            self.real_server(server, &[VIP, VIP6]);
            self.route(server, &["default", "via", "192.168.0.1"]);
            self.route(server, &["default", "via", "fd00::1"]);
            self.nginx(server);
        }
        // A test may use a port again at once, whichever side closed the connection first.
        self.on("client", &["sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0"]);
        match self.topology {
            Topology::Segment => self.plug("client", "lan0", &["192.168.0.10/24", "fd00::10/64"]),
            Topology::Gateway => self.client_behind_gateway(),
        }
    }

    /// Adds a host that has no interface yet.
    pub(crate) fn host(&mut self, host: &str) {
        let namespace = self.namespace(host);
        run(&["ip", "netns", "add", &namespace]);
        self.namespaces.push(namespace);
        self.on(host, &["ip", "link", "set", "lo", "up"]);
    }

    /// Connects an interface of a host with another host's lan0.
    pub(crate) fn connect(&self, (host, interface): (&str, &str), other: &str) {
        let (host, other) = (self.namespace(host), self.namespace(other));
        run(&["ip", "link", "add", interface, "netns", &host, "type", "veth", "peer", "name", "lan0", "netns", &other]);
    }

    fn client_behind_gateway(&mut self) {
        self.connect(("gw", "wan0"), "client");
        self.configure("gw", "wan0", &["10.0.0.1/24", "fd01::1/64"]);
        self.configure("client", "lan0", &["10.0.0.10/24", "fd01::10/64"]);
        self.route("client", &["default", "via", "10.0.0.1"]);
        self.route("client", &["default", "via", "fd01::1"]);
        // Requests go through the gateway to the director, replies come from the real servers.
        for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.all.rp_filter=0"] {
            self.on("gw", &["sysctl", "-qw", &format!("net.{setting}")]);
        }
    }

    /// Plugs a host's interface into the switch. The switch's port has the host's name; for an interface other than
    /// lan0, it is `host-interface`.
    pub(crate) fn plug(&mut self, host: &str, interface: &str, addresses: &[&str]) {
        let (switch, namespace) = (self.namespace("switch"), self.namespace(host));
        let port = if interface == "lan0" { host.into() } else { format!("{host}-{interface}") };
        run(&[
            "ip", "link", "add", interface, "netns", &namespace, "type", "veth", "peer", "name", &port, "netns",
            &switch,
        ]);
        self.on("switch", &["ip", "link", "set", &port, "master", "br0", "up"]);
        self.configure(host, interface, addresses);
    }

    /// Makes a port of the switch an access port of a VLAN. `vlan` is the VLAN's id, or two ids with a point between
    /// (QinQ). Frames from the host get this priority.
    pub(crate) fn access_port(&self, port: &str, vlan: &str, priority: u8) {
        let object = self.folder.path().join(format!("{port}.o"));
        let object = object.to_str().unwrap();
        let (outer, inner) = vlan.split_once('.').map_or((vlan, None), |(outer, inner)| (outer, Some(inner)));
        let mut defines = vec![format!("-DOUTER={outer}"), format!("-DPRIORITY={priority}")];
        defines.extend(inner.map(|inner| format!("-DINNER={inner}")));
        let mut compile = vec!["clang", "-O2", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu"];
        compile.extend(defines.iter().map(String::as_str));
        run(&[&compile[..], &["-c", ACCESS_PORT, "-o", object]].concat());
        self.on("switch", &["tc", "qdisc", "add", "dev", port, "clsact"]);
        for (direction, section) in [("ingress", "classifier/from_host"), ("egress", "classifier/to_host")] {
            let filter = ["bpf", "direct-action", "object-file", object, "section", section];
            self.on("switch", &[&["tc", "filter", "add", "dev", port, direction], &filter[..]].concat());
        }
    }

    /// Makes the switch write VLAN tags into frames for the director. Otherwise veth passes them beside the frame,
    /// where XDP does not see them.
    pub(crate) fn tags_in_frames(&self) {
        self.on("switch", &["ethtool", "-K", "director", "txvlan", "off", "tx-vlan-stag-hw-insert", "off"]);
    }

    pub(crate) fn configure(&self, host: &str, interface: &str, addresses: &[&str]) {
        // veth leaves checksums to hardware that does not exist, and passes on frames larger than the MTU.
        self.on(host, &["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]);
        for address in addresses {
            let mut command = vec!["ip", "address", "add", address, "dev", interface];
            if address.contains(':') {
                command.push("nodad");
            }
            self.on(host, &command);
        }
        self.on(host, &["ip", "link", "set", interface, "up"]);
    }

    pub(crate) fn route(&self, host: &str, route: &[&str]) {
        let family = if route.iter().any(|word| word.contains(':')) { "-6" } else { "-4" };
        self.on(host, &[&["ip", family, "route", "add"], route].concat());
    }

    /// Makes a host a real server of these VIPs.
    pub(crate) fn real_server(&self, host: &str, vips: &[&str]) {
        self.on(host, &[&[REAL_SERVER, "start", "--interface", "lan0"], vips].concat());
    }

    /// Starts an nginx that answers with its own name and the client's address and port. It serves the files of its
    /// folder under /files/, and under /slow/ at 1 MiB/s.
    pub(crate) fn nginx(&mut self, host: &str) {
        self.nginx_at(host, [VIP, VIP6]);
    }

    /// The same at other addresses than the VIPs.
    pub(crate) fn nginx_at(&mut self, host: &str, [v4, v6]: [&str; 2]) {
        let folder = self.folder.path().join(host);
        fs::create_dir_all(folder.join("files")).unwrap();
        let path = folder.display();
        let configuration = format!(
            "daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error.log;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; client_body_temp_path {path}/1; proxy_temp_path {path}/2;
                 fastcgi_temp_path {path}/3; uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;
                 server {{
                     listen {v4}:80 backlog=4096; listen [{v6}]:80 backlog=4096;
                     location / {{ default_type text/plain; return 200 \"{host} $remote_addr $remote_port\\n\"; }}
                     location /health {{ if (-f {path}/broken) {{ return 503; }} default_type text/plain; return 200 \"all well\n\"; }}
                     location /files/ {{ root {path}; }}
                     location /slow/ {{ alias {path}/files/; limit_rate 1m; }}
                 }}
             }}"
        );
        fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let config = folder.join("nginx.conf");
        let error_log = folder.join("error.log");
        self.spawn(host, &["nginx", "-c", config.to_str().unwrap(), "-e", error_log.to_str().unwrap()]);
        wait_for("nginx listens", || {
            self.try_on(host, &["ss", "-Hltn", "sport", "=", "80"]).is_some_and(|out| out.lines().count() == 2)
        });
    }

    /// The process of a host's nginx.
    pub(crate) fn nginx_pid(&self, host: &str) -> nix::unistd::Pid {
        let text = fs::read_to_string(self.folder.path().join(host).join("pid")).unwrap();
        nix::unistd::Pid::from_raw(text.trim().parse().unwrap())
    }

    /// Ends a host's nginx.
    pub(crate) fn stop_nginx(&self, host: &str) {
        nix::sys::signal::kill(self.nginx_pid(host), nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_for("nginx is gone", || {
            self.try_on(host, &["ss", "-Hltn", "sport", "=", "80"]).is_some_and(|out| out.is_empty())
        });
    }

    /// Gives both services of the configuration more lines.
    pub(crate) fn configure_services(&self, lines: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), text.replace("port = 80\n", &format!("port = 80\n{lines}\n"))).unwrap();
    }

    /// A backend of a VIP's service, as it is listed.
    pub(crate) fn backend(&self, vip: &str, address: &str) -> Backend {
        let Answer::Service(service) = self.ask(Request::ServiceShow(service_id(vip))) else { panic!("no service") };
        let address: IpAddr = address.parse().unwrap();
        service.backends.into_iter().find(|backend| backend.address == address).unwrap()
    }

    /// A folder that is removed with the lab.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// Runs a command on a host; returns what it prints. Fails the test if the command fails.
    pub(crate) fn on(&self, host: &str, command: &[&str]) -> String {
        run(&[&["ip", "netns", "exec", &self.namespace(host)], command].concat())
    }

    /// The same for a command that may fail. The error has its status and its error output.
    pub(crate) fn attempt(&self, host: &str, command: &[&str]) -> Result<String, String> {
        let output = output(&[&["ip", "netns", "exec", &self.namespace(host)], command].concat());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(said(&output.stdout))
        } else {
            Err(format!("{} {}", output.status, said(&output.stderr)))
        }
    }

    /// The same, if the reason of a failure does not matter.
    pub(crate) fn try_on(&self, host: &str, command: &[&str]) -> Option<String> {
        self.attempt(host, command).ok()
    }

    /// Starts a command on a host; it is ended with the lab.
    pub(crate) fn spawn(&mut self, host: &str, command: &[&str]) {
        let child = Command::new("ip").args(["netns", "exec", &self.namespace(host)]).args(command).spawn().unwrap();
        self.children.push(child);
    }

    /// Runs a function in a thread that is on a host.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// The MAC address of a host's interface.
    pub(crate) fn mac(&self, host: &str) -> Mac {
        self.on(host, &["cat", "/sys/class/net/lan0/address"]).trim().parse().unwrap()
    }

    /// Starts the daemon with a service on each VIP, TCP port 80, both real servers with these weights.
    pub(crate) fn start(&mut self, weights: [u32; 2]) {
        self.start_with(weights, Driver::Auto);
    }

    pub(crate) fn start_with(&mut self, weights: [u32; 2], driver: Driver) {
        self.configure_daemon(weights, driver, "");
        self.restart();
    }

    /// Writes the daemon's configuration, with more lines for its `[director]` section.
    pub(crate) fn configure_daemon(&self, weights: [u32; 2], driver: Driver, director: &str) {
        let driver = match driver {
            Driver::Auto => "auto",
            Driver::AfXdp => "af_xdp",
            Driver::AfPacket => "af_packet",
        };
        let [one, two] = weights;
        let service = |vip: &str, network: &str| {
            format!(
                "[[services]]\nvip = \"{vip}\"\nport = 80\nbackends = [\n  {{ address = \"{network}3\", weight = {one} }},\n  \
                 {{ address = \"{network}4\", weight = {two} }},\n]\n"
            )
        };
        let text = format!(
            "[director]\nsocket = \"{}\"\nhugepages = \"off\"\n{director}[[ports]]\nname = \"lan0\"\ndevice = \"iface:lan0\"\n\
             driver = \"{driver}\"\naddresses = [\"{DIRECTOR}/24\", \"{DIRECTOR6}/64\"]\n{}{}",
            self.socket().display(),
            service(VIP, "192.168.0."),
            service(VIP6, "fd00::"),
        );
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("shunt.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("shuntd.sock")
    }

    /// The output of a daemon that cannot start.
    pub(crate) fn daemon_output(&self) -> Output {
        let (namespace, config) = (self.namespace("director"), self.config());
        let shuntd = env!("CARGO_BIN_EXE_shuntd");
        output(&["ip", "netns", "exec", &namespace, shuntd, "--config", config.to_str().unwrap()])
    }

    /// Starts the daemon with the current configuration; returns when it has resolved the real servers.
    pub(crate) fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        self.restart_by(r#"exec "$@""#, log);
    }

    /// The same by a shell's command, in which `"$@"` is the daemon, with this standard error.
    pub(crate) fn restart_by(&mut self, shell: &str, log: impl Into<Stdio>) {
        let mut command = Command::new("ip");
        let shuntd = env!("CARGO_BIN_EXE_shuntd");
        command.args(["netns", "exec", &self.namespace("director"), "sh", "-c", shell, "sh", shuntd, "--config"]);
        let child = command.arg(self.config()).stderr(log).spawn().unwrap();
        self.daemon = Some(child);
        wait_for("the daemon resolves its backends", || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended:\n{}", self.logged());
            self.try_ask(Request::Status).is_ok_and(|answer| match answer {
                Answer::Status(status) => status.backends.total > 0 && status.backends.up == status.backends.total,
                _ => false,
            })
        });
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("shuntd.log")
    }

    /// The daemon's log.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The daemon's process. `ip netns exec` becomes the program that it runs.
    pub(crate) fn daemon_pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap())
    }

    /// Sends the daemon a signal and waits for its end.
    pub(crate) fn end_daemon(&mut self, signal: nix::sys::signal::Signal) -> std::process::ExitStatus {
        nix::sys::signal::kill(self.daemon_pid(), signal).unwrap();
        self.daemon.take().unwrap().wait().unwrap()
    }

    pub(crate) fn try_ask(&self, request: Request) -> Result<Answer, ClientError> {
        Client::connect(&self.socket())?.ask(request)
    }

    pub(crate) fn ask(&self, request: Request) -> Answer {
        self.try_ask(request).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        match self.ask(Request::Status) {
            Answer::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn workers(&self) -> Vec<Worker> {
        match self.ask(Request::WorkerList) {
            Answer::Workers(workers) => workers,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn neighbors(&self) -> Vec<Neighbor> {
        match self.ask(Request::NeighborList) {
            Answer::Neighbors(neighbors) => neighbors,
            other => panic!("{other:?}"),
        }
    }

    /// The events of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Event> {
        let Answer::Events(events) = self.ask(Request::Events(EventQuery::default())) else { panic!("no events") };
        events.into_iter().filter(|event| event.kind == kind).collect()
    }

    /// How many frames were dropped or punted for a reason.
    pub(crate) fn counted(&self, reason: &str) -> u64 {
        let Answer::Drops(reasons) = self.ask(Request::Drops) else { panic!("not a list of reasons") };
        let found: Option<&Reason> = reasons.iter().find(|counted| counted.reason == reason);
        found.unwrap_or_else(|| panic!("no reason {reason}")).packets
    }

    pub(crate) fn set_weight(&self, vip: &str, backend: &str, weight: u32) {
        let (service, address) = (service_id(vip), backend.parse().unwrap());
        self.ask(Request::BackendEdit(BackendEdit { service, address, weight: Some(weight), mac: None }));
    }

    pub(crate) fn remove_backend(&self, vip: &str, backend: &str) {
        self.ask(Request::BackendRemove(BackendName { service: service_id(vip), address: backend.parse().unwrap() }));
    }

    /// Sends `count` HTTP requests with one curl, each on a connection of its own. Their ports are all different, and
    /// are the same in each run of a test. All requests must be answered. Returns the answers.
    pub(crate) fn requests(&self, vip: &str, count: u16) -> Vec<Response> {
        let first = self.next_port.fetch_add(count, Ordering::Relaxed);
        let url = format!("http://{}/", host_of_url(vip));
        let request = |port| {
            format!(
                "url = \"{url}\"\nlocal-port = {port}\nsilent\nfail\nmax-time = 30\nheader = \"Connection: close\"\n"
            )
        };
        let requests: Vec<String> = (first..first + count).map(request).collect();
        let file = self.folder.path().join(format!("requests-{first}"));
        fs::write(&file, requests.join("next\n")).unwrap();
        let lines = self.on("client", &["curl", "-K", file.to_str().unwrap()]);
        let responses: Vec<Response> = lines.lines().map(Response::parse).collect();
        assert_eq!(responses.len(), usize::from(count), "every request is answered");
        responses
    }
}

pub(crate) fn service_id(vip: &str) -> ServiceId {
    format!("{}:80", host_of_url(vip)).parse().unwrap()
}

fn host_of_url(vip: &str) -> String {
    if vip.contains(':') { format!("[{vip}]") } else { vip.into() }
}

/// An answer of nginx: its own name, and the client that it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) server: String,
    pub(crate) client: IpAddr,
    pub(crate) client_port: u16,
}

impl Response {
    pub(crate) fn parse(line: &str) -> Response {
        let words: Vec<&str> = line.split(' ').collect();
        let [server, client, port] = words[..] else { panic!("not an answer of ours: {line:?}") };
        Response { server: server.into(), client: client.parse().unwrap(), client_port: port.parse().unwrap() }
    }
}

/// How many of the answers each server gave.
pub(crate) fn by_server(responses: &[Response]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for response in responses {
        *counts.entry(response.server.as_str()).or_default() += 1;
    }
    counts
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut log = String::new();
            let _ = File::open(self.log()).and_then(|mut file| file.read_to_string(&mut log));
            eprintln!("--- the daemon's log ---\n{log}---");
        }
        if let Some(daemon) = &mut self.daemon {
            end(daemon);
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for server in ["rs1", "rs2"] {
            // The script keeps in /run what it has changed.
            let _ = self.try_on(server, &[REAL_SERVER, "stop", VIP, VIP6]);
        }
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Lets a daemon clean up after itself. Kills it if it does not end.
fn end(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let begin = Instant::now();
    while matches!(daemon.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

/// Removes the leftovers of a test that was killed: our namespaces without a test process, and the processes in them.
fn remove_leftovers() {
    for namespace in run(&["ip", "netns", "list"]).lines().filter_map(|line| line.split(' ').next()) {
        let Some(pid) = namespace.strip_prefix(&format!("{PREFIX}-")).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        for left in run(&["ip", "netns", "pids", namespace]).lines() {
            let _ = Command::new("kill").args(["-9", left]).status();
        }
        run(&["ip", "netns", "delete", namespace]);
    }
}

fn output(command: &[&str]) -> Output {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/install-deps --test installs what is needed"))
}

/// Runs a command; fails the test if it fails.
pub(crate) fn run(command: &[&str]) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Waits until a condition holds, at most 15 s.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(15), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
