"""Connection churn: short TCP connections, each a SYN, an ACK, a request and a FIN; clients x ports of them, then again."""

from shunt_lab import tunables as parser_of
from shunt_streams import flows, stream, tcp, write_source_port

# Flags, payload, and when in the life of a connection: 0 at its beginning, 1 at its end.
LIFE = [
    ("S", b"", 0.0),
    ("A", b"", 0.1),
    ("PA", b"GET / HTTP/1.1\r\nHost: shunt\r\n\r\n", 0.2),
    ("FA", b"", 1.0),
]

# A stream that begins later ends with the others: what it has not sent while it waited is missing.
HELP = "how long a connection lives, in milliseconds; a trial must last many times as long, or it sends less than was asked for"


class Churn:
    """A stream for each packet of a connection. They go through the same flows in the same order, one behind the other."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        parser = parser_of(__doc__, clients=8191, ports=61)
        parser.add_argument("--life", type=int, default=100, help=HELP)
        args = parser.parse_args(tunables)
        return [self.packet_of_all(args, *packet) for packet in LIFE]

    @staticmethod
    def packet_of_all(args, flags, payload, when):
        """The stream that sends one packet of each connection; what it waits for is in microseconds."""
        vm = flows(args.clients, args.ports)
        write_source_port(vm, "client.port", "TCP", args.checksums)
        return stream(tcp(flags, payload=payload), vm, isg=when * args.life * 1000.0)


def register():
    """What TRex calls."""
    return Churn()
