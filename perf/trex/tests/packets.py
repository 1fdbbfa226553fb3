"""Packet captures, and what is in their frames: read by hand, with nothing of the field engine's."""

import dataclasses
import ipaddress
import struct

PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
ETHERNET = 14
IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"
PROTOCOLS = {6: "tcp", 17: "udp"}


def write_pcap(path, frames):
    """A capture of these frames, all at the same time."""
    with open(path, "wb") as file:
        file.write(PCAP_HEADER)
        for frame in frames:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def read_pcap(path):
    """The frames of a capture that DPDK has written: in microseconds or nanoseconds."""
    with open(path, "rb") as file:
        data = file.read()
    if struct.unpack_from("<I", data)[0] not in (0xA1B2C3D4, 0xA1B23C4D):
        raise ValueError(f"{path}: no capture in this machine's byte order")
    frames, place = [], len(PCAP_HEADER)
    while place < len(data):
        captured, length = struct.unpack_from("<II", data, place + 8)
        if captured != length:
            raise ValueError(f"{path}: a frame is cut off")
        frames.append(data[place + 16 : place + 16 + captured])
        place += 16 + captured
    return frames


def mac(text):
    """A MAC address's bytes."""
    return bytes.fromhex(text.replace(":", ""))


def with_macs(frame, destination, source):
    """The frame with the MAC addresses that TRex puts in."""
    return destination + source + frame[12:]


def sums_up(data):
    """Whether 16-bit words that have their checksum among them sum up to all ones, as a receiver checks it (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    return sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2)) % 0xFFFF == 0 and any(padded)


@dataclasses.dataclass(frozen=True)
class Packet:
    """An IP packet."""

    source: ipaddress.IPv4Address | ipaddress.IPv6Address
    destination: ipaddress.IPv4Address | ipaddress.IPv6Address
    protocol: str
    header: bytes
    payload: bytes
    id: int
    # Of the payload, in bytes, in the packet that was fragmented.
    offset: int
    more: bool

    @property
    def is_first(self):
        return self.offset == 0

    @property
    def is_fragment(self):
        return self.more or self.offset > 0

    @property
    def ports(self):
        """Source and destination port: only a first fragment has them."""
        return struct.unpack(">HH", self.payload[:4])

    @property
    def flow(self):
        return (self.source, self.ports[0], self.destination, self.ports[1], self.protocol)

    @property
    def datagram(self):
        """What fragments of one packet have in common."""
        return (self.source, self.destination, self.protocol, self.id)


def carries_transport(frame):
    """Whether the frame is of a client: not of those by which Shunt makes itself known (ARP, ICMPv6)."""
    return frame[12:14] == IPV4 or (frame[12:14] == IPV6 and frame[ETHERNET + 6] in PROTOCOLS)


def parse(frame):
    """The IP packet in a frame."""
    return {IPV4: parse_ipv4, IPV6: parse_ipv6}[frame[12:14]](frame)


def parse_ipv6(frame):
    """The same of IPv6, without extension headers."""
    header = frame[ETHERNET : ETHERNET + 40]
    length = struct.unpack_from(">H", header, 4)[0]
    if header[0] >> 4 != 6 or length > len(frame) - ETHERNET - 40:
        raise ValueError(f"a bad IPv6 header: {header.hex()}")
    return Packet(
        source=ipaddress.IPv6Address(header[8:24]),
        destination=ipaddress.IPv6Address(header[24:40]),
        protocol=PROTOCOLS[header[6]],
        header=header,
        payload=frame[ETHERNET + 40 : ETHERNET + 40 + length],
        id=0,
        offset=0,
        more=False,
    )


def parse_ipv4(frame):
    """The IPv4 packet in a frame."""
    first, _, length, identification, flags, _, protocol = struct.unpack_from(">BBHHHBB", frame, ETHERNET)
    header_length = (first & 0xF) * 4
    if first >> 4 != 4 or header_length < 20 or not header_length <= length <= len(frame) - ETHERNET:
        raise ValueError(f"a bad IPv4 header: {frame[ETHERNET : ETHERNET + 20].hex()}")
    header = frame[ETHERNET : ETHERNET + header_length]
    return Packet(
        source=ipaddress.IPv4Address(header[12:16]),
        destination=ipaddress.IPv4Address(header[16:20]),
        protocol=PROTOCOLS[protocol],
        header=header,
        payload=frame[ETHERNET + header_length : ETHERNET + length],
        id=identification,
        offset=(flags & 0x1FFF) * 8,
        more=bool(flags & 0x2000),
    )


def bad_checksums(packet):
    """Which checksums are wrong. That of a fragment's transport header is over all fragments, so it must be 0: none."""
    bad = [] if packet.source.version == 6 or sums_up(packet.header) else ["IPv4"]
    if not packet.is_first:
        return bad
    place = {"tcp": 16, "udp": 6}[packet.protocol]
    transport = packet.payload[place : place + 2]
    if packet.protocol == "udp" and transport == b"\x00\x00" and packet.source.version == 4:
        return bad
    number = {"tcp": 6, "udp": 17}[packet.protocol]
    pseudo = packet.source.packed + packet.destination.packed + struct.pack(">HH", number, len(packet.payload))
    if packet.is_fragment or not sums_up(pseudo + packet.payload):
        bad.append(packet.protocol.upper())
    return bad


def reassemble(packets):
    """The payloads of all datagrams, those in fragments put together. Fails where one is not complete."""
    parts = {}
    for packet in packets:
        parts.setdefault(packet.datagram, []).append(packet)
    return {datagram: joined(fragments) for datagram, fragments in parts.items()}


def joined(fragments):
    """The payload of one datagram."""
    payload = b""
    for fragment in sorted(fragments, key=lambda fragment: fragment.offset):
        if fragment.offset != len(payload):
            raise ValueError(f"a gap or an overlap at {fragment.offset}")
        payload += fragment.payload
    if max(fragments, key=lambda fragment: fragment.offset).more:
        raise ValueError("the last fragment is missing")
    return payload
