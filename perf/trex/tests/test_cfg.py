"""The port configurations of TRex, and what they say about the director's."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from conftest import TREX

FILES = sorted((TREX / "cfg").glob("*.yaml"))
SHUNT_MAC = "02:00:00:00:aa:00"


def load(file):
    """The configuration in a file: TRex takes a list with one element."""
    (configuration,) = yaml.safe_load(file.read_text(encoding="utf-8"))
    return configuration


def shuntd_config_of(file):
    """The arguments of shuntd-config that the file's comment gives, over several lines where they are long."""
    comment = " ".join(
        line.lstrip("# ").strip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    command = re.search(r"shuntd-config (--client-port.*?)(?= t-rex-64| #|$)", comment)
    return shlex.split(command[1])


def test_there_is_one_for_each_kind_of_device():
    assert [file.stem for file in FILES] == ["memif-low-end", "memif", "pci", "veth-low-end", "veth"]


LOW_END = [file for file in FILES if file.stem.endswith("-low-end")]
VIRTUAL = [file for file in FILES if file.stem != "pci"]
COMMON = {"version", "port_limit", "interfaces", "limit_memory", "port_info"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_trex_knows_every_key(file):
    configuration = load(file)
    assert set(configuration) <= COMMON | {"c", "platform", "low_end", "low_end_core"}
    assert (configuration["version"], configuration["port_limit"], len(configuration["interfaces"])) == (2, 2, 2)


@pytest.mark.parametrize("file", [file for file in FILES if file not in LOW_END], ids=lambda file: file.stem)
def test_each_core_has_one_thread(file):
    configuration = load(file)
    assert not configuration.keys() & {"low_end", "low_end_core"}
    platform = configuration["platform"]
    assert set(platform) == {"master_thread_id", "latency_thread_id", "dual_if"}
    (pair,) = platform["dual_if"]
    cores = [platform["master_thread_id"], platform["latency_thread_id"], *pair["threads"]]
    assert len(set(cores)) == len(cores)
    assert len(pair["threads"]) == configuration.get("c", 1)


@pytest.mark.parametrize("file", LOW_END, ids=lambda file: file.stem)
def test_on_two_cores_trex_has_one_and_the_rest_is_as_on_more(file):
    """Shunt's worker has core 1."""
    configuration = load(file)
    assert (configuration.pop("low_end"), configuration.pop("low_end_core")) == (True, 0)
    other = load(file.with_name(file.name.replace("-low-end", "")))
    assert other.pop("platform")
    assert configuration == other
    text = file.read_text(encoding="utf-8")
    assert f"t-rex-64 -i --cfg {file.name}" in text and f"{file.name} -c" not in text


def devices(file):
    """All memif devices in a file, those of the director among them."""
    return re.findall(r"net_memif[^\s\"]*", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", [file for file in FILES if "memif" in file.stem], ids=lambda file: file.stem)
def test_memifs_have_long_rings_at_both_ends(file):
    """With the default, the result is how often the generator comes round: 63,468 packets a second instead of 2,238,535."""
    assert len(devices(file)) == 4
    assert all(",rsize=14," in device for device in devices(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_clients_send_to_shunt_and_servers_to_the_clients(file):
    clients, backends = load(file)["port_info"]
    assert clients["dest_mac"] == SHUNT_MAC
    assert backends["dest_mac"] == clients["src_mac"], "direct routing: replies go past Shunt"
    macs = [clients["src_mac"], backends["src_mac"], SHUNT_MAC]
    assert all(re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", mac) for mac in macs)
    assert len(set(macs)) == 3


@pytest.mark.parametrize("file", VIRTUAL, ids=lambda file: file.stem)
def test_the_command_for_the_director_makes_a_good_configuration(file, programs, tmp_path):
    arguments = shuntd_config_of(file)
    if "--backend-mac" in arguments:
        assert arguments[arguments.index("--backend-mac") + 1] == load(file)["port_info"][1]["src_mac"]
    made = subprocess.run([sys.executable, TREX / "shuntd-config", *arguments], capture_output=True, text=True, check=True).stdout
    (tmp_path / "shuntd.toml").write_text(made, encoding="utf-8")
    checked = subprocess.run(
        [programs / "shuntd", "--check", tmp_path / "shuntd.toml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("wrong", [["--backends", "240"], ["--vips", "0"], ["--workers", "x"], []])
def test_a_director_that_cannot_be_is_refused(wrong):
    arguments = ["--client-port", "0000:03:00.0", *wrong] if wrong else []
    done = subprocess.run([sys.executable, TREX / "shuntd-config", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "shuntd-config:" in done.stderr
