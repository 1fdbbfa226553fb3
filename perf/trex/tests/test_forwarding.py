"""The real daemon forwards what each profile sends."""

import collections
import subprocess

import pytest

import director
import packets
import shunt_lab
from director import BACKEND_SIDE_MAC, CLIENT_SIDE_MAC, GENERATOR_MAC, Director
from profiles_of_shunt import STATELESS, frames_of

# As perf/trex/shuntd-config numbers them.
BACKEND_MACS = {packets.mac(f"02:00:00:00:01:{number:02x}") for number in range(shunt_lab.BACKENDS)}


def multiset(frames):
    """The frames behind their Ethernet addresses, each as often as it is there."""
    return collections.Counter(frame[12:] for frame in frames)


def flow_of_each(frames):
    """Each frame's flow; that of a later fragment is its first one's."""
    parsed = [packets.parse(frame) for frame in frames]
    firsts = {packet.datagram: packet.flow for packet in parsed if packet.is_fragment and packet.is_first}
    return [firsts[packet.datagram] if packet.is_fragment else packet.flow for packet in parsed]


@pytest.fixture(params=STATELESS)
def forwarded(request, programs, tmp_path):
    """What went in, what came out, and the counters."""
    sent = [packets.with_macs(frame, CLIENT_SIDE_MAC, GENERATOR_MAC) for frame in frames_of(request.param)]
    return sent, *Director(programs, tmp_path).forward(sent)


def test_every_packet_reaches_a_backend_unchanged_and_once(forwarded):
    sent, counters, to_backends, to_clients = forwarded
    assert multiset(to_backends) == multiset(sent)
    assert to_clients == []
    assert {frame[:6] for frame in to_backends} == BACKEND_MACS, "all backends, and nobody else"
    assert {frame[6:12] for frame in to_backends} == {BACKEND_SIDE_MAC}
    assert_nothing_lost(counters, len(sent))
    assert counters.forwarded == {"clients": 0, "backends": len(sent)}, "the announcements of addresses are not among them"
    assert_flows_stay(to_backends)


def assert_nothing_lost(counters, sent):
    """All of Shunt's and its ports' reasons to drop something are 0."""
    assert counters.rx_packets == sent
    assert counters.drops, "shuntctl drops --all names every reason"
    assert {reason: count for reason, count in counters.drops.items() if count} == {}
    assert {name: count for name, count in counters.hardware.items() if count} == {}
    assert {reason: count for reason, count in counters.punts.items() if count} == {}


def assert_flows_stay(to_backends):
    """Each flow has one backend, all fragments of a packet among it."""
    backends = collections.defaultdict(set)
    for frame, flow in zip(to_backends, flow_of_each(to_backends), strict=True):
        backends[flow].add(frame[:6])
    assert all(len(macs) == 1 for macs in backends.values())


def test_fragments_that_come_before_their_first_follow_it(programs, tmp_path):
    """As from a generator whose cores mix up the streams of the profile."""
    frames = frames_of("stl_fragments", count=300)
    reversed_datagrams = [frame for at in range(0, 300, 3) for frame in reversed(frames[at : at + 3])]
    sent = [packets.with_macs(frame, CLIENT_SIDE_MAC, GENERATOR_MAC) for frame in reversed_datagrams]
    counters, to_backends, _ = Director(programs, tmp_path).forward(sent)
    assert multiset(to_backends) == multiset(sent)
    assert_nothing_lost(counters, len(sent))
    assert_flows_stay(to_backends)


def test_a_packet_to_nobody_is_missing_and_has_a_reason(programs, tmp_path):
    """The comparison can fail: a frame to a port without a service does not come out, and Shunt says why."""
    good = frames_of("stl_tcp64", count=10)
    stray = bytearray(good[0])
    stray[36:38] = (8080).to_bytes(2, "big")
    sent = [packets.with_macs(bytes(frame), CLIENT_SIDE_MAC, GENERATOR_MAC) for frame in [*good, stray]]
    counters, to_backends, _ = Director(programs, tmp_path).forward(sent)
    assert multiset(to_backends) == multiset(sent[:-1])
    assert {reason: count for reason, count in counters.drops.items() if count} == {"no_service": 1}


@pytest.mark.parametrize(
    "options", [{}, {"backends": 239, "vips": 300}, {"scheduler": "wlc"}, {"backend_mac": "02:aa:bb:cc:dd:ee"}]
)
def test_the_daemon_takes_the_configuration_that_shuntd_config_makes(programs, tmp_path, options):
    file = tmp_path / "shuntd.toml"
    file.write_text(director.configuration(tmp_path, **options), encoding="utf-8")
    checked = subprocess.run([programs / "shuntd", "--check", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
