"""What the stateful profiles have in common: clients, VIPs, and how a server answers in direct routing."""

from trex.astf.api import (
    ASTFGlobalInfo,
    ASTFIPGen,
    ASTFIPGenDist,
    ASTFIPGenGlobal,
    ASTFProfile,
    ASTFTCPClientTemplate,
    ASTFTCPServerTemplate,
    ASTFTemplate,
)

import shunt_lab

REQUEST = b"GET /3384 HTTP/1.1\r\nHost: shunt\r\nConnection: keep-alive\r\n\r\n"


def response(size):
    """An HTTP response with a body of so many bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"*" * size


def addresses(clients, vips):
    """Clients and VIPs, each in turn."""
    first, last = shunt_lab.client_range(clients)
    servers = shunt_lab.many_vips(vips)
    return ASTFIPGen(
        # What TRex adds to the addresses for its next pair of ports: other clients (as many pairs as the clients' network has
        # room for), the same VIPs.
        glob=ASTFIPGenGlobal(ip_offset="0.0.64.0", ip_offset_server="0.0.0.0"),
        dist_client=ASTFIPGenDist(ip_range=[first, last], distribution="seq"),
        dist_server=ASTFIPGenDist(ip_range=[str(servers[0]), str(servers[-1])], distribution="seq"),
    )


def server_side():
    """How TRex's servers behave behind a director in direct routing.

    TRex answers to the MAC address that a packet came from. Behind Shunt, that is Shunt's: it would get the replies of the VIP,
    which in direct routing go to the client straight, and drop them as return_via_director. With this setting, TRex answers to
    the destination of its port configuration (port_info's dest_mac, in cfg/), the client's side.
    """
    info = ASTFGlobalInfo()
    info.ip.dont_use_inbound_mac = 1
    return info


def profile(args, client_program, server_program, **client_options):
    """One template: clients of the VIPs' TCP port, and their servers."""
    ip_gen = addresses(args.clients, args.vips)
    client = ASTFTCPClientTemplate(port=shunt_lab.TCP_PORT, program=client_program, ip_gen=ip_gen, **client_options)
    server = ASTFTCPServerTemplate(program=server_program)
    return ASTFProfile(
        default_ip_gen=ip_gen,
        default_s_glob_info=server_side(),
        templates=ASTFTemplate(client_template=client, server_template=server),
    )


def tunables(description):
    """A parser of the tunables of all stateful profiles."""
    parser = shunt_lab.tunables(description, clients=4096)
    parser.add_argument("--vips", type=int, default=shunt_lab.MANY_VIPS, help="as given to perf/trex/shuntd-config")
    return parser
