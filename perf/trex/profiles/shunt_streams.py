"""What the stateless profiles have in common: frames, programs for TRex's field engine, streams.

Frames have no MAC addresses of their own: TRex puts those of its port configuration (cfg/) in, so that the director's is
written down in one place.
"""

from trex.stl.api import (
    IP,
    STLVM,
    TCP,
    UDP,
    CTRexVmInsFixHwCs,
    Ether,
    IPv6,
    Padding,
    STLPktBuilder,
    STLStream,
    STLTXCont,
)

import shunt_lab

# The Ethernet checksum, which TRex's port adds: a "64-byte frame" is 60 bytes here.
FCS = 4


def tcp(flags="A", dst=shunt_lab.VIP, payload=b""):
    """A TCP packet to a VIP."""
    if dst.version == 6:
        ip = IPv6(src=str(shunt_lab.CLIENTS_IPV6[0]), dst=str(dst))
    else:
        ip = IP(dst=str(dst))
    return ip / TCP(sport=shunt_lab.FIRST_PORT, dport=shunt_lab.TCP_PORT, flags=flags) / payload


def udp(size, dst=shunt_lab.VIP):
    """A UDP packet to a VIP in a frame of so many bytes, the Ethernet checksum among them."""
    # Without a checksum (RFC 768), unless the NIC puts one in.
    headers = IP(dst=str(dst)) / UDP(sport=shunt_lab.FIRST_PORT, dport=shunt_lab.UDP_PORT, chksum=0)
    return headers / (b"\x55" * (size - FCS - len(Ether() / headers)))


def flows(clients, ports, layer="IP"):
    """A program that goes through all clients, and with each round to their next port: clients x ports flows.

    For layer IPv6, a client is the last four bytes of its address: TRex's variables of this kind have no more.
    """
    vm = STLVM()
    first_client, last_client = shunt_lab.client_range(clients)
    first_port, last_port = shunt_lab.port_range(ports)
    vm.tuple_var(
        name="client",
        ip_min=first_client,
        ip_max=last_client,
        port_min=first_port,
        port_max=last_port,
        limit_flows=clients * ports,
    )
    vm.write(fv_name="client.ip", pkt_offset=f"{layer}.src", offset_fixup=12 if layer == "IPv6" else 0)
    return vm


def write_source_port(vm, variable, layer, checksums, ip_layer="IP"):
    """Has the program write the variable as source port, and then, as its last step, the checksums.

    By the NIC, those of IP and of TCP or UDP. For devices that cannot (memif, AF_PACKET), TRex v3.08 computes the same. A
    release that does not would leave even the IP header's unfinished, and a Linux bridge drops such packets: "header" has TRex
    compute the IP header's alone. UDP has none then, and TCP's is wrong, which Shunt does not look at.
    """
    vm.write(fv_name=variable, pkt_offset=f"{layer}.sport")
    if checksums == "header":
        # IPv6 has none to compute.
        if ip_layer == "IP":
            vm.fix_chksum(offset="IP")
        return
    kind = {"TCP": CTRexVmInsFixHwCs.L4_TYPE_TCP, "UDP": CTRexVmInsFixHwCs.L4_TYPE_UDP}[layer]
    vm.fix_chksum_hw(l3_offset=ip_layer, l4_offset=layer, l4_type=kind)


def stream(packet, vm, pps=1, **options):
    """A stream that goes on until it is stopped. Among several, pps are their shares: the multiplier sets the rate."""
    frame = Ether() / packet
    shortage = 64 - FCS - len(frame)
    if shortage > 0:
        # Behind the IP packet, not part of it, as a host pads its SYNs and ACKs.
        frame = frame / Padding(b"\x00" * shortage)
    # TRex takes padding for the Ethernet checksum, and off, unless told not to (remove_fcs).
    builder = STLPktBuilder(pkt=frame, vm=vm, remove_fcs=False)
    return STLStream(packet=builder, mode=STLTXCont(pps=pps), **options)
