"""TCP over IPv6 and many flows, in the smallest frames there are for it: 78 bytes."""

from shunt_lab import VIP_IPV6
from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, tcp, write_source_port


class Ipv6:
    """One stream of ACKs: all clients in turn, then their next port."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = parser_of(__doc__, clients=1024, ports=64).parse_args(tunables)
        vm = flows(args.clients, args.ports, layer="IPv6")
        write_source_port(vm, "client.port", "TCP", args.checksums, ip_layer="IPv6")
        return [stream(tcp(dst=VIP_IPV6), vm)]


def register():
    """What TRex calls."""
    return Ipv6()
