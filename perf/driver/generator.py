"""Runs of dataplane/benches/flows.rs: a worker and a bare rewrite of MAC addresses, with a generator's frames."""

import json
import subprocess

from threads import RunError, environment, tail


def find(root, dev, bench="flows"):
    """The bench's executable, as cargo has built it."""
    command = ["cargo", "build", "--locked", "--quiet", "--package", "dataplane", "--bench", bench]
    command += [] if dev else ["--release"]
    done = subprocess.run(
        command + ["--message-format=json"], cwd=root, capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == bench and message.get("executable"):
            return message["executable"]
    raise RunError(f"The generator's bench is not built by: {' '.join(command)}\n{tail(done.stderr)}")


def run(binary, case, pairs, seconds, hugepages):
    """All pairs of a case. Returns runs by number of flows, the frequency of the time stamp counter, and facts."""
    command = [binary, "--core", "1", "--pairs", str(pairs), "--milliseconds", str(max(1, int(seconds * 1000)))]
    command += ["--flows", ",".join(map(str, case.flows)), "--hugepages", "on" if hugepages else "off"]
    command += case.arguments
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode != 0:
        raise RunError(f"the generator's bench failed:\n{tail(done.stderr)}")
    told = json.loads(done.stdout)
    by_flows = {flows: [run for run in told["runs"] if run["flows"] == flows] for flows in case.flows}
    facts = {name: value for name, value in told.items() if name != "runs"}
    return by_flows, told["tsc_hz"], facts
