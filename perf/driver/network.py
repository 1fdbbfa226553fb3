"""The addresses of the network that is measured, the same for frames and configurations."""

from ipaddress import IPv4Address, IPv6Address

STRAY_PORT = 81
PORT = 80


def vip(service, version):
    """The VIP of a service; each has its own."""
    if version == 6:
        return IPv6Address("fd00::64:0:1") + service
    return IPv4Address(f"192.168.{100 + service // 250}.{1 + service % 250}")


def backend(number, version):
    if version == 6:
        return IPv6Address("fd00::1:0") + number
    return IPv4Address(f"192.168.{1 + number // 250}.{1 + number % 250}")


def backend_mac(number):
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def client(flow, version):
    """Each flow is another client's, so that services which hash by the client's address spread them, too."""
    if version == 6:
        return IPv6Address("2001:db8::") + flow
    return IPv4Address("10.0.0.0") + flow


def client_port(flow):
    return 1024 + flow % 50_000
