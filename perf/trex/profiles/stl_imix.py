"""The simple Internet mix: UDP frames of 64, 594 and 1518 bytes as 7 : 4 : 1.

Not over memif, whose driver in TRex breaks the ring with frames above 128 bytes: take veth (cfg/veth.yaml) or a NIC.
"""

from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, udp, write_source_port

# Frame size with the Ethernet checksum, and its share.
MIX = [(64, 7), (594, 4), (1518, 1)]


class Imix:
    """A stream for each size; each goes through all flows."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = parser_of(__doc__, clients=1024, ports=16).parse_args(tunables)
        return [self.of_size(args, size, share) for size, share in MIX]

    @staticmethod
    def of_size(args, size, share):
        """The stream of one frame size."""
        vm = flows(args.clients, args.ports)
        write_source_port(vm, "client.port", "UDP", args.checksums)
        return stream(udp(size), vm, pps=share)


def register():
    """What TRex calls."""
    return Imix()
