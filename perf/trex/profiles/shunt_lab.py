"""The laboratory's addresses: what the profiles send to, and what perf/trex/shuntd-config configures.

The profiles lie beside this module, and TRex puts a profile's folder on Python's path when it loads it. Nothing here needs
TRex, so that the director can make its configuration without.
"""

import argparse
import ipaddress

# 198.18.0.0/15 is for measurements of network devices (RFC 2544, RFC 6815): nobody routes it.
CLIENTS = ipaddress.ip_network("198.18.0.0/16")
# The VIP of all profiles but those for many VIPs.
VIP = ipaddress.ip_address("198.19.0.1")
# The first of the many VIPs.
FIRST_OF_MANY_VIPS = ipaddress.ip_address("198.19.1.0")
MANY_VIPS = 64
MAX_VIPS = 65280
TCP_PORT = 80
UDP_PORT = 53

# The same for IPv6: 2001:2::/48 (RFC 5180).
CLIENTS_IPV6 = ipaddress.ip_network("2001:2:0:c::/64")
VIP_IPV6 = ipaddress.ip_address("2001:2:0:d::1")
# Where all VIPs are.
VIPS = [ipaddress.ip_network("198.19.0.0/16"), ipaddress.ip_network("2001:2:0:d::/64")]

# The director's own networks (TEST-NET-2 and TEST-NET-3, RFC 5737). Backends must be on one of them.
CLIENT_SIDE = ipaddress.ip_interface("198.51.100.1/24")
BACKEND_SIDE = ipaddress.ip_interface("203.0.113.1/24")
BACKEND_SIDE_IPV6 = ipaddress.ip_interface("2001:2:0:b::1/64")
FIRST_BACKEND = ipaddress.ip_address("203.0.113.16")
FIRST_BACKEND_IPV6 = ipaddress.ip_address("2001:2:0:b::10")
BACKENDS = 16
# As many as their network has room for.
MAX_BACKENDS = 239

# A client uses this port first.
FIRST_PORT = 1024


def many_vips(count=MANY_VIPS):
    """The VIPs of the profiles for many VIPs."""
    if not 1 <= count <= MAX_VIPS:
        raise ValueError(f"1 to {MAX_VIPS} VIPs, not {count}")
    return [FIRST_OF_MANY_VIPS + number for number in range(count)]


def services(vip_count=MANY_VIPS):
    """All services that the profiles send to: (VIP, port, protocol)."""
    one = [(VIP, TCP_PORT, "tcp"), (VIP, UDP_PORT, "udp"), (VIP_IPV6, TCP_PORT, "tcp")]
    return one + [(vip, TCP_PORT, "tcp") for vip in many_vips(vip_count)]


def backends(vip, count=BACKENDS):
    """The addresses of the backends of a VIP."""
    first = FIRST_BACKEND if vip.version == 4 else FIRST_BACKEND_IPV6
    return [first + number for number in range(count)]


def backend_mac(number):
    """The MAC address of a backend: each its own, so that a capture shows which of them had a packet."""
    return f"02:00:00:00:01:{number:02x}"


def client_range(clients):
    """The first and the last of so many clients, as text."""
    if not 1 <= clients <= CLIENTS.num_addresses - 2:
        raise ValueError(f"1 to {CLIENTS.num_addresses - 2} clients, not {clients}")
    return str(CLIENTS[1]), str(CLIENTS[clients])


def port_range(ports):
    """The first and the last of so many of a client's ports."""
    if not 1 <= ports <= 65536 - FIRST_PORT:
        raise ValueError(f"1 to {65536 - FIRST_PORT} ports, not {ports}")
    return FIRST_PORT, FIRST_PORT + ports - 1


class Parser(argparse.ArgumentParser):
    """A parser of tunables.

    TRex takes "-t --clients=5" for its old way of writing them ("-t clients=5"), and makes "----clients 5" of it.
    """

    def parse_known_args(self, args=None, namespace=None):
        """As of any parser, with two dashes where there are four."""
        args = None if args is None else [word[2:] if word.startswith("----") else word for word in args]
        return super().parse_known_args(args, namespace)


def tunables(description, clients, ports=None):
    """A parser of a profile's tunables, with those that most have. In TRex: start -f FILE -t --clients 100 --ports 10"""
    parser = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--clients", type=int, default=clients, help="client addresses")
    if ports is not None:
        parser.add_argument("--ports", type=int, default=ports, help="source ports of each client")
        parser.add_argument(
            "--checksums",
            choices=["nic", "header"],
            default="nic",
            help="who computes them: the NIC, or TRex for a device that cannot; or TRex the IPv4 header's alone, for releases "
            "that would leave them out",
        )
    return parser
