#!/usr/bin/python3
"""Asks for an address by ARP on eth0, again and again: asking.py TARGET SENDER SECONDS. Writes the times of the answers as JSON.

A program of its own, because it runs in another network namespace than perf/health."""

import json
import socket
import struct
import sys
import time
from ipaddress import IPv4Address

ARP = 0x0806
# Between two questions: less often than any limit of the director's.
EVERY_S = 0.05
# Longer, nobody waits.
LONGEST_S = 1.0


def is_answered(connection, target, begin):
    """Whether an answer has come in time."""
    while (left := begin + LONGEST_S - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            frame = connection.recv(128)
        except TimeoutError:
            break
        if frame[20:22] == b"\x00\x02" and frame[28:32] == target.packed:
            return True
    return False


def ask(target, sender, seconds):
    """The times of the answers, in seconds, and how many questions had none."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as connection:
        connection.bind(("eth0", ARP))
        mac = connection.getsockname()[4]
        # RFC 826: Ethernet, IPv4, a request.
        fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        request = b"\xff" * 6 + mac + struct.pack("!H", ARP) + fixed + mac + sender.packed + bytes(6) + target.packed
        times, lost, stop = [], 0, time.monotonic() + seconds
        while time.monotonic() < stop:
            begin = time.monotonic()
            connection.send(request)
            if is_answered(connection, target, begin):
                times.append(time.monotonic() - begin)
            else:
                lost += 1
            time.sleep(max(0.0, begin + EVERY_S - time.monotonic()))
    return {"times_s": times, "lost": lost}


if __name__ == "__main__":
    print(json.dumps(ask(IPv4Address(sys.argv[1]), IPv4Address(sys.argv[2]), float(sys.argv[3]))))
