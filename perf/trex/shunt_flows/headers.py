"""What a frame to a VIP says of its flow: read from its bytes, as few as possible, since captures are long."""

import dataclasses
import ipaddress
import struct

IPV4, IPV6 = 0x0800, 0x86DD
TAGS = (0x8100, 0x88A8)
TCP, UDP, SCTP = 6, 17, 132
FRAGMENT = 44
# Extension headers of IPv6 that have a length: hop-by-hop, routing, destination options (RFC 8200 §4).
EXTENSIONS = (0, 43, 60)
NAMES = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@dataclasses.dataclass(frozen=True, slots=True)
class Packet:
    """A packet, or a fragment of one."""

    destination_mac: bytes
    source_mac: bytes
    source: bytes
    destination: bytes
    protocol: int
    # Source and destination port; None: a later fragment, which has none.
    ports: tuple | None
    # What the fragments of a packet have in common; None: a whole packet.
    datagram: tuple | None
    # TCP's flags, and the sequence number with them; 0 for others.
    flags: int
    sequence: int

    @property
    def flow(self):
        """The 5-tuple."""
        return (self.source, self.ports[0], self.destination, self.ports[1], self.protocol)


def read(frame):
    """The packet in a frame; None: it is none that has a flow, or it is cut off too early."""
    try:
        place = 12
        kind = int.from_bytes(frame[place : place + 2], "big")
        while kind in TAGS:
            place += 4
            kind = int.from_bytes(frame[place : place + 2], "big")
        network = {IPV4: ipv4, IPV6: ipv6}.get(kind)
        return network(frame, place + 2) if network else None
    except (IndexError, struct.error):
        return None


def ipv4(frame, start):
    """From the IPv4 header on."""
    identification, fragment, protocol = struct.unpack_from(">4xHHxB", frame, start)
    source, destination = frame[start + 12 : start + 16], frame[start + 16 : start + 20]
    offset, more = fragment & 0x1FFF, fragment & 0x2000
    datagram = (source, destination, protocol, identification) if offset or more else None
    return transport(frame, start + (frame[start] & 0xF) * 4, source, destination, protocol, datagram, offset)


def ipv6(frame, start):
    """From the IPv6 header on, over its extension headers."""
    source, destination = frame[start + 8 : start + 24], frame[start + 24 : start + 40]
    protocol, place, datagram, offset = frame[start + 6], start + 40, None, 0
    while protocol in EXTENSIONS or protocol == FRAGMENT:
        if protocol == FRAGMENT:
            after, fragment, identification = struct.unpack_from(">BxHI", frame, place)
            # RFC 6946: one that is all of its packet.
            if fragment & 0xFFF9:
                datagram, offset = (source, destination, identification), fragment & 0xFFF8
            protocol, place = after, place + 8
            if offset:
                break
        else:
            protocol, place = frame[place], place + 8 + frame[place + 1] * 8
    return transport(frame, place, source, destination, protocol, datagram, offset)


def transport(frame, start, source, destination, protocol, datagram, offset):
    """From the transport header on, which a later fragment lacks."""
    ports, flags, sequence = None, 0, 0
    if offset == 0:
        if protocol not in NAMES:
            return None
        ports = struct.unpack_from(">HH", frame, start)
        if protocol == TCP:
            sequence, flags = struct.unpack_from(">4xI5xB", frame, start)
    return Packet(frame[:6], frame[6:12], source, destination, protocol, ports, datagram, flags, sequence)


def address(packed):
    """An address as text."""
    text = str(ipaddress.ip_address(packed))
    return f"[{text}]" if len(packed) == 16 else text


def flow_text(flow):
    """A 5-tuple as text."""
    source, source_port, destination, port, protocol = flow
    return f"{address(source)}:{source_port} to {address(destination)}:{port}/{NAMES[protocol]}"


def mac_text(mac):
    """A MAC address as text."""
    return mac.hex(":")
