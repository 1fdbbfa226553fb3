"""All profiles, as the tests see them."""

import sys

from trex.stl.api import STLProfile

from conftest import PROFILES
from field_engine import profile_frames

STATELESS = sorted(path.stem for path in PROFILES.glob("stl_*.py"))
STATEFUL = sorted(path.stem for path in PROFILES.glob("astf_*.py"))


def load_stateless(name, tunables=()):
    """A profile as TRex loads it, as the JSON that TRex's server gets."""
    sys.dont_write_bytecode = True
    profile = STLProfile.load(str(PROFILES / f"{name}.py"), direction=0, port_id=0, tunables=list(tunables))
    return profile.to_json()


def frames_of(name, count=3000, pps=1_000_000, tunables=()):
    """The first frames that TRex sends."""
    return profile_frames(load_stateless(name, tunables), count, pps)
