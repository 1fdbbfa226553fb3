"""What is measured."""

from dataclasses import asdict, dataclass

import network
from frames import ACK, SYN, TCP, UDP, frame

# Simple IMIX: 7 small, 4 medium, 1 large frame of twelve, as 64, 570 and 1500 bytes.
IMIX = (64, 570, 64, 64, 570, 64, 1500, 64, 570, 64, 570, 64)


@dataclass(frozen=True)
class PcapCase:
    """shuntd beside testpmd, with frames of DPDK's pcap driver."""

    name: str
    title: str
    version: int = 4
    protocol: int = TCP
    flows: int = 1024
    services: int = 1
    backends: int = 16
    flags: int = ACK
    sizes: tuple = (64,)
    # Of two frames, one is for a port of the VIP that has no service.
    half_stray: bool = False
    tracking: str = "exceptions"

    def frames(self):
        """One frame of each flow; of mixed sizes, as many as the mixture has."""
        for number in range(self.flows * len(self.sizes)):
            flow = number % self.flows
            stray = self.half_stray and flow % 2 == 1
            yield frame(
                self.protocol,
                network.client(flow, self.version),
                network.vip(flow % self.services, self.version),
                (network.client_port(flow), network.STRAY_PORT if stray else network.PORT),
                self.flags,
                self.sizes[number % len(self.sizes)],
                flow,
            )

    def preloaded(self):
        """How many frames the driver holds."""
        return self.flows * len(self.sizes)

    def settings(self):
        return {**asdict(self), "protocol": "tcp" if self.protocol == TCP else "udp", "kind": "pcap"}


@dataclass(frozen=True)
class GeneratorCase:
    """A worker beside a bare rewrite of MAC addresses, in one process, with frames of a generator."""

    name: str
    title: str
    flows: tuple
    arguments: tuple = ()

    def label(self, flows):
        """A group's name."""
        title = f"generator: {self.title}"
        return title if "--syn" in self.arguments else f"{title}, {flows:,} flows"

    def settings(self):
        return {**asdict(self), "kind": "generator"}


@dataclass(frozen=True)
class WorkersCase:
    """Two workers of one process beside two processes of one worker, and beside one worker alone; a generator's frames."""

    name: str
    title: str

    def settings(self):
        return {**asdict(self), "kind": "workers"}


FIRST = "ipv4-tcp"

CASES = (
    PcapCase(FIRST, "IPv4 TCP, 1,024 flows"),
    PcapCase("ipv4-udp", "IPv4 UDP, 1,024 flows", protocol=UDP),
    PcapCase("ipv6-tcp", "IPv6 TCP, 1,024 flows (78-byte frames)", version=6),
    PcapCase("ipv6-udp", "IPv6 UDP, 1,024 flows (66-byte frames)", version=6, protocol=UDP),
    PcapCase("flows-100k", "100,000 flows", flows=100_000),
    PcapCase("flows-500k", "500,000 flows", flows=500_000),
    PcapCase("backends-1", "1 backend", backends=1),
    PcapCase("backends-256", "256 backends", backends=256),
    PcapCase("services-1000", "1,000 services, 2,000 flows", flows=2_000, services=1_000),
    PcapCase("services-1000-100k", "1,000 services, 100,000 flows", flows=100_000, services=1_000),
    PcapCase("syn-flood", "SYN flood from 65,536 sources", flows=65_536, flags=SYN),
    PcapCase("half-dropped", "50 % dropped: no such service", half_stray=True),
    PcapCase("tracking-all", 'tracking = "all", 1,024 flows', tracking="all"),
    PcapCase("imix", "imix: 64, 570, 1500 bytes as 7:4:1", sizes=IMIX),
    PcapCase("bytes-1500", "1500-byte frames", sizes=(1500,)),
    GeneratorCase("gen-flows", "steady", (1_000, 1_000_000, 10_000_000)),
    GeneratorCase("gen-services", "1,000 services", (1_000_000,), ("--services", "1000")),
    GeneratorCase("gen-syn-flood", "SYN flood, each a new flow", (500_000_000_000,), ("--syn",)),
    GeneratorCase("gen-hand-over", "hand-over of all flows", (1_000_000,), ("--state", "hand-over")),
    GeneratorCase("gen-tracking-all", 'tracking = "all"', (1_000_000,), ("--state", "tracking")),
    WorkersCase("two-workers", "2 workers of one process, 2 processes, 1 worker"),
)


def named(names):
    """The cases of these names, in the order of the list; and the names that no case has."""
    known = {case.name for case in CASES}
    return [case for case in CASES if case.name in names], [name for name in names if name not in known]
