"""HTTP connections a second: each asks once, gets its answer and ends."""

from trex.astf.api import ASTFProgram

import shunt_dr


class Http:
    """One template: a request, a response, the end."""

    def get_profile(self, tunables, **kwargs):
        """TRex asks for the profile."""
        parser = shunt_dr.tunables(__doc__)
        parser.add_argument("--cps", type=float, default=1.0, help="connections a second, times TRex's multiplier")
        parser.add_argument("--size", type=int, default=3384, help="bytes of a response's body")
        args = parser.parse_args(tunables)
        answer = shunt_dr.response(args.size)
        client = ASTFProgram()
        client.send(shunt_dr.REQUEST)
        client.recv(len(answer))
        server = ASTFProgram()
        server.recv(len(shunt_dr.REQUEST))
        server.send(answer)
        return shunt_dr.profile(args, client, server, cps=args.cps)


def register():
    """What TRex calls."""
    return Http()
