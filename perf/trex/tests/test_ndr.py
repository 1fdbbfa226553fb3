"""The command `ndr`, with a TRex client and a shuntctl that are made up: from its arguments to its report."""

import inspect
import json
import re
import sys
import xml.etree.ElementTree

import pytest
from scapy.layers.inet import IP
from trex.stl.api import STLClient
from trex.utils.parsing_opts import decode_multiplier

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

    def __init__(self, folder, limit_pps, most_pps=10**12):
        self.folder = folder
        self.limit_pps = limit_pps
        self.most_pps = most_pps
        self.sent = 123
        self.received = 45
        self.missed = 6
        self.calls = []
        self.write_counters()

    def write_counters(self):
        """What the stand-in for shuntctl answers."""
        port = dict(PORT, rx_packets=self.received, tx_packets=self.received, rx_missed=self.missed)
        (self.folder / "port").write_text(json.dumps([port]), encoding="utf-8")
        (self.folder / "drops").write_text("[]", encoding="utf-8")
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
        self.missed += round(pps * duration) - self.late

    def wait_on_traffic(self, ports, timeout):
        self.calls.append(("wait", ports))

    def drain(self, seconds):
        """Only now do the packets arrive."""
        self.calls.append(("drain", seconds))
        self.received += self.late
        self.write_counters()

    def get_stats(self, ports):
        return {0: {"opackets": self.sent, "ipackets": 9}, 1: {"opackets": 8, "ipackets": self.received}}

    def disconnect(self):
        self.calls.append(("disconnect",))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `ndr` before a Setup, and returns its exit status."""
    shuntctl = tmp_path / "shuntctl"
    shuntctl.write_text(f'#!/usr/bin/env bash\ncat "{tmp_path}/$2"\n', encoding="utf-8")
    shuntctl.chmod(0o755)

    def run(setup, *arguments):
        monkeypatch.setattr(generator, "connect", lambda server: setup)
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
    for method in ("reset", "set_port_attr", "add_streams", "start", "wait_on_traffic", "get_stats", "disconnect"):
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
