"""The real shuntd between two captures: DPDK's pcap driver reads one and writes the other, without a NIC."""

import os
import subprocess
import sys
import time

from conftest import TREX
from packets import carries_transport, mac, read_pcap, write_pcap
from shunt_ndr.shuntctl import Shuntctl, ShuntctlError

# The addresses that DPDK's pcap driver gives its ports.
CLIENT_SIDE_MAC = mac("02:70:63:61:70:00")
BACKEND_SIDE_MAC = mac("02:70:63:61:70:01")
GENERATOR_MAC = mac("02:00:00:00:00:cc")
PATIENCE_S = 30


def configuration(folder, **options):
    """What perf/trex/shuntd-config makes, with captures for devices."""
    command = [sys.executable, TREX / "shuntd-config", "--no-hugepages", "--socket", folder / "shuntd.sock"]
    command += ["--client-port", f"net_pcap0,rx_pcap={folder}/in.pcap,tx_pcap={folder}/to-clients.pcap"]
    command += ["--backend-port", f"net_pcap1,tx_pcap={folder}/to-backends.pcap"]
    command += ["--workers", min(1, os.cpu_count() - 1)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


class Director:
    """A shuntd that forwards a capture."""

    def __init__(self, programs, folder):
        self.programs = programs
        self.folder = folder
        self.shuntctl = Shuntctl(str(programs / "shuntctl"), str(folder / "shuntd.sock"))

    def forward(self, frames, **options):
        """Has it forward the frames. Returns its counters, and what it sent to backends and to clients."""
        write_pcap(self.folder / "in.pcap", frames)
        (self.folder / "shuntd.toml").write_text(configuration(self.folder, **options), encoding="utf-8")
        counters = self.run(len(frames))
        return counters, self.sent("to-backends.pcap"), self.sent("to-clients.pcap")

    def sent(self, name):
        """The frames of a capture that clients have sent: not the announcements of the VIPs."""
        return [frame for frame in read_pcap(self.folder / name) if carries_transport(frame)]

    def run(self, frames):
        """Starts the daemon, waits until it has read all frames and what it holds of them is decided, and stops it."""
        with open(self.folder / "shuntd.log", "w", encoding="utf-8") as log:
            command = [self.programs / "shuntd", "--config", self.folder / "shuntd.toml", "--log", "warn"]
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            return self.wait(daemon, frames)
        finally:
            daemon.terminate()
            try:
                daemon.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def wait(self, daemon, frames):
        """The counters, when every frame has been read and nothing moves any more."""
        deadline = time.monotonic() + PATIENCE_S
        before = None
        while time.monotonic() < deadline:
            if daemon.poll() is not None:
                raise AssertionError(f"shuntd ended: {(self.folder / 'shuntd.log').read_text()}")
            counters = self.counters()
            if counters and counters == before and counters.rx_packets >= frames:
                return counters
            before = counters
            time.sleep(0.2)
        raise AssertionError(f"shuntd has not read all {frames} frames in {PATIENCE_S} s: {before}")

    def counters(self):
        """Its counters, as soon as it answers."""
        try:
            return self.shuntctl.counters()
        except ShuntctlError:
            return None
