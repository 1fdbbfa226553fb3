"""Runs of shuntd."""

import json
import socket
import subprocess
import time

import network
from threads import RunError, Thread, end, environment, last_lines, until

API_VERSION = 1

# Counters and CPU times should be of the same moment, and must be of nearly the same.
QUICK_NS = 1_000_000
SLOW_NS = 10_000_000
TRIES = 20


def weight(services, service, number):
    """A backend's. Of several services, no two have the same weights: they would share one table."""
    if services == 1:
        return 1
    return 100 + (service % 32, service // 32, 0)[min(number, 2)]


def configuration(case, device, memory, socket_path):
    """The daemon's file for a case."""

    def backends(service):
        return ",\n".join(
            f'  {{ address = "{network.backend(number, case.version)}", mac = "{network.backend_mac(number)}", '
            f"weight = {weight(case.services, service, number)} }}"
            for number in range(case.backends)
        )

    protocol = case.settings()["protocol"]
    services = "".join(
        f"""
[[services]]
vip = "{network.vip(service, case.version)}"
port = {network.PORT}
protocol = "{protocol}"
tracking = "{case.tracking}"
check = "none"
backends = [
{backends(service)},
]
"""
        for service in range(case.services)
    )
    return f"""[director]
workers = [1]
slow_path = 0
hash_key = "000102030405060708090a0b0c0d0e0f"
socket = "{socket_path}"
hugepages = "{'on' if memory.hugepages else 'off'}"
mbufs = {memory.mbufs}

[[ports]]
name = "lan0"
device = "{device}"
addresses = ["192.168.0.2/16", "fd00::2/64"]
{services}"""


class Shuntd:
    """A running daemon."""

    def __init__(self, binary, folder, text, before=()):
        self._log = folder / "shuntd.log"
        self._socket_path = folder / "shuntd.sock"
        file = folder / "shuntd.toml"
        file.write_text(text)
        with open(self._log, "wb") as log:
            command = [binary, *before, "--config", file, "--log", "warn"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self._process)

    def ready(self):
        """Waits until it serves its socket."""
        until(self._serves, 60, f"{self._socket_path} of shuntd")

    def _serves(self):
        if self._process.poll() is not None:
            raise RunError(f"shuntd does not start; its last words:\n{last_lines(self._log)}")
        try:
            return self.workers()
        except OSError:
            return None

    def pid(self):
        return self._process.pid

    def workers(self):
        """What each worker has counted."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket_path))
            with connection.makefile("rw") as lines:
                lines.write(json.dumps({"version": API_VERSION, "command": "worker-list"}) + "\n")
                lines.flush()
                answer = json.loads(lines.readline() or "{}")
        try:
            return answer["ok"]["workers"]
        except KeyError:
            raise RunError(f"shuntd does not tell what its workers count: {answer}") from None

    def snapshot(self):
        """What the one worker has counted and used until now."""
        thread = until(lambda: Thread.named(self._process.pid, "shunt-worker0"), 5, "shuntd's worker")
        best = None
        # Its thread that answers may have to wait for its core.
        for _ in range(TRIES):
            used = thread.cpu_time()
            counters = self.workers()[0]
            took = time.monotonic_ns() - used.wall_ns
            if best is None or took < best[0]:
                best = took, counters, used
            if took < QUICK_NS:
                break
        took, counters, used = best
        if took > SLOW_NS:
            raise RunError(f"shuntd took {took / 1e6:.0f} ms at best to tell what its worker counts: too much else runs here")
        return counters, used


def counted(before, after, half_stray):
    """What one worker did between two snapshots; an error where it was not what was meant to be measured."""
    (counters, time_before), (later, time_after) = before, after
    used = time_after - time_before
    grown = {name: later[name] - counters[name] for name in later if name.endswith(("_packets", "turns"))}
    packets, turns = grown["rx_packets"], grown["turns"]
    if packets == 0:
        raise RunError("shuntd received nothing")
    dropped, expected = grown["dropped_packets"], packets // 2 if half_stray else 0
    # The counters are read one after the other, while the worker goes on.
    if abs(dropped - expected) > 4096 + packets // 1000 or (expected == 0 and dropped != 0):
        raise RunError(f"shuntd dropped {dropped} of {packets} packets, not {expected}")
    lost = packets - grown["forwarded_packets"] - dropped
    if grown["punted_packets"] or abs(lost) > 4096 + packets // 1000:
        raise RunError(f"shuntd lost {lost} of {packets} packets, and punted {grown['punted_packets']}")
    if grown["busy_turns"] < 0.99 * turns:
        raise RunError(f"shuntd found frames in {grown['busy_turns']} of {turns} turns only")
    used.check_busy("shuntd's worker")
    return {
        "packets": packets,
        "dropped": dropped,
        "turns": turns,
        "cpu_ns": used.used_ns,
        "wall_ns": used.wall_ns,
    }


def run(binary, folder, case, device, memory, seconds, warm_up):
    """One run of one worker."""
    text = configuration(case, device, memory, folder / "shuntd.sock")
    with Shuntd(binary, folder, text) as daemon:
        daemon.ready()
        time.sleep(warm_up)
        before = daemon.snapshot()
        time.sleep(seconds)
        return counted(before, daemon.snapshot(), case.half_stray)
