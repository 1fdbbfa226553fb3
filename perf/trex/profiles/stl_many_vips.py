"""64-byte TCP to many VIPs, a service each: what the lookup of a service costs when there are many."""

import shunt_lab
from shunt_streams import flows, stream, tcp, write_source_port


class ManyVips:
    """One stream: with each packet the next client and the next VIP."""

    def get_streams(self, direction, tunables, **kwargs):
        """TRex asks for the streams."""
        # A prime number of clients, so that each of them gets round to each VIP.
        parser = shunt_lab.tunables(__doc__, clients=1021, ports=16)
        parser.add_argument("--vips", type=int, default=shunt_lab.MANY_VIPS, help="as given to perf/trex/shuntd-config")
        args = parser.parse_args(tunables)
        vips = shunt_lab.many_vips(args.vips)
        vm = flows(args.clients, args.ports)
        vm.var(name="vip", min_value=str(vips[0]), max_value=str(vips[-1]), size=4, op="inc")
        vm.write(fv_name="vip", pkt_offset="IP.dst")
        write_source_port(vm, "client.port", "TCP", args.checksums)
        return [stream(tcp(dst=vips[0]), vm)]


def register():
    """What TRex calls."""
    return ManyVips()
