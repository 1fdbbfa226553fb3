"""UDP packets of 1,500 bytes, the largest without jumbo frames: where the link is the limit, not the director.

Not over memif, whose driver in TRex breaks the ring with frames above 128 bytes: take veth (cfg/veth.yaml) or a NIC.
"""

from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, udp, write_source_port

# 1,500 bytes of IP, the Ethernet header, the Ethernet checksum.
FRAME = 1500 + 14 + 4


class FullSize:
    """One stream: all clients in turn, then their next port."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = parser_of(__doc__, clients=1024, ports=16).parse_args(tunables)
        vm = flows(args.clients, args.ports)
        write_source_port(vm, "client.port", "UDP", args.checksums)
        return [stream(udp(FRAME), vm)]


def register():
    """What TRex calls."""
    return FullSize()
