"""A SYN flood: each packet begins a connection, from a random client and port."""

from trex.stl.api import STLVM

import shunt_lab
from shunt_streams import stream, tcp, write_source_port

# TRex's random numbers have 15 bits, two of them make a 32-bit number whose bits 15 and 31 are never set. Within a range that is
# a power of two, half of the clients would never appear; within a prime, all do.
CLIENTS = 65521
# The most that 15 bits reach.
PORTS = 32768


class SynFlood:
    """One stream: SYNs from random clients."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        args = shunt_lab.tunables(__doc__, clients=CLIENTS, ports=PORTS).parse_args(tunables)
        return [stream(tcp("S"), self.random_sources(args))]

    @staticmethod
    def random_sources(args):
        """The program: a random client, a random port."""
        vm = STLVM()
        first, last = shunt_lab.client_range(args.clients)
        vm.var(name="client", min_value=first, max_value=last, size=4, op="random")
        first, last = shunt_lab.port_range(args.ports)
        vm.var(name="port", min_value=first, max_value=last, size=2, op="random")
        vm.write(fv_name="client", pkt_offset="IP.src")
        write_source_port(vm, "port", "TCP", args.checksums)
        return vm


def register():
    """What TRex calls."""
    return SynFlood()
