"""Shunt's counters, by `shuntctl --json`, here or over ssh."""

import json
import shlex
import subprocess

from .losses import HARDWARE, Counters


class ShuntctlError(Exception):
    """shuntctl could not be run, or said no."""


class Shuntctl:
    """A director's shuntctl."""

    def __init__(self, program="shuntctl", socket=None, ssh=None, timeout_s=20):
        """`ssh`: the host to run it on, with options: "-p 2222 root@director". It must let us in without a question."""
        words = [program, "--json"] + (["--socket", socket] if socket else [])
        self.prefix = ["ssh", "-o", "BatchMode=yes", *shlex.split(ssh)] if ssh else []
        self.words = words
        self.timeout_s = timeout_s

    def command(self, *request):
        """The command line of a request. A remote shell splits what ssh hands it, so it is quoted."""
        words = [*self.words, *request]
        return [*self.prefix, shlex.join(words)] if self.prefix else words

    def ask(self, *request):
        """What it answers."""
        command = self.command(*request)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ShuntctlError(f"{shlex.join(command)}: {error}") from error
        if done.returncode != 0:
            raise ShuntctlError(f"{shlex.join(command)}: exit status {done.returncode}: {done.stderr.strip()}")
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise ShuntctlError(f"{shlex.join(command)}: its answer is not JSON: {error}") from error

    def counters(self):
        """All counters that say where packets are."""
        return counters_of(self.ask("port", "list"), self.ask("drops", "--all"))

    def description(self):
        """What is measured: the daemon's version, its ports, workers and services."""
        status = self.ask("status")
        return {
            "version": status["version"],
            "dpdk": status["dpdk"],
            "hugepages": status["hugepages"],
            "workers": status["workers"],
            "services": status["services"]["total"],
            "backends": status["backends"]["total"],
            "ports": [
                {key: port[key] for key in ("name", "device", "driver", "speed_mbps")} for port in self.ask("port", "list")
            ],
        }


def counters_of(ports, drops):
    """The answers to `port list` and `drops --all` as Counters."""

    def total(name):
        return sum(port[name] for port in ports)

    def forwarded(port):
        # A director that does not tell them apart is taken to send none of its own.
        return port.get("forwarded_packets", port["tx_packets"])

    def of_fate(fate):
        return {reason["reason"]: reason["packets"] for reason in drops if reason["fate"] == fate}

    return Counters(
        rx_packets=total("rx_packets"),
        tx_packets=total("tx_packets"),
        hardware={name: total(name) for name in HARDWARE},
        drops=of_fate("drop"),
        punts=of_fate("punt"),
        forwarded={port["name"]: forwarded(port) for port in ports},
        own={port["name"]: port["tx_packets"] - forwarded(port) for port in ports},
    )
