"""The command `ndr`, with a TRex client and a shuntctl that are made up: from its arguments to its report."""

import inspect
import json
import re
import sys
import xml.etree.ElementTree

import pytest
from scapy.layers.inet import IP
from trex.common.trex_api_annotators import client_api
from trex.stl.api import STLClient
from trex.utils.parsing_opts import decode_multiplier

from profiles_of_shunt import STATELESS
from shunt_ndr import __main__ as ndr
from shunt_ndr import generator, report
from shunt_ndr.search import Limit, Outcome, Settings, Step, Trial, Verdict

PORT = {"name": "lan", "device": "0000:03:00.0", "driver": "net_x", "speed_mbps": 10000, "rx_errors": 0, "rx_no_mbuf": 0}
STATUS = {
    "version": "9.9.9",
    "dpdk": "22.11",
    "hugepages": True,
    "workers": 2,
    "services": {"total": 66},
    "backends": {"total": 3},
}


class Setup:
    """A director with a limit, and a TRex client before it that knows the calls that `generator` makes."""

    # Frames of its own that the director sends during each trial, and at each look at its counters.
    own_in_trial = 0
    own_at_looks = 0
    driver = "net_x"
    # What comes in beside.
    strangers = 0

    def __init__(self, folder, limit_pps, most_pps=10**12):
        self.folder = folder
        self.limit_pps = limit_pps
        self.most_pps = most_pps
        self.sent = 123
        self.received = 45
        self.missed = 6
        self.full = 0
        self.own = 0
        self.looks = 0
        self.calls = []
        self.write_counters()

    def write_counters(self):
        """What the stand-in for shuntctl answers."""
        tx = {"tx_packets": self.received + self.own, "forwarded_packets": self.received}
        port = dict(PORT, driver=self.driver, rx_packets=self.received + self.full, rx_missed=self.missed, **tx)
        (self.folder / "port").write_text(json.dumps([port]), encoding="utf-8")
        full = {"reason": "tx_full", "fate": "drop", "packets": self.full}
        (self.folder / "drops").write_text(json.dumps([full]), encoding="utf-8")
        (self.folder / "status").write_text(json.dumps(STATUS), encoding="utf-8")

    def reset(self, ports):
        self.calls.append(("reset", ports))

    def set_port_attr(self, ports, promiscuous):
        self.calls.append(("promiscuous", ports, promiscuous))

    def add_streams(self, streams, ports):
        self.calls.append(("streams", [bytes(stream.pkt)[:14] for stream in streams], ports))

    def start(self, ports, mult, duration, force):
        assert force, "TRex refuses rates above what it takes for possible"
        pps = min(int(re.fullmatch(r"(\d+)pps", mult)[1]), self.most_pps)
        self.calls.append(("start", ports, mult, duration))
        self.sent += round(pps * duration)
        self.late = round(min(pps, self.limit_pps) * duration)
        lost = round(pps * duration) - self.late
        if self.driver == "net_memif":
            self.full += lost
        else:
            self.missed += lost

    def wait_on_traffic(self, ports, timeout):
        self.calls.append(("wait", ports))

    def drain(self, seconds):
        """Only now do the packets arrive."""
        self.calls.append(("drain", seconds))
        self.received += self.late
        self.own += self.own_in_trial
        self.write_counters()

    def get_stats(self, ports):
        received = self.received + self.own + self.strangers
        self.looks += 1
        if self.looks % 3 == 1 and self.own_at_looks:
            # Between TRex's counters and Shunt's.
            self.own += self.own_at_looks
            self.write_counters()
        return {0: {"opackets": self.sent, "ipackets": 9}, 1: {"opackets": 8, "ipackets": received}}

    def get_server_version(self):
        return {"version": "v3.08"}

    def get_server_system_info(self):
        return {"core_type": "Some CPU", "dp_core_count": 4}

    def disconnect(self):
        self.calls.append(("disconnect",))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `ndr` before a Setup, and returns its exit status."""
    shuntctl = tmp_path / "shuntctl"
    shuntctl.write_text(f'#!/usr/bin/env bash\ncat "{tmp_path}/$2"\n', encoding="utf-8")
    shuntctl.chmod(0o755)

    def run(setup, *arguments, connect=None):
        monkeypatch.setattr(generator, "connect", connect or (lambda server: setup))
        monkeypatch.setattr(generator.Generator.__init__, "__defaults__", (0, 1, 10.0, 1.0, setup.drain))
        command = ["ndr", "--shuntctl", str(shuntctl), "--out", str(tmp_path / "report" / "udp64"), "--profile", "stl_udp64"]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        return ndr.main()

    return run


def test_from_the_command_line_to_the_report(run, tmp_path, capsys):
    setup = Setup(tmp_path, limit_pps=2_500_000)
    status = run(setup, "--highest", "10M", "--resolution", "50k", "--seconds", "2", "--", "--clients", "100")
    assert status == 0
    found = json.loads((tmp_path / "report" / "udp64.json").read_text())
    assert 2_450_000 <= found["ndr_pps"] <= 2_500_000
    assert found["limit"] == "device"
    first = found["trials"][0]
    assert (first["asked"], first["sent"], first["lost"], first["verdict"]) == (20_000_000, 20_000_000, 15_000_000, "lost")
    assert [loss["packets"] for loss in first["losses"]] == [15_000_000]
    assert first["losses"][0]["reason"].startswith("rx_missed")
    assert found["about"]["shunt"]["version"] == "9.9.9"
    assert found["about"]["trex"] == {"version": "v3.08", "cpu": "Some CPU", "cores": 4}
    assert "Some CPU" in (tmp_path / "report" / "udp64.md").read_text()
    assert found["about"]["tunables"] == "--clients 100"
    assert f"{found['ndr_pps']:,} packets per second" in capsys.readouterr().out


def test_trex_is_asked_in_the_right_order(run, tmp_path):
    setup = Setup(tmp_path, limit_pps=10**9)
    run(setup, "--highest", "10M", "--seconds", "2", "--drain", "0.5", "--warm-up", "3")
    streams = [call for call in setup.calls if call[0] == "streams"]
    one_trial = [("start", [0], "10000000pps", 2.0), ("wait", [0]), ("drain", 0.5)]
    warm_up = [("start", [0], "1000pps", 3.0), ("wait", [0]), ("drain", 0.5)]
    expected = [("reset", [0, 1]), ("promiscuous", [0, 1], True), *streams, *warm_up, *one_trial * 4, ("disconnect",)]
    assert setup.calls == expected
    assert streams[0][2] == [0], "only the client's side sends"


def test_trexs_own_client_takes_these_calls():
    """The made-up client must not know more than the real one."""
    asked = ("reset", "set_port_attr", "add_streams", "start", "wait_on_traffic", "get_stats", "disconnect")
    for method in (*asked, "get_server_version", "get_server_system_info"):
        wanted = set(inspect.signature(getattr(Setup, method)).parameters)
        assert wanted <= set(inspect.signature(getattr(STLClient, method)).parameters), method
    assert decode_multiplier("1234567pps", allow_update=False)["value"] == 1234567


def test_ctrl_c_leaves_no_traffic_behind(run, tmp_path, monkeypatch, capsys):
    setup = Setup(tmp_path, 10**9)

    def interrupted(ports, timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "wait_on_traffic", interrupted)
    assert run(setup, "--highest", "10M") == 130
    # TRex's client stops what it has started when it disconnects.
    assert setup.calls[-1] == ("disconnect",)
    assert inspect.signature(STLClient.disconnect).parameters["stop_traffic"].default is True
    assert "interrupted" in capsys.readouterr().err


class Connection:
    """As much of the client's connection as its calls look at."""

    def __init__(self, lost):
        self.is_marked_for_disconnect = lambda: lost
        self.get_disconnection_cause = lambda: "the server is gone"
        self.is_connected = lambda: True
        self.sigint_on_conn_lost_enable = self.sigint_on_conn_lost_disable = lambda: None


@pytest.mark.parametrize("lost, status, says", [(False, 130, "interrupted"), (True, 2, "the server is gone")])
def test_ctrl_c_in_a_call_of_trexs_client_is_an_interruption_and_a_lost_connection_is_not(
    run, tmp_path, monkeypatch, capsys, lost, status, says
):
    """TRex's client makes an error of its own of both."""
    setup = Setup(tmp_path, 10**9)
    setup.conn = Connection(lost)

    def interrupted(client, ports, timeout):
        raise KeyboardInterrupt

    call = client_api("command", True)(interrupted)
    monkeypatch.setattr(setup, "wait_on_traffic", lambda ports, timeout: call(setup, ports, timeout))
    assert run(setup, "--highest", "10M") == status
    assert says in capsys.readouterr().err
    assert setup.calls[-1] == ("disconnect",)


def test_ctrl_c_while_connecting_is_an_interruption(run, tmp_path, monkeypatch):
    connect = generator.connect

    def interrupted(client):
        raise KeyboardInterrupt

    call = client_api("command", False)(interrupted)
    monkeypatch.setattr(STLClient, "connect", call)
    monkeypatch.setattr(STLClient, "conn", Connection(False), raising=False)
    assert run(Setup(tmp_path, 1), "--highest", "10M", connect=connect) == 130


def test_frames_of_the_directors_own_do_not_hide_a_loss(run, tmp_path):
    """Each trial loses two, and two announcements come in: nothing is lossless."""
    setup = Setup(tmp_path, limit_pps=10**9)
    setup.own_in_trial = 2
    start = setup.start

    def start_and_lose(ports, mult, duration, force):
        start(ports, mult, duration, force)
        setup.late -= 2

    setup.start = start_and_lose
    assert run(setup, "--highest", "10k", "--seconds", "1") == 1
    found = json.loads((tmp_path / "report" / "udp64.json").read_text())
    assert {(trial["lost"], trial["own_frames_of_shunt"]) for trial in found["trials"]} == {(2, 2)}


def test_frames_of_the_directors_own_between_two_looks_are_no_loss(run, tmp_path):
    setup = Setup(tmp_path, limit_pps=10**9)
    setup.own_in_trial, setup.own_at_looks = 3, 1
    assert run(setup, "--highest", "10k", "--seconds", "1") == 0
    found = json.loads((tmp_path / "report" / "udp64.json").read_text())
    assert {trial["lost"] for trial in found["trials"]} == {0}


def test_more_than_was_sent_is_an_error(run, tmp_path, capsys):
    setup = Setup(tmp_path, limit_pps=10**9)
    drain = setup.drain

    def drain_and_more(seconds):
        drain(seconds)
        setup.strangers += 1000

    setup.drain = drain_and_more
    assert run(setup, "--highest", "10k", "--seconds", "1") == 2
    found = json.loads((tmp_path / "report" / "udp64.json").read_text())
    assert (found["ndr_pps"], found["limit"], len(found["trials"])) == (None, "excess", 1)
    assert "more packets came back than were sent" in capsys.readouterr().out


@pytest.mark.parametrize("profile, bytes_of", [("stl_imix", 1514), ("stl_full_size", 1514), ("stl_fragments", 1514)])
def test_large_frames_are_not_sent_over_memif(run, tmp_path, capsys, profile, bytes_of):
    setup = Setup(tmp_path, 10**9)
    setup.driver = "net_memif"
    setup.write_counters()
    assert run(setup, "--highest", "10k", "--seconds", "1", "--profile", profile) == 2
    said = capsys.readouterr().err
    assert f"frames of {bytes_of} bytes" in said and "veth" in said
    assert setup.calls == [], "nothing was sent"


@pytest.mark.parametrize("profile", [name for name in STATELESS if name not in ("stl_imix", "stl_full_size", "stl_fragments")])
def test_all_other_profiles_fit_memif(profile):
    assert generator.largest_frame(generator.load(ndr.profile_path(profile), [])) <= ndr.MEMIF_FRAME


def test_on_memif_a_full_ring_is_the_receivers(run, tmp_path, capsys):
    setup = Setup(tmp_path, limit_pps=2_500_000)
    setup.driver = "net_memif"
    setup.write_counters()
    assert run(setup, "--highest", "10M", "--seconds", "1") == 0
    assert "the limit is the receiver" in capsys.readouterr().out
    report = (tmp_path / "report" / "udp64.md").read_text()
    assert "did not empty the device's ring in time" in report and "the limit is the device" not in report


def test_a_search_that_ends_early_reports_the_trials_until_then(run, tmp_path, monkeypatch, capsys):
    setup = Setup(tmp_path, limit_pps=2_500_000)

    def drain(seconds):
        Setup.drain(setup, seconds)
        if len([call for call in setup.calls if call[0] == "start"]) == 4:
            (tmp_path / "port").unlink()

    monkeypatch.setattr(setup, "drain", drain)
    assert run(setup, "--highest", "10M", "--seconds", "1") == 2
    found = json.loads((tmp_path / "report" / "udp64.json").read_text())
    assert (found["ndr_pps"], found["limit"], len(found["trials"])) == (None, "error", 2)
    said = capsys.readouterr()
    assert "exit status 1" in said.err
    assert "the search ended early" in said.out


def test_a_slow_generator_is_said(run, tmp_path, capsys):
    assert run(Setup(tmp_path, 10**9, most_pps=1_000_000), "--highest", "10M", "--seconds", "1") == 0
    assert "At least" in capsys.readouterr().out
    assert "the limit is the generator" in (tmp_path / "report" / "udp64.md").read_text()


def test_a_device_that_forwards_nothing_ends_with_1(run, tmp_path):
    assert run(Setup(tmp_path, 0), "--highest", "10M", "--seconds", "1") == 1
    assert json.loads((tmp_path / "report" / "udp64.json").read_text())["ndr_pps"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--highest", "10M", "--profile", "stl_nothing"], "does not exist"),
        (["--highest", "10M", "--", "--clients", "100000"], "clients"),
    ],
)
def test_a_profile_that_cannot_be_loaded_is_said(run, tmp_path, capsys, arguments, message):
    assert run(Setup(tmp_path, 1), *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "rate, pps", [("1", 1), ("1500k", 1_500_000), ("1.5M", 1_500_000), ("8.2M", 8_200_000), ("14880952", 14_880_952)]
)
def test_rates_are_read(rate, pps):
    assert ndr.rate(rate) == pps


@pytest.mark.parametrize(
    "arguments",
    [
        ["--highest", "0"],
        ["--highest", "fast"],
        ["--highest", "inf"],
        ["--highest", "nanM"],
        ["--highest", "1.5"],
        ["--highest", "1k", "--lowest", "2k"],
        ["--highest", "1k", "--out", "/dev/null/report"],
        [],
    ],
)
def test_wrong_usage_ends_with_2(run, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        run(Setup(tmp_path, 1), *arguments)
    assert ended.value.code == 2
    assert "ndr: error:" in capsys.readouterr().err


def test_no_server_is_said():
    with pytest.raises(generator.GeneratorError, match="No TRex server"):
        # The discard port: nobody answers.
        generator.connect("127.0.0.1", sync_port=9, async_port=9)


def outcome_of(*trials, ndr_pps=None, limit=Limit.DEVICE):
    """An outcome with these trials."""
    return Outcome(ndr_pps, limit, tuple(Step(trial, verdict, False) for trial, verdict in trials))


SETTINGS = Settings(1000, 10_000, 100)
LOST = (Trial(10_000, 1.0, 10_000, 9_000), Verdict.LOST)
PASSED = (Trial(5_000, 1.0, 5_000, 5_000), Verdict.PASSED)


@pytest.mark.parametrize(
    "outcome", [outcome_of(LOST), outcome_of(PASSED, ndr_pps=5_000), outcome_of(LOST, PASSED, ndr_pps=5_000)]
)
def test_the_chart_is_svg(tmp_path, outcome):
    _, markdown, chart = report.write(tmp_path / "x.y", outcome, SETTINGS, {"profile": "p"})
    assert xml.etree.ElementTree.parse(chart).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert f"]({chart.name})" in markdown.read_text()


def test_rates_over_decades_are_drawn_on_a_logarithmic_axis(monkeypatch, tmp_path):
    from matplotlib.axes import Axes

    scales = []
    set_xscale = Axes.set_xscale
    monkeypatch.setattr(Axes, "set_xscale", lambda axis, scale: (scales.append(scale), set_xscale(axis, scale)))
    low = (Trial(1_000, 1.0, 1_000, 1_000), Verdict.PASSED)
    report.write(tmp_path / "wide", outcome_of(PASSED, low, (Trial(10_000, 1.0, 10_000, 10_000), Verdict.PASSED)), SETTINGS, {})
    assert scales == ["log"]
    scales.clear()
    report.write(tmp_path / "narrow", outcome_of(PASSED, (Trial(10_000, 1.0, 10_000, 10_000), Verdict.PASSED)), SETTINGS, {})
    assert scales == []


def test_the_same_outcome_gives_the_same_files(tmp_path):
    def written():
        return [path.read_bytes() for path in report.write(tmp_path / "r", outcome_of(LOST, PASSED), SETTINGS, {})]

    assert written() == written()


def test_a_rate_with_some_loss_is_not_called_lossless():
    settings = Settings(1000, 10_000, 100, loss_ratio=0.001)
    assert "with a loss of at most 0.1" in report.as_markdown(outcome_of(PASSED), settings, {})


def test_streams_are_of_the_profile_that_is_asked_for():
    (stream,) = generator.load(ndr.profile_path("stl_tcp64"), [])
    assert IP(bytes(stream.pkt)[14:]).proto == 6
