"""The links of cfg/veth.yaml, in a network namespace of their own: who gets which frame."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

import shunt_lab
from conftest import TREX

VETH = TREX / "veth"
# What runs inside: sends a frame to each of these MAC addresses, and tells which of TRex's interfaces get it.
PROBE = """
import json, socket, sys
def listen(name):
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    listener.bind((name, 0))
    listener.settimeout(0.3)
    return listener
listeners = {name: listen(name) for name in ("trex0", "trex1")}
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind((sys.argv[1], 0))
got = {}
for mac in sys.argv[2:]:
    frame = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("0200000000ee") + b"\\x88\\xb5" + mac.encode().ljust(60, b"-")
    sender.send(frame)
    got[mac] = []
    for name, listener in listeners.items():
        try:
            while listener.recv(100) != frame:
                pass
            got[mac].append(name)
        except TimeoutError:
            pass
print(json.dumps(got))
"""


def can_make_namespaces():
    """Whether this user can, and has the programs for it."""
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("ip", "bridge", "ethtool", "unshare")):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_make_namespaces(), reason="root, network namespaces, iproute2 and ethtool are needed"
)


def inside(script, *arguments):
    """Runs a script in a network namespace that ends with it."""
    command = ["unshare", "--net", "bash", "-euc", script, "bash", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def who_gets(*macs, sender="shunt0"):
    """Which of TRex's interfaces get a frame from there to each of these addresses."""
    done = inside(f'{VETH} start >/dev/null; {sys.executable} -c "$1" {sender} "${{@:2}}"', PROBE, *macs)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_namespaces
def test_each_backend_and_each_port_is_reached_at_its_place_and_nothing_is_flooded():
    ports = yaml.safe_load((TREX / "cfg" / "veth.yaml").read_text(encoding="utf-8"))[0]["port_info"]
    clients, backends = (port["src_mac"] for port in ports)
    some = [shunt_lab.backend_mac(number) for number in (0, 7, shunt_lab.BACKENDS - 1)]
    got = who_gets(clients, backends, *some)
    assert got == {clients: ["trex0"], backends: ["trex1"], **{mac: ["trex1"] for mac in some}}
    # The first SYN, before the bridge has learned anything, is for Shunt alone; so is what a server sends to a client for that.
    director = ports[0]["dest_mac"]
    assert who_gets(director, backends, sender="trex0")[director] == []
    assert who_gets(clients, sender="trex1") == {clients: ["trex0"]}


@needs_namespaces
def test_what_has_no_entry_is_flooded_as_by_any_switch():
    """The test above can fail."""
    assert who_gets("02:00:00:00:09:99") == {"02:00:00:00:09:99": ["trex0", "trex1"]}


@needs_namespaces
def test_start_says_that_it_is_there_already_and_stop_removes_all():
    done = inside(f"{VETH} start >/dev/null; ! {VETH} start; {VETH} stop; {VETH} stop; ip -o link show")
    assert done.returncode == 0, done.stderr
    assert "perf/trex/veth stop" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if "lo:" not in line] == []


@pytest.mark.parametrize("wrong", [[], ["begin"], ["start", "--backends", "0"], ["start", "--backends", "+9"], ["start", "stop"]])
def test_wrong_usage_ends_with_2(wrong):
    assert subprocess.run([VETH, *wrong], capture_output=True, check=False).returncode == 2
