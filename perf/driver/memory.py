"""Packet memory: the same for both programs."""

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from threads import RunError

# What shuntd takes for a port and a worker, if nobody says otherwise; and what may be on its way of it.
USUAL = 16_383
ON_ITS_WAY = 8_192
# A buffer: 2 KiB, and what belongs to it. In plain pages, each has a page of its own.
BUFFER = 2_400
PLAIN_BUFFER = 4_096
# DPDK's own, and rings.
OVERHEAD_MIB = 128

PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
MOUNTPOINT = "/dev/hugepages"


@dataclass(frozen=True)
class Memory:
    """So many packet buffers, in hugepages or plain pages."""

    mbufs: int
    hugepages: bool

    @classmethod
    def for_frames(cls, preloaded, hugepages):
        """With room for what the pcap driver keeps, and for what is on its way."""
        # Mempools like a power of two less one.
        return cls(max(USUAL, 2 ** (preloaded + ON_ITS_WAY).bit_length() - 1), hugepages)

    def mib(self):
        return (self.mbufs * (BUFFER if self.hugepages else PLAIN_BUFFER) >> 20) + OVERHEAD_MIB

    def testpmd_arguments(self):
        return ["--huge-unlink"] if self.hugepages else ["--no-huge", "-m", str(self.mib())]


@contextmanager
def reserved_hugepages(root, mib):
    """Hugepages of 2 MiB for the time of the bench; afterwards there are as many as before."""
    if not PAGES.exists():
        raise RunError("This kernel has no hugepages of 2 MiB")
    before, mounted, wanted = int(PAGES.read_text()), is_mounted(), (mib + 1) // 2
    command = [root / "scripts" / "setup-hugepages", "--count", str(before + wanted)]
    # Who interrupts it while it reserves them has some of them reserved.
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RunError(f"{wanted} hugepages cannot be reserved: {done.stderr.strip()}")
        yield
    finally:
        PAGES.write_text(str(before))
        if not mounted and is_mounted():
            subprocess.run(["umount", MOUNTPOINT], check=False)


def is_mounted():
    return f" {MOUNTPOINT} hugetlbfs " in Path("/proc/mounts").read_text()
