"""Clients of unequal diligence: the k-th sends in proportion to 1 / k^s (Zipf), as visitors of a popular site do."""

import random

from trex.stl.api import STLVM

import shunt_lab
from shunt_streams import stream, tcp, write_source_port


def zipf_list(clients, entries, exponent):
    """Clients by number, each as often as its share of so many entries says, and at least once.

    Shares are rounded down; what is left goes to those that rounding has cost most.
    """
    weights = [1 / rank**exponent for rank in range(1, clients + 1)]
    shares = [(entries - clients) * weight / sum(weights) for weight in weights]
    counts = [1 + int(share) for share in shares]
    by_remainder = sorted(range(clients), key=lambda client: int(shares[client]) - shares[client])
    for client in by_remainder[: entries - sum(counts)]:
        counts[client] += 1
    return [client for client, count in enumerate(counts) for _ in range(count)]


class Zipf:
    """One stream that goes through a shuffled list of clients, the busy ones in it many times."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        parser = shunt_lab.tunables(__doc__, clients=1000, ports=251)
        parser.add_argument("--exponent", type=float, default=1.0, help="s: the larger, the more the busiest have")
        # TRex keeps the list in the stream's program, which must stay below 64 KiB.
        parser.add_argument("--entries", type=int, default=8192, help="entries of the list, 15000 at the most")
        args = parser.parse_args(tunables)
        if not args.clients <= args.entries <= 15000:
            parser.error("--entries: at least as many as clients, 15000 at the most")
        return [stream(tcp(), self.sources(args))]

    @staticmethod
    def sources(args):
        """The program: the next client of the list, and a port that goes round at another pace."""
        shunt_lab.client_range(args.clients)
        clients = zipf_list(args.clients, args.entries, args.exponent)
        random.Random(1).shuffle(clients)
        vm = STLVM()
        first, last = shunt_lab.port_range(args.ports)
        vm.var(name="port", min_value=first, max_value=last, size=2, op="inc")
        addresses = [int(shunt_lab.CLIENTS[1]) + client for client in clients]
        vm.var(name="client", min_value=None, max_value=None, size=4, op="inc", value_list=addresses)
        vm.write(fv_name="client", pkt_offset="IP.src")
        write_source_port(vm, "port", "TCP", args.checksums)
        return vm


def register():
    """What TRex calls."""
    return Zipf()
