"""64-byte TCP over many flows, packets of running connections: what most of a web service's requests look like to Shunt."""

from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, tcp, write_source_port


class Tcp64:
    """One stream of ACKs: all clients in turn, then their next port."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = parser_of(__doc__, clients=1024, ports=64).parse_args(tunables)
        vm = flows(args.clients, args.ports)
        write_source_port(vm, "client.port", "TCP", args.checksums)
        return [stream(tcp(), vm)]


def register():
    """What TRex calls."""
    return Tcp64()
