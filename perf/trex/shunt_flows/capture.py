"""Captures: the frames in a file, pcap or pcapng, as tcpdump, Wireshark, TRex and DPDK write them."""

import dataclasses

import dpkt


class CaptureError(Exception):
    """The file is no capture that can be read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A frame, perhaps cut off behind its headers, and when it came."""

    time_s: float
    data: bytes


def frames(path):
    """The frames of a capture, one after the other. A file that is still being written may end in the middle of one."""
    try:
        with open(path, "rb") as file:
            reader = dpkt.pcap.UniversalReader(file)
            if reader.datalink() != dpkt.pcap.DLT_EN10MB:
                raise CaptureError(f"{path}: not a capture of Ethernet frames: capture on one interface, not on any")
            yield from until_cut_off(reader)
    except (OSError, ValueError, dpkt.Error) as error:
        raise CaptureError(f"{path}: no capture, or a damaged one: {error}") from error


def until_cut_off(reader):
    """The frames that are there as a whole, or at least as much of them as was captured."""
    try:
        for time_s, data in reader:
            yield Frame(float(time_s), data)
    except dpkt.UnpackError:
        return
