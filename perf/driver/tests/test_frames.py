"""Frames are valid, and to whom they should be."""

import struct
import tempfile
import unittest
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import cases
import network
from frames import PORT_MAC, SYN, TCP, UDP, frame, internet_checksum, write_pcap


def sums_up(data):
    """Whether data that holds its own checksum is right (RFC 1071)."""
    return internet_checksum(data) == 0


class Frames(unittest.TestCase):
    def test_the_checksum_is_that_of_the_rfc_s_example(self):
        self.assertEqual(internet_checksum(bytes.fromhex("0001f203f4f5f6f7")), 0xFFFF - 0xDDF2)
        self.assertEqual(internet_checksum(b"\x01"), 0xFEFF, "an odd byte counts as the higher one")

    def test_ipv4_headers_and_segments_have_right_checksums(self):
        for protocol in (TCP, UDP):
            for size in (64, 570, 1500):
                source, destination = IPv4Address("10.1.2.3"), IPv4Address("192.168.100.1")
                data = frame(protocol, source, destination, (1024, 80), size=size)
                self.assertEqual((len(data), data[:6], data[12:14]), (size - 4, PORT_MAC, b"\x08\x00"))
                (length,) = struct.unpack_from(">H", data, 16)
                self.assertTrue(sums_up(data[14:34]))
                segment = data[34 : 14 + length]
                pseudo = source.packed + destination.packed + struct.pack(">BBH", 0, protocol, len(segment))
                self.assertTrue(sums_up(pseudo + segment), (protocol, size))

    def test_ipv6_segments_have_right_checksums_and_their_own_sizes(self):
        source, destination = IPv6Address("2001:db8::1"), IPv6Address("fd00::64:0:1")
        for protocol, size in ((TCP, 74), (UDP, 62)):
            data = frame(protocol, source, destination, (1024, 80))
            self.assertEqual((len(data), data[12:14], data[20]), (size, b"\x86\xdd", protocol))
            segment = data[54:]
            pseudo = source.packed + destination.packed + struct.pack(">II", len(segment), protocol)
            self.assertTrue(sums_up(pseudo + segment))

    def test_a_syn_is_one_and_nothing_more(self):
        data = frame(TCP, IPv4Address("10.0.0.1"), IPv4Address("192.168.100.1"), (1024, 80), SYN)
        self.assertEqual((data[47], data[42:46]), (SYN, bytes(4)))

    def test_a_capture_has_what_was_written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.pcap"
            write_pcap(path, [b"a" * 60, b"b" * 61])
            self.assertEqual(len(path.read_bytes()), 24 + 16 + 60 + 16 + 61)


class Cases(unittest.TestCase):
    def test_each_flow_is_another_and_goes_to_its_service(self):
        for case in (case for case in cases.CASES if case.settings()["kind"] == "pcap" and case.flows <= 2_000):
            with self.subTest(case.name):
                start, end = (26, 38) if case.version == 4 else (22, 58)
                address, length = (30, 4) if case.version == 4 else (38, 16)
                frames = list(case.frames())
                self.assertEqual(len(frames), case.preloaded())
                self.assertEqual(len({data[start:end] for data in frames}), case.flows)
                vips = {data[address : address + length] for data in frames}
                self.assertEqual(vips, {network.vip(number, case.version).packed for number in range(case.services)})

    def test_every_other_frame_is_for_nobody_where_half_are_to_be_dropped(self):
        (case,), _ = cases.named(["half-dropped"])
        strays = [struct.unpack_from(">H", data, 36)[0] == network.STRAY_PORT for data in case.frames()]
        self.assertEqual(strays, [False, True] * 512)

    def test_a_mixture_has_every_size_in_its_share(self):
        (case,), _ = cases.named(["imix"])
        sizes = [len(data) + 4 for data in case.frames()]
        self.assertEqual([sizes.count(size) for size in (64, 570, 1500)], [7 * 1024, 4 * 1024, 1024])

    def test_each_backend_has_an_address_and_a_mac_address_of_its_own(self):
        for version in (4, 6):
            self.assertEqual(len({network.backend(number, version) for number in range(256)}), 256)
            self.assertEqual(len({network.vip(number, version) for number in range(1000)}), 1000)
        self.assertEqual(len({network.backend_mac(number) for number in range(300)}), 300)

    def test_a_case_that_is_not_there_is_named(self):
        chosen, unknown = cases.named(["imix", "nonsense"])
        self.assertEqual(([case.name for case in chosen], unknown), (["imix"], ["nonsense"]))


if __name__ == "__main__":
    unittest.main()
