"""Packet memory: the same for both programs."""

from dataclasses import dataclass
from pathlib import Path

# What shuntd takes for a port and a worker, if nobody says otherwise.
USUAL = 16_383
# In plain pages, each buffer (2 KiB and what belongs to it) has a page of its own.
BUFFER = 4_096


@dataclass(frozen=True)
class Memory:
    """So many packet buffers, in hugepages or plain pages."""

    mbufs: int
    hugepages: bool

    @classmethod
    def for_frames(cls, preloaded, hugepages):
        """With room for what the pcap driver keeps, and for what is on its way."""
        # The driver keeps its frames in a ring whose size is a power of two.
        return cls(max(USUAL, 2 ** (preloaded + USUAL).bit_length() - 1), hugepages)

    def mib(self):
        return (self.mbufs * BUFFER >> 20) + 128

    def testpmd_arguments(self):
        return ["--huge-unlink"] if self.hugepages else ["--no-huge", "-m", str(self.mib())]


def free_hugepages_mib():
    """Of 2 MiB, if a file system for them is mounted."""
    mounted = any(line.split()[2] == "hugetlbfs" for line in Path("/proc/mounts").read_text().splitlines())
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(free.read_text()) * 2 if mounted and free.exists() else 0
