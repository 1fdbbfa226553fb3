"""Fragmented UDP: datagrams of three fragments, of which only the first has ports. All must reach the same backend.

The UDP checksum is 0, none, as RFC 768 allows: TRex has no instruction that computes one over several packets.

Not over memif, whose driver in TRex breaks the ring with frames above 128 bytes: take veth (cfg/veth.yaml) or a NIC.
"""

from trex.stl.api import IP, STLVM, UDP

import shunt_lab
from shunt_streams import stream

# Payload of each fragment but the last: a multiple of 8, the unit of fragment offsets.
STEP = 1480
SIZES = [STEP, STEP, 40]


class Fragments:
    """A stream for each fragment of a datagram: the same clients and identifications in the same order.

    They start a little behind each other. Where TRex's cores mix them up all the same, Shunt holds what comes before its first.
    """

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        parser = shunt_lab.tunables(__doc__, clients=1021)
        parser.add_argument("--gap", type=float, default=10.0, help="microseconds between the fragments of a datagram")
        args = parser.parse_args(tunables)
        return [stream(fragment, self.sources(args), isg=number * args.gap) for number, fragment in enumerate(datagram())]

    @staticmethod
    def sources(args):
        """The program: the next client, the next identification, the header's checksum."""
        vm = STLVM()
        first, last = shunt_lab.client_range(args.clients)
        vm.var(name="client", min_value=first, max_value=last, size=4, op="inc")
        vm.var(name="id", min_value=1, max_value=65535, size=2, op="inc")
        vm.write(fv_name="client", pkt_offset="IP.src")
        vm.write(fv_name="id", pkt_offset="IP.id")
        vm.fix_chksum(offset="IP")
        return vm


def datagram():
    """The fragments of a datagram."""
    header = bytes(UDP(sport=shunt_lab.FIRST_PORT, dport=shunt_lab.UDP_PORT, len=sum(SIZES), chksum=0))
    payload = header + b"\x55" * (sum(SIZES) - len(header))
    offset = 0
    for size in SIZES:
        more = offset + size < sum(SIZES)
        head = IP(dst=str(shunt_lab.VIP), proto=17, flags="MF" if more else 0, frag=offset // 8)
        yield head / payload[offset : offset + size]
        offset += size


def register():
    """What TRex calls."""
    return Fragments()
