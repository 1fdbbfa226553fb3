"""Frames, and pcap files of them.

A frame's size is what it has on the wire, with the 4 bytes of checksum that no capture holds: 64 bytes are 60 here.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

CHECKSUM = 4
LEAST = 64 - CHECKSUM
TCP, UDP = 6, 17
ACK, SYN = 0x10, 0x02

# The MAC address that DPDK's pcap driver gives its first port.
PORT_MAC = bytes.fromhex("027063617000")
CLIENT_MAC = bytes.fromhex("0200000000cc")


def internet_checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport(protocol, source, destination, ports, flags, payload):
    """A TCP segment or a UDP datagram, with the checksum over it and its addresses."""
    if protocol == TCP:
        header = struct.pack(">HHIIBBHHH", *ports, 1000, 0 if flags == SYN else 2000, 0x50, flags, 64000, 0, 0)
        place = 16
    else:
        header = struct.pack(">HHHH", *ports, 8 + len(payload), 0)
        place = 6
    segment = bytearray(header + payload)
    pseudo = source.packed + destination.packed + struct.pack(">II", len(segment), protocol)
    # To UDP, 0 means "none" (RFC 768).
    struct.pack_into(">H", segment, place, internet_checksum(pseudo + segment) or 0xFFFF)
    return bytes(segment)


def ip(protocol, source, destination, payload, number):
    """An IPv4 or IPv6 packet."""
    if isinstance(source, IPv6Address):
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + source.packed + destination.packed + payload
    header = bytearray(
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), number & 0xFFFF, 0x4000, 64, protocol, 0)
        + source.packed
        + destination.packed
    )
    struct.pack_into(">H", header, 10, internet_checksum(header))
    return bytes(header) + payload


def frame(protocol, source, destination, ports, flags=ACK, size=64, number=0):
    """From a client to the director. What does not fit in `size` makes the frame larger; an empty IPv6 TCP segment has 78."""
    ethertype, headers = (0x0800, 34) if isinstance(source, IPv4Address) else (0x86DD, 54)
    headers += 20 if protocol == TCP else 8
    # A SYN has no data; Ethernet pads what is shorter than 64 bytes.
    data = bytes(max(0, size - CHECKSUM - headers)) if size > 64 else b""
    segment = transport(protocol, source, destination, ports, flags, data)
    packet = ip(protocol, source, destination, segment, number)
    return (PORT_MAC + CLIENT_MAC + struct.pack(">H", ethertype) + packet).ljust(LEAST, b"\0")


def write_pcap(path, frames):
    """Writes a capture."""
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for data in frames:
            out.write(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)
