"""Every profile loads as TRex loads it, and sends what it says, to addresses that the director is configured with."""

import base64
import collections
import ipaddress
import statistics
import tomllib

import pytest
from scapy.layers.l2 import Ether
from trex.astf.api import ASTFProfile
from trex.common.trex_exceptions import TRexError
from trex.stl.api import STLProfile
from trex.utils.parsing_opts import convert_old_tunables_to_new_tunables

import director
import packets
import shunt_lab
from conftest import PROFILES
from profiles_of_shunt import STATEFUL, STATELESS, frames_of, load_stateless


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The services of the director's configuration: read back from the file, not from what wrote it."""
    file = tomllib.loads(director.configuration(tmp_path_factory.mktemp("configuration")))
    return {(ipaddress.ip_address(each["vip"]), each["port"], each["protocol"]) for each in file["services"]}


def parsed(name, **options):
    """The packets that a profile sends."""
    return [packets.parse(frame) for frame in frames_of(name, **options)]


def test_no_profile_is_left_out():
    assert STATELESS == [
        "stl_churn",
        "stl_fragments",
        "stl_full_size",
        "stl_imix",
        "stl_ipv6",
        "stl_many_vips",
        "stl_syn_flood",
        "stl_tcp64",
        "stl_udp64",
        "stl_zipf",
    ]
    assert STATEFUL == ["astf_http", "astf_long"]


@pytest.mark.parametrize("name", STATELESS)
def test_every_packet_goes_to_a_service_with_valid_checksums(name, services):
    first_of = {}
    for packet in parsed(name):
        assert packets.bad_checksums(packet) == []
        assert packet.source in (shunt_lab.CLIENTS if packet.source.version == 4 else shunt_lab.CLIENTS_IPV6)
        if packet.is_first:
            first_of[packet.datagram] = packet
            assert (packet.destination, packet.ports[1], packet.protocol) in services
        else:
            assert packet.datagram in first_of, "a later fragment belongs to a first one"


@pytest.mark.parametrize("name", [name for name in STATELESS if name != "stl_fragments"])
def test_without_a_nics_help_the_ip_headers_checksum_is_right(name):
    for packet in parsed(name, count=500, tunables=["--checksums", "header"]):
        assert packets.bad_checksums(packet) in ([], ["TCP"])
        assert packet.protocol == "tcp" or packet.payload[6:8] == b"\x00\x00"


@pytest.mark.parametrize("name", STATELESS)
def test_scapy_computes_the_same_checksums(name):
    """A second opinion, of a sample: scapy is slow."""
    for frame in frames_of(name)[::97]:
        packet = Ether(frame).payload
        built = packet.copy()
        if packet.name == "IP":
            del built.chksum
        if packet.name == "IPv6" or (packet.frag == 0 and "M" not in str(packet.flags)):
            del built.payload.chksum
        assert bytes(built) == bytes(packet) == frame[14:]


@pytest.mark.parametrize("name", STATELESS)
def test_mac_addresses_are_those_of_the_port_configuration(name):
    # Bit 0: the source is the stream's own. Bits 1 and 2: the destination is.
    assert all(stream["flags"] & 0b111 == 0 for stream in load_stateless(name))


@pytest.mark.parametrize("name", STATELESS)
def test_no_frame_is_too_short_or_too_long_for_ethernet(name):
    assert all(60 <= len(frame) <= 1514 for frame in frames_of(name))


def test_the_longest_list_fits_in_what_the_server_keeps():
    """A program of TRex's is shorter than 64 KiB, and so is a list in it."""
    (stream,) = load_stateless("stl_zipf", ["--entries", "15000"])
    (values,) = [fields["value_list"] for fields in stream["vm"]["instructions"] if "value_list" in fields]
    assert len(values) == 15_000
    assert 4 * len(values) <= 60_000


@pytest.mark.parametrize("name", ["stl_udp64", "stl_tcp64", "stl_ipv6"])
def test_there_are_as_many_flows_as_asked_for(name):
    flows = collections.Counter(packet.flow for packet in parsed(name, count=600, tunables=["--clients", "20", "--ports", "15"]))
    assert len(flows) == 300
    assert set(flows.values()) == {2}


@pytest.mark.parametrize("name", ["stl_udp64", "stl_tcp64", "stl_syn_flood", "stl_zipf", "stl_many_vips"])
def test_small_frames_have_64_bytes_on_the_wire(name):
    assert {len(frame) + 4 for frame in frames_of(name, count=100)} == {64}


def test_imix_has_its_shares():
    sizes = collections.Counter(len(frame) + 4 for frame in frames_of("stl_imix", count=1200))
    assert sizes == {64: 700, 594: 400, 1518: 100}


def test_full_size_is_1500_bytes_of_ip():
    assert {len(packet.header) + len(packet.payload) for packet in parsed("stl_full_size", count=100)} == {1500}


def test_a_syn_flood_is_syns_from_everywhere():
    flood = parsed("stl_syn_flood", count=4000)
    assert {packet.payload[13] for packet in flood} == {0x02}
    assert len({packet.flow for packet in flood}) > 3900
    quarters = collections.Counter((int(packet.source) & 0xFFFF) >> 14 for packet in flood)
    assert all(900 < quarters[quarter] < 1100 for quarter in range(4)), "no bit of the address is always 0"


def test_the_busiest_client_of_zipf_has_its_share():
    entries = 8192
    sources = collections.Counter(packet.source for packet in parsed("stl_zipf", count=entries))
    ranked = [count for _, count in sources.most_common()]
    assert len(ranked) == 1000
    harmonic = sum(1 / rank for rank in range(1, 1001))
    for rank in (1, 2, 10):
        # Each client is in the list once in any case; the rest is shared out.
        assert ranked[rank - 1] == pytest.approx(1 + (entries - 1000) / rank / harmonic, abs=1)
    assert statistics.median(ranked) == pytest.approx(3, abs=1)


def test_zipf_gives_a_client_many_flows():
    flows = {packet.flow for packet in parsed("stl_zipf", count=20000)}
    assert len(flows) > 10000


def test_a_connection_of_churn_begins_asks_and_ends():
    # 1,000 connections a second of 20 ms, on 100 flows that begin anew after 100 ms.
    options = {"count": 4000, "pps": 4000, "tunables": ["--clients", "50", "--ports", "2", "--life", "20"]}
    lives = collections.defaultdict(list)
    for packet in parsed("stl_churn", **options):
        lives[packet.flow].append(packet.payload[13])
    assert len(lives) == 100
    syn, ack, request, fin = 0x02, 0x10, 0x18, 0x11
    for flags in lives.values():
        lives_of_flow = [flags[at : at + 4] for at in range(0, len(flags), 4)]
        assert all(life == [syn, ack, request, fin][: len(life)] for life in lives_of_flow)


def test_many_vips_meet_many_clients():
    met = {(packet.source, packet.destination) for packet in parsed("stl_many_vips", count=1021 * 64)}
    assert len(met) == 1021 * 64
    assert {vip for _, vip in met} == set(shunt_lab.many_vips())


def test_fragments_are_whole_datagrams():
    # So slow that the last fragment has left before the next datagram begins.
    payloads = packets.reassemble(parsed("stl_fragments", count=900, pps=30_000))
    assert len(payloads) == 300
    assert {len(payload) for payload in payloads.values()} == {3000}
    assert {int.from_bytes(payload[4:6], "big") for payload in payloads.values()} == {3000}, "the length of the UDP header"


@pytest.mark.parametrize("tunables", [["--clients", "70000"], ["--ports", "0"]])
def test_tunables_that_cannot_work_are_refused(tunables):
    with pytest.raises(TRexError, match=r"1 to \d+ (clients|ports), not"):
        load_stateless("stl_udp64", tunables)


@pytest.mark.parametrize("name", STATELESS)
@pytest.mark.parametrize("tunable, said", [("--help", "--clients"), ("--nonsense", "unrecognized arguments")])
def test_tunables_are_explained(name, tunable, said, capfd):
    # argparse ends the program then, which TRex catches.
    assert STLProfile.load_py(str(PROFILES / f"{name}.py"), tunables=[tunable]) is None
    assert said in "".join(capfd.readouterr())


@pytest.mark.parametrize("line", ["--clients=5", "--clients 5", "clients=5", "--clients=5 --ports=3", "--clients=5,--ports=3"])
def test_tunables_are_taken_as_trexs_console_takes_them(line):
    """Its console makes "----clients 5" of "-t --clients=5"."""
    words = line.split()
    if "=" in line:
        words = [*convert_old_tunables_to_new_tunables(words[0]), *words[1:]]
    (stream,) = load_stateless("stl_udp64", words)
    (variable,) = [fields for fields in stream["vm"]["instructions"] if fields["type"] == "tuple_flow_var"]
    assert variable["ip_max"] - variable["ip_min"] + 1 == 5
    assert load_stateful("astf_long", [word for word in words if "ports" not in word and word != "3"])


def load_stateful(name, tunables=()):
    """A profile as TRex loads it, as the JSON that TRex's server gets."""
    return ASTFProfile.load(str(PROFILES / f"{name}.py"), tunables=list(tunables)).to_json()


@pytest.mark.parametrize("name", STATEFUL)
def test_servers_do_not_answer_to_the_director(name):
    """Direct routing: the reply goes to the client's side, not to the MAC address that the request came from."""
    assert load_stateful(name)["s_glob_info"]["ip"] == {"dont_use_inbound_mac": 1}


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("vips", [1, shunt_lab.MANY_VIPS])
def test_stateful_clients_go_to_configured_vips(name, vips, services):
    profile = load_stateful(name, ["--vips", str(vips)])
    ranges = {each["dir"]: each for each in profile["ip_gen_dist_list"]}
    first, last = (ipaddress.ip_address(ranges["s"][end]) for end in ("ip_start", "ip_end"))
    assert int(last) - int(first) + 1 == vips
    for template in profile["templates"]:
        port = template["client_template"]["port"]
        assert [rule["port"] for rule in template["server_template"]["assoc"]] == [port]
        assert all((first + number, port, "tcp") in services for number in range(vips))
    assert all(ipaddress.ip_address(ranges["c"][end]) in shunt_lab.CLIENTS for end in ("ip_start", "ip_end"))
    assert ranges["s"]["ip_offset"] == "0.0.0.0", "the next pair of ports has the same VIPs"


@pytest.mark.parametrize("name", STATEFUL)
def test_what_one_side_sends_the_other_waits_for(name):
    profile = load_stateful(name)
    buffers = [len(base64.b64decode(buffer)) for buffer in profile["buf_list"]]
    client, server = (program["commands"] for program in profile["program_list"])
    for sender, receiver in ((client, server), (server, client)):
        sent = [buffers[command["buf_index"]] for command in sender if command["name"] == "tx"]
        assert sent == [command["min_bytes"] for command in receiver if command["name"] == "rx"]


def test_long_connections_stay_as_many_as_asked_for():
    (template,) = load_stateful("astf_long", ["--connections", "77"])["templates"]
    assert template["client_template"]["limit"] == 77
    assert template["client_template"]["cont"] is True


def test_the_readme_names_every_profile():
    readme = (PROFILES.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in STATELESS + STATEFUL if f"`{name}`" not in readme] == []
