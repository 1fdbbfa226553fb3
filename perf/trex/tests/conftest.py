"""Paths, and the daemon to test with."""

import os
import sys
from pathlib import Path

import dpkt  # noqa: F401  (before TRex puts its own on the path, as the next)
import pytest
import yaml  # noqa: F401  (TRex's own is too old for this Python)

TREX = Path(__file__).resolve().parent.parent
REPOSITORY = TREX.parent.parent
PROFILES = TREX / "profiles"
sys.path[:0] = [str(TREX), str(PROFILES)]

import lbr_trex_client  # noqa: E402, F401  (puts TRex's own packages on the path)
import trex.stl.api  # noqa: E402, F401  (and this its scapy)


def pytest_addoption(parser):
    """Where the programs are."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    parser.addoption("--bin", default=str(target / "release"), help="the folder of shuntd and shuntctl")


@pytest.fixture(scope="session")
def programs(request):
    """The folder of shuntd and shuntctl."""
    return Path(request.config.getoption("--bin")).absolute()
