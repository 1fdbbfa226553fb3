"""64-byte UDP over many flows: the plain measure of packets per second."""

from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, udp, write_source_port


class Udp64:
    """One stream: all clients in turn, then their next port."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = parser_of(__doc__, clients=1024, ports=64).parse_args(tunables)
        vm = flows(args.clients, args.ports)
        write_source_port(vm, "client.port", "UDP", args.checksums)
        return [stream(udp(64), vm)]


def register():
    """What TRex calls."""
    return Udp64()
