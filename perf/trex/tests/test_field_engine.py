"""The interpreter of TRex's field engine, against the examples of TRex's own documentation and of its code."""

import base64
import itertools

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from trex.stl.api import (
    STLVM,
    CTRexVmInsFixHwCs,
    STLPktBuilder,
    STLProfile,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLTXSingleBurst,
    STLVmFlowVar,
    STLVmTupleGen,
    STLVmWrFlowVar,
)

from field_engine import Random, UnknownInstruction, profile_frames, stream_frames

BASE = Ether() / IP(src="16.0.0.1", dst="48.0.0.1") / UDP(dport=12, sport=1025) / (20 * b"x")
PAYLOAD = 42


def stream_of(instructions, packet=BASE, **options):
    """A stream's JSON, made by TRex's own client."""
    vm = instructions if isinstance(instructions, STLVM) else STLScVmRaw(instructions)
    stream = STLStream(packet=STLPktBuilder(pkt=packet, vm=vm), mode=STLTXCont(pps=1), **options)
    return STLProfile([stream]).to_json()[0]


def values(variable, count, size=1):
    """What the payload's first bytes are in frame after frame, when a variable is written there."""
    stream = stream_of([variable, STLVmWrFlowVar(fv_name="v", pkt_offset=PAYLOAD)])
    return [int.from_bytes(frame[PAYLOAD : PAYLOAD + size], "big") for frame in itertools.islice(stream_frames(stream), count)]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"max_value": 3, "op": "inc"}, [0, 1, 2, 3, 0, 1]),
        ({"max_value": 3, "op": "inc", "init_value": 2}, [2, 3, 0, 1, 2, 3]),
        ({"max_value": 11, "op": "inc", "step": 3}, [0, 3, 6, 9, 0, 3]),
        ({"max_value": 9, "op": "inc", "step": 4}, [0, 4, 8, 2, 6, 0]),
        ({"value_list": [9, 0, 4, 7, 5], "op": "inc"}, [9, 0, 4, 7, 5, 9]),
    ],
)
def test_a_variable_counts(options, expected):
    assert values(STLVmFlowVar(name="v", size=1, **options), 6) == expected


def test_a_random_variable_stays_within_its_range():
    drawn = values(STLVmFlowVar(name="v", size=2, min_value=1000, max_value=1009, op="random"), 500, size=2)
    assert set(drawn) == set(range(1000, 1010))


def test_random_numbers_are_those_of_the_generator_that_trex_uses():
    """The first of the linear congruential generator 214013 x + 2531011 from 1, bits 16 to 30: those of Microsoft's C library."""
    numbers = Random(1)
    assert [numbers.bits15() for _ in range(5)] == [41, 18467, 6334, 26500, 19169]


def test_a_tuple_goes_through_addresses_then_ports():
    """The table of TRex's documentation of the instruction."""
    tuple_gen = STLVmTupleGen(name="t", ip_min="10.0.0.1", ip_max="10.0.0.5", port_min=1025, port_max=1028, limit_flows=10)
    writes = [STLVmWrFlowVar(fv_name="t.ip", pkt_offset="IP.src"), STLVmWrFlowVar(fv_name="t.port", pkt_offset="UDP.sport")]
    frames = itertools.islice(stream_frames(stream_of([tuple_gen, *writes])), 11)
    seen = [(frame[29], int.from_bytes(frame[34:36], "big")) for frame in frames]
    assert seen == [(ip, port) for port in (1025, 1026) for ip in range(1, 6)] + [(1, 1025)]


def test_a_write_adds_and_can_be_little_endian():
    variable = STLVmFlowVar(name="v", size=2, min_value=0x0102, max_value=0x0102, op="inc")
    write = STLVmWrFlowVar(fv_name="v", pkt_offset=PAYLOAD, add_val=-1, is_big=False)
    assert next(stream_frames(stream_of([variable, write])))[PAYLOAD : PAYLOAD + 2] == b"\x01\x01"


@pytest.mark.parametrize("layer, kind", [(UDP, CTRexVmInsFixHwCs.L4_TYPE_UDP), (TCP, CTRexVmInsFixHwCs.L4_TYPE_TCP)])
@pytest.mark.parametrize("size", [20, 21])
def test_checksums_are_what_scapy_says(layer, kind, size):
    vm = STLVM()
    vm.var(name="v", min_value="16.0.0.1", max_value="16.0.0.9", size=4, op="inc")
    vm.write(fv_name="v", pkt_offset="IP.src")
    vm.fix_chksum_hw(l3_offset="IP", l4_offset=layer.__name__, l4_type=kind)
    stream = stream_of(vm, Ether() / IP(dst="48.0.0.1") / layer(sport=1025, dport=80) / (size * b"y"))
    for frame in itertools.islice(stream_frames(stream), 9):
        packet = IP(frame[14:])
        built = packet.copy()
        del built.chksum, built.payload.chksum
        assert bytes(built) == frame[14:]


def test_checksums_over_ipv6_are_what_scapy_says():
    vm = STLVM()
    vm.var(name="v", min_value=1, max_value=9, size=4, op="inc")
    vm.write(fv_name="v", pkt_offset="IPv6.src", offset_fixup=12)
    vm.fix_chksum_hw(l3_offset="IPv6", l4_offset="TCP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_TCP)
    stream = stream_of(vm, Ether() / IPv6(src="2001:db8::1:0", dst="2001:db8::2") / TCP(dport=80) / (21 * b"y"))
    for number, frame in enumerate(itertools.islice(stream_frames(stream), 9), start=1):
        packet = IPv6(frame[14:])
        assert packet.src == f"2001:db8::{number:x}"
        built = packet.copy()
        del built.payload.chksum
        assert bytes(built) == frame[14:]


def changed(stream, **fields):
    """The stream with other fields in its first instruction."""
    first, *others = stream["vm"]["instructions"]
    return dict(stream, vm=dict(stream["vm"], instructions=[dict(first, **fields), *others]))


def test_what_is_not_known_is_an_error():
    stream = stream_of([STLVmFlowVar(name="v", size=1, max_value=3), STLVmWrFlowVar(fv_name="v", pkt_offset=PAYLOAD)])
    next(stream_frames(stream))
    for unknown in (
        changed(stream, type="flow_var_of_tomorrow"),
        changed(stream, next_var="w"),
        changed(stream, op="dec"),
        changed(stream, jitter=1),
        dict(stream, vm=dict(stream["vm"], cache=100)),
    ):
        with pytest.raises(UnknownInstruction):
            next(stream_frames(unknown))


def test_bursts_are_not_known():
    stream = STLStream(packet=STLPktBuilder(pkt=BASE), mode=STLTXSingleBurst(total_pkts=3))
    with pytest.raises(UnknownInstruction):
        profile_frames(STLProfile([stream]).to_json(), 1, 1000)


def test_streams_leave_in_the_order_of_their_times():
    def stream(letter, share, start_us=0.0):
        return STLStream(packet=STLPktBuilder(pkt=BASE / letter), mode=STLTXCont(pps=share), isg=start_us)

    streams = STLProfile([stream(b"a", 2), stream(b"b", 1), stream(b"c", 1, 2500.0)]).to_json()
    order = b"".join(frame[-1:] for frame in profile_frames(streams, 8, 4000))
    # a at 0, 0.5, 1 …, b at 0, 1, 2 …, c at 2.5, 3.5 … milliseconds.
    assert order == b"abaabaab"


def test_the_template_is_the_frame_where_there_is_no_program():
    stream = STLProfile([STLStream(packet=STLPktBuilder(pkt=BASE))]).to_json()[0]
    assert next(stream_frames(stream)) == base64.b64decode(stream["packet"]["binary"]) == bytes(BASE)
