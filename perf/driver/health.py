"""perf/health: what health checks cost shuntd's slow path, and how fast it answers ARP meanwhile. See --help and perf/README.md."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

import machine
import report
import shunt
from threads import RunError, Thread, end, last_lines, tail, until

ROOT = Path(__file__).resolve().parents[2]

VIP = IPv4Address("10.20.255.1")
DIRECTOR = IPv4Address("10.20.255.2")
ASKER = IPv4Address("10.20.255.3")
FIRST = IPv4Address("10.20.0.1")
HOSTS = 8
# Asks by ARP, from a host's network namespace.
ASKING = Path(__file__).with_name("asking.py")

DESCRIPTION = """\
Real servers in network namespaces (nginx, with the VIP on lo; each has many addresses, which are the backends), and shuntd on AF_XDP or
AF_PACKET, which checks each backend once a second. Measured, case by case: the CPU time of the slow path's thread, what the probes have found, and
the time from an ARP request for the VIP to its answer. No NIC, no hugepages. Installs what is missing, and builds. Needs root and two cores.
How to read the figures: perf/README.md."""


@dataclass(frozen=True)
class Case:
    """Checks of one type, of so many backends."""

    check: str
    backends: int

    @property
    def name(self):
        return f"{self.check}-{self.backends}"


# The first one is what the others are compared with: nobody is checked, but the backends' MAC addresses are kept.
CASES = [Case("none", 2_000), Case("tcp", 100), Case("tcp", 1_000), Case("tcp", 2_000), Case("http", 500)]


@dataclass(frozen=True)
class Measured:
    """What one run has shown. `cpu` is a share of one core; ARP times are in µs."""

    cpu: float
    probes_per_s: float
    failed: int
    void: int
    arp_p50_us: float
    arp_p99_us: float
    arp_lost: int


def arguments():
    parser = argparse.ArgumentParser(
        prog="perf/health", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", metavar="LIST", help=f"of {', '.join(case.name for case in CASES)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each case, in turns; default 3")
    parser.add_argument("--seconds", type=float, default=20, metavar="N", help="of each run; default 20")
    parser.add_argument("--driver", choices=("auto", "af_xdp", "af_packet"), default="auto", help="of the port; default auto")
    parser.add_argument("--json", type=report.output, metavar="FILE", help="write all, with every single run")
    parser.add_argument("--no-build", action="store_true", help="install and build nothing")
    parser.add_argument(
        "--dev", action="store_true", help="with --no-build: take the development build; tries the command, its figures mean nothing"
    )
    given = parser.parse_args()
    if given.dev and not given.no_build:
        parser.error("--dev takes what has been built: add --no-build")
    if not 1 <= given.rounds <= 100 or not 1 <= given.seconds <= 600:
        parser.error("--rounds is 1 to 100, --seconds 1 to 600")
    known = {case.name: case for case in CASES}
    names = given.cases.split(",") if given.cases else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"there is no case {unknown[0]}: {', '.join(known)}")
    given.cases = [known[name] for name in names]
    return given


def do(*command, **more):
    """Runs a command that has to work."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RunError(f"{' '.join(map(str, command))}:\n{tail(done.stderr)}")
    return done.stdout


class Network:
    """A switch, the real servers, the director's host and one that asks, removed at the end."""

    def __init__(self, folder, backends):
        self.prefix = f"shunt-perf-{os.getpid()}"
        self.folder = folder
        self.backends = [FIRST + number for number in range(backends)]
        self.stack = ExitStack()

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def build(self):
        self.host("switch")
        self.on("switch", "ip", "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        self.on("switch", "ip", "link", "set", "br0", "up")
        self.plug("director")
        self.plug("asker", [ASKER])
        for number in range(HOSTS):
            host = f"rs{number}"
            self.plug(host, self.backends[number::HOSTS])
            for name in ("all.arp_ignore=1", "all.arp_announce=2"):
                self.on(host, "sysctl", "-qw", f"net.ipv4.conf.{name}")
            self.on(host, "ip", "address", "add", f"{VIP}/32", "dev", "lo")
            self.nginx(host)

    def host(self, name):
        namespace = f"{self.prefix}-{name}"
        do("ip", "netns", "add", namespace)
        self.stack.callback(do, "ip", "netns", "delete", namespace)
        self.on(name, "ip", "link", "set", "lo", "up")

    def plug(self, host, addresses=()):
        self.host(host)
        ends = [f"{self.prefix}-{name}" for name in (host, "switch")]
        do("ip", "link", "add", "eth0", "netns", ends[0], "type", "veth", "peer", "name", host, "netns", ends[1])
        self.on("switch", "ip", "link", "set", host, "master", "br0", "up")
        for name in (f"{name}.disable_ipv6=1" for name in ("all", "eth0")):
            self.on(host, "sysctl", "-qw", f"net.ipv6.conf.{name}")
        self.on(host, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        batch = "".join(f"address add {address}/16 dev eth0\n" for address in addresses)
        self.on(host, "ip", "-batch", "-", text_in=batch)
        self.on(host, "ip", "link", "set", "eth0", "up")

    def nginx(self, host):
        path = self.folder / host
        path.mkdir()
        (path / "nginx.conf").write_text(
            f"daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error.log;\n"
            "events { worker_connections 8192; }\n"
            f"http {{ access_log off; client_body_temp_path {path}/1; proxy_temp_path {path}/2; fastcgi_temp_path {path}/3;\n"
            f"uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;\n"
            f'server {{ listen {VIP}:80 backlog=4096; location / {{ default_type text/plain; return 200 "well\\n"; }} }} }}\n'
        )
        # A server that shares a core with the slow path is no part of what is measured.
        command = ["nice", "-n", "19", "ip", "netns", "exec", f"{self.prefix}-{host}"]
        command += ["nginx", "-c", path / "nginx.conf", "-e", path / "error.log"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.stack.callback(end, server)
        until(lambda: self.on(host, "ss", "-Hltn", "sport", "=", "80"), 10, f"nginx of {host}")

    def on(self, host, *command, text_in=None):
        return do("ip", "netns", "exec", f"{self.prefix}-{host}", *command, input=text_in)


def configuration(case, driver, backends, socket_path):
    lines = "".join(f'  {{ address = "{address}" }},\n' for address in backends[: case.backends])
    check = "none" if case.check == "none" else f"{case.check} interval=1s"
    return f"""[director]
workers = [1]
slow_path = 0
socket = "{socket_path}"
hugepages = "off"

[[ports]]
name = "lan0"
device = "iface:eth0"
driver = "{driver}"
addresses = ["{DIRECTOR}/16"]

[[services]]
vip = "{VIP}"
port = 80
check = "{check}"
backends = [
{lines}]
"""


class Director(shunt.Shuntd):
    """shuntd on the network's host for it."""

    def __init__(self, network, binary, folder, text):
        super().__init__("ip", folder, text, ["netns", "exec", f"{network.prefix}-director", binary])

    def ask(self, command, arguments=None):
        """An answer of its control socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket_path))
            with connection.makefile("rw") as lines:
                request = {"version": shunt.API_VERSION, "command": command}
                lines.write(json.dumps(request | ({"arguments": arguments} if arguments else {})) + "\n")
                lines.flush()
                answer = json.loads(lines.readline() or "{}")
        if "ok" not in answer:
            raise RunError(f"shuntd does not answer {command}: {answer}")
        return answer["ok"]

    def probes(self):
        """How many probes have passed, failed and counted for nothing so far; and how many backends are up."""
        backends = self.ask("service-show", {"vip": str(VIP), "port": 80})["service"]["backends"]
        checks = [check for backend in backends for check in backend["checks"]]
        up = sum(backend["state"] == "up" for backend in backends)
        return {name: sum(check[name] for check in checks) for name in ("passed", "failed", "void")}, up


def run(network, case, given, folder):
    """One run of one case."""
    text = configuration(case, given.driver, network.backends, folder / "shuntd.sock")
    binary = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / ("debug" if given.dev else "release") / "shuntd"
    with Director(network, binary, folder, text) as director:
        director.ready()
        until(lambda: director.probes()[1] == case.backends, 60, f"{case.backends} backends that are up")
        checks = case.check != "none"
        until(lambda: not checks or director.probes()[0]["passed"] >= 2 * case.backends, 60, "two probes of each backend")
        # The process that was started is `ip`, which has become shuntd.
        thread = until(lambda: Thread.named(director.pid(), "shunt-slow"), 5, "the slow path's thread")
        (before, _), begin = director.probes(), thread.cpu_time()
        asked = json.loads(network.on("asker", sys.executable, "-B", ASKING, VIP, ASKER, given.seconds))
        times, lost = asked["times_s"], asked["lost"]
        used, (after, up) = thread.cpu_time() - begin, director.probes()
        grown = {name: after[name] - before[name] for name in before}
        if up != case.backends:
            raise RunError(f"{case.name}: {case.backends - up} backends are down; shuntd's last words:\n{last_lines(director._log)}")
        if not times:
            raise RunError(f"{case.name}: no answer to ARP")
        seconds = used.wall_ns / 1e9
        in_us = [taken * 1e6 for taken in sorted(times)]
        return Measured(
            cpu=used.used_ns / used.wall_ns,
            probes_per_s=sum(grown.values()) / seconds,
            failed=grown["failed"],
            void=grown["void"],
            arp_p50_us=statistics.median(in_us),
            arp_p99_us=in_us[min(len(in_us) - 1, len(in_us) * 99 // 100)],
            arp_lost=lost,
        )


def spread(values, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(runs):
    """The medians, with the least and the most beside them."""
    lines = [
        "| checks | CPU of the slow path, % of a core | probes a second | µs a probe | failed | void | ARP p50, µs | ARP p99, µs | unanswered |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    # What the slow path does without checks.
    idle = [statistics.median(run.cpu for run in each) for case, each in runs.items() if case.check == "none"]
    for case, each in runs.items():
        per_probe = "–"
        if idle and case.check != "none":
            per_probe = spread([(run.cpu - idle[0]) / run.probes_per_s * 1e6 for run in each], 1)
        lines.append(
            f"| {case.name} | {spread([100 * run.cpu for run in each], 1)} | {spread([run.probes_per_s for run in each], 0)} "
            f"| {per_probe} | {sum(run.failed for run in each)} | {sum(run.void for run in each)} "
            f"| {spread([run.arp_p50_us for run in each], 0)} | {spread([run.arp_p99_us for run in each], 0)} "
            f"| {sum(run.arp_lost for run in each)} |"
        )
    return "\n".join(lines)


def main():
    given = arguments()
    if os.geteuid() != 0:
        sys.exit("health: Must be run as root")
    if (os.cpu_count() or 1) < 2:
        sys.exit("health: Needs two cores: one for the worker, one for the slow path")
    runs = {case: [] for case in given.cases}
    most = max(case.backends for case in given.cases)
    try:
        with tempfile.TemporaryDirectory(prefix="shunt-health-") as folder, Network(Path(folder), most) as network:
            for number in range(given.rounds):
                for case in given.cases:
                    print(f"health: round {number + 1} of {given.rounds}, {case.name}", file=sys.stderr, flush=True)
                    here = Path(folder) / f"{number}-{case.name}"
                    here.mkdir()
                    runs[case].append(run(network, case, given, here))
    except RunError as problem:
        sys.exit(f"health: {problem}")
    print(table(runs))
    if given.json:
        results = {case.name: [asdict(each) for each in all_runs] for case, all_runs in runs.items()}
        facts = machine.facts(ROOT)
        given.json.write_text(json.dumps({"machine": facts, "driver": given.driver, "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
