"""The check that no flow has moved: over captures that scapy has written, and over those of the real daemon."""

import json
import subprocess
import sys

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import wrpcap

import packets
import shunt_lab
from conftest import TREX
from director import CLIENT_SIDE_MAC, GENERATOR_MAC, Director
from profiles_of_shunt import frames_of
from shunt_flows import __main__ as moved_flows
from shunt_flows import capture, flows
from shunt_flows.headers import flow_text

DIRECTOR, CLIENT = "02:00:00:00:aa:00", "02:00:00:00:cc:00"
VIP, VIP6 = str(shunt_lab.VIP), str(shunt_lab.VIP_IPV6)
ONE, OTHER = shunt_lab.backend_mac(1), shunt_lab.backend_mac(2)


def to(backend, packet):
    """The frame by which the director forwards a packet."""
    return Ether(src=DIRECTOR, dst=backend) / packet


def tcp(flags, port=1024, seq=7, ip=None):
    """A client's TCP packet."""
    return (ip or IP(src="198.18.0.1", dst=VIP)) / TCP(sport=port, dport=80, flags=flags, seq=seq)


def udp(payload=b"", port=1024):
    """A client's UDP packet."""
    return IP(src="198.18.0.1", dst=VIP, id=77) / UDP(sport=port, dport=53) / payload


def sort(*timed, idle_s=300.0):
    """The result for frames, each with its time or a second behind the one before."""
    listed, time_s = [], 0.0
    for each in timed:
        time_s, frame = each if isinstance(each, tuple) else (time_s + 1.0, each)
        listed.append(capture.Frame(time_s, bytes(frame)))
    return flows.sort(listed, moved_flows.among(shunt_lab.VIPS), idle_s)


def moved(*timed, **options):
    """The flows that have moved, as text."""
    return [flow_text(flow.flow) for flow in sort(*timed, **options).moved]


def test_a_flow_that_stays_has_not_moved_and_one_that_changes_its_backend_has():
    stays = [to(ONE, tcp("S")), to(ONE, tcp("A")), to(ONE, tcp("PA")), to(ONE, tcp("FA"))]
    goes = [to(ONE, tcp("S", port=5)), to(OTHER, tcp("A", port=5))]
    assert moved(*stays) == []
    assert moved(*stays, *goes) == [f"198.18.0.1:5 to {VIP}:80/tcp"]


def test_a_flow_that_comes_back_has_moved():
    assert len(moved(to(ONE, tcp("S")), to(OTHER, tcp("A")), to(ONE, tcp("A")))) == 1


def test_a_new_connection_of_the_same_ports_may_go_elsewhere():
    first = [to(ONE, tcp("S", seq=1)), to(ONE, tcp("FA", seq=9))]
    assert moved(*first, to(OTHER, tcp("S", seq=1)), to(OTHER, tcp("A"))) == [], "after a FIN"
    assert moved(to(ONE, tcp("S", seq=1)), to(OTHER, tcp("S", seq=2)), to(OTHER, tcp("A"))) == [], "another sequence number"
    assert moved(to(ONE, tcp("A")), to(ONE, tcp("R")), to(OTHER, tcp("S"))) == [], "after a RST"


def test_a_syn_that_is_sent_again_belongs_to_its_connection():
    assert len(moved(to(ONE, tcp("S", seq=1)), to(OTHER, tcp("S", seq=1)))) == 1


def test_packets_behind_a_fin_belong_to_its_connection():
    assert len(moved(to(ONE, tcp("S")), to(ONE, tcp("FA")), to(OTHER, tcp("A")))) == 1


def test_udp_flows_end_with_silence():
    assert len(moved((0.0, to(ONE, udp())), (299.0, to(OTHER, udp())))) == 1
    assert moved((0.0, to(ONE, udp())), (301.0, to(OTHER, udp()))) == []
    assert moved((0.0, to(ONE, udp())), (9.0, to(OTHER, udp())), idle_s=5.0) == []


def test_families_tags_and_extension_headers_make_no_difference():
    plain = IPv6(src="2001:2:0:c::1", dst=VIP6)
    assert len(moved(to(ONE, tcp("S", ip=plain)), to(OTHER, tcp("A", ip=plain / IPv6ExtHdrDestOpt())))) == 1
    tagged = Ether(src=DIRECTOR, dst=OTHER) / Dot1Q(vlan=7) / tcp("A")
    assert len(moved(to(ONE, tcp("S")), tagged)) == 1
    options = IP(src="198.18.0.1", dst=VIP, options=b"\x94\x04\x00\x00")
    assert len(moved(to(ONE, tcp("S", ip=options)), to(OTHER, tcp("A")))) == 1


def fragments(size=3000):
    """A datagram in fragments."""
    return fragment(udp(b"x" * size), fragsize=1480)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_fragments_follow_their_first_whatever_comes_first(order):
    parts = fragments()
    whole = sort(*[to(ONE, parts[index]) for index in order])
    assert (len(whole.flows), whole.moved, whole.torn, whole.lost_fragments) == (1, [], [], 0)
    torn = sort(*[to(OTHER if index == 2 else ONE, parts[index]) for index in order])
    assert len(torn.torn) == 1 and len(torn.moved) == 1


def test_fragments_of_ipv6_follow_theirs():
    def part(offset, more, payload):
        head = IPv6(src="2001:2:0:c::1", dst=VIP6, plen=len(payload) + 8)
        return head / IPv6ExtHdrFragment(id=9, offset=offset // 8, m=more, nh=17) / payload

    datagram = bytes(UDP(sport=5, dport=53, len=24, chksum=1) / (b"y" * 16))
    first, later = part(0, 1, datagram[:16]), part(16, 0, datagram[16:])
    assert (len(sort(to(ONE, first), to(ONE, later)).flows), moved(to(ONE, first), to(ONE, later))) == (1, [])
    assert len(sort(to(ONE, later), to(OTHER, first)).torn) == 1


def test_fragments_without_a_first_one_are_counted_and_bounded(monkeypatch):
    monkeypatch.setattr(flows, "MOST_WAITING", 3)
    later = [to(ONE, with_fields(fragments()[1], id=number)) for number in range(10)]
    assert sort(*later).lost_fragments == 10


def with_fields(packet, **fields):
    """The packet with other fields, its checksum made anew."""
    changed = packet.copy()
    for name, value in fields.items():
        setattr(changed, name, value)
    del changed.chksum
    return changed


def test_what_is_no_clients_packet_behind_the_director_does_not_count():
    reply = Ether(src=ONE, dst=CLIENT) / IP(src=VIP, dst="198.18.0.1") / TCP(sport=80, dport=1024, flags="SA")
    to_director = Ether(src=CLIENT, dst=DIRECTOR) / tcp("S")
    others = [
        Ether(src=DIRECTOR, dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=VIP),
        to(OTHER, IP(src="198.18.0.1", dst=VIP) / ICMP()),
        to(OTHER, IP(src="198.18.0.1", dst="192.0.2.1") / TCP(sport=1024, dport=80)),
        Ether(bytes(to(OTHER, tcp("A")))[:30]),
    ]
    result = sort(to_director, to(ONE, tcp("S")), reply, *others, to_director, to(ONE, tcp("A")))
    assert (len(result.flows), result.moved) == (1, [])
    assert result.shares == {packets.mac(ONE): (1, 2)}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the program over a capture of these frames: its exit status and what it prints."""

    def run(*frames, options=(), file=tmp_path / "flows.pcap"):
        if frames:
            wrpcap(str(file), list(frames))
        monkeypatch.setattr(sys, "argv", ["moved-flows", str(file), *options])
        status = moved_flows.main()
        return status, capsys.readouterr()

    return run


def test_the_program_says_which_flows_have_moved(run):
    others = [to(OTHER, tcp("S", port=port)) for port in range(2000, 2010)]
    status, said = run(to(ONE, tcp("S")), *others, to(ONE, tcp("A")))
    assert (status, said.out.splitlines()[-1]) == (0, "No flow has moved")
    status, said = run(to(ONE, tcp("S")), *others, to(OTHER, tcp("A")))
    assert status == 1
    assert f"moved: 198.18.0.1:1024 to {VIP}:80/tcp" in said.out
    assert said.out.splitlines()[-1] == "1 flows have moved"
    status, said = run(to(ONE, tcp("S")), *others, to(OTHER, tcp("A")), options=["--json"])
    found = json.loads(said.out)
    assert (status, found["flows"], [each["mac"] for each in found["moved"][0]["backends"]]) == (1, 11, [ONE, OTHER])


def test_one_mac_address_for_all_proves_nothing(run):
    """As with --backend-mac: 463 flows had moved, and none was seen."""
    status, said = run(to(ONE, tcp("S")), to(ONE, tcp("S", port=9)))
    assert status == 2 and "give each backend a MAC address of its own" in said.err


def test_what_is_no_capture_of_flows_is_said(run, tmp_path):
    status, said = run(to(ONE, IP(dst="192.0.2.1") / TCP()))
    assert status == 2 and "there are no packets to VIPs" in said.err
    text = tmp_path / "text"
    text.write_text("hello, this is text\n", encoding="utf-8")
    for file, says in [(text, "no capture"), (tmp_path / "nowhere", "No such file")]:
        status, said = run(file=file)
        assert status == 2 and says in said.err, said.err


def test_other_vips_may_be_given(run):
    elsewhere = [
        to(mac, IP(src="10.0.0.1", dst="192.0.2.1") / TCP(sport=port, dport=80))
        for mac, port in [(ONE, 5), (OTHER, 5), (OTHER, 6)]
    ]
    assert run(*elsewhere, options=["--vip", "192.0.2.0/24"])[0] == 1


def test_a_capture_that_ends_in_the_middle_of_a_frame_is_read_until_there(run, tmp_path):
    file = tmp_path / "cut.pcap"
    wrpcap(str(file), [to(ONE, tcp("S")), to(OTHER, tcp("S", port=9)), to(OTHER, tcp("A"))])
    file.write_bytes(file.read_bytes()[:-50])
    assert run(file=file)[0] == 0


def test_pcapng_is_read_too(run, tmp_path):
    """As Wireshark writes it: a section, an interface with nanoseconds, and a block for each frame."""

    def block(kind, body):
        body += bytes(-len(body) % 4)
        return kind.to_bytes(4, "little") + (len(body) + 12).to_bytes(4, "little") + body + (len(body) + 12).to_bytes(4, "little")

    def frame(time_ns, data):
        words = [0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), len(data)]
        return block(6, b"".join(word.to_bytes(4, "little") for word in words) + data)

    section = block(0x0A0D0D0A, bytes.fromhex("4d3c2b1a01000000ffffffffffffffff"))
    interface = block(1, bytes.fromhex("0100000000000400") + bytes.fromhex("0900010009000000") + bytes(4))
    listed = [(5, to(ONE, udp())), (9, to(OTHER, udp())), (310, to(ONE, udp()))]
    file = tmp_path / "flows.pcapng"
    file.write_bytes(section + interface + b"".join(frame(s * 1_000_000_000, bytes(data)) for s, data in listed))
    assert [each.time_s for each in capture.frames(file)] == [5.0, 9.0, 310.0]
    assert run(file=file)[0] == 1
    assert run(file=file, options=["--idle", "1"])[0] == 0


def forwarded(programs, folder, names, backends=shunt_lab.BACKENDS):
    """What the real daemon forwards of these profiles, with so many backends."""
    folder.mkdir()
    sent = [packets.with_macs(frame, CLIENT_SIDE_MAC, GENERATOR_MAC) for name in names for frame in frames_of(name, count=600)]
    _, to_backends, _ = Director(programs, folder).forward(sent, backends=backends)
    assert len(to_backends) == len(sent)
    return folder / "to-backends.pcap"


def test_the_real_daemon_moves_no_flow_and_the_check_sees_where_it_does(programs, tmp_path, run):
    """A director that was started with other backends, and remembers nothing: what kill -9 and changes that were not saved do."""
    names = ["stl_tcp64", "stl_fragments", "stl_ipv6"]
    before = forwarded(programs, tmp_path / "before", names)
    status, said = run(file=before)
    assert status == 0, said.out
    after = forwarded(programs, tmp_path / "after", names, backends=shunt_lab.BACKENDS - 4)
    status, said = run(file=before, options=[str(after), "--json"])
    found = json.loads(said.out)
    assert status == 1 and found["torn"] == []
    # A quarter of the backends is gone, and their flows with them; Maglev moves few others.
    share = len(found["moved"]) / found["flows"]
    assert 0.2 < share < 0.45, share
    again = forwarded(programs, tmp_path / "again", names)
    assert run(file=before, options=[str(again)])[0] == 0, "the same backends have the same flows"


def test_the_program_can_be_called():
    done = subprocess.run([TREX / "moved-flows", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "one destination MAC address" in " ".join(done.stdout.split())
