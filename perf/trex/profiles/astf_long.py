"""Long connections: so many at a time, each asks, waits, and asks again, for minutes.

Change the backends' weights meanwhile (shuntctl backend edit): no connection may break. TRex counts those that do: tcps_drops,
and retransmissions that stay. That proves that no packet is lost, and no more: TRex's server port is every backend, so a
connection whose packets go to another backend in the middle goes on as if nothing had happened. Whether a flow has moved shows
in a capture at that port, where each backend has a MAC address of its own: perf/trex/moved-flows.
"""

from trex.astf.api import ASTFProgram

import shunt_dr


class Long:
    """One template: rounds of request, response and silence."""

    def get_profile(self, tunables, **kwargs):
        """TRex asks for the profile."""
        parser = shunt_dr.tunables(__doc__)
        parser.add_argument("--cps", type=float, default=100.0, help="connections a second until there are as many as wanted")
        parser.add_argument("--connections", type=int, default=10000, help="connections at a time")
        parser.add_argument("--rounds", type=int, default=120, help="requests on a connection")
        parser.add_argument("--silence", type=int, default=1000, help="milliseconds between them")
        parser.add_argument("--size", type=int, default=512, help="bytes of a response's body")
        args = parser.parse_args(tunables)
        client, server = self.client(args), self.server(args)
        return shunt_dr.profile(args, client, server, cps=args.cps, limit=args.connections, cont=True)

    @staticmethod
    def client(args):
        """The client's program."""
        program = ASTFProgram()
        program.set_var("rounds", args.rounds)
        program.set_label("ask")
        program.send(shunt_dr.REQUEST)
        program.recv(len(shunt_dr.response(args.size)), True)
        program.delay(args.silence * 1000)
        program.jmp_nz("rounds", "ask")
        return program

    @staticmethod
    def server(args):
        """The server's program."""
        program = ASTFProgram()
        program.set_var("rounds", args.rounds)
        program.set_label("answer")
        program.recv(len(shunt_dr.REQUEST), True)
        program.send(shunt_dr.response(args.size))
        program.jmp_nz("rounds", "answer")
        return program


def register():
    """What TRex calls."""
    return Long()
