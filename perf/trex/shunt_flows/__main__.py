"""The command line of `perf/trex/moved-flows`."""

import argparse
import ipaddress
import json
import sys
from pathlib import Path

from . import capture, flows
from .headers import flow_text, mac_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "profiles"))
import shunt_lab  # noqa: E402

DESCRIPTION = """\
Tells from captures at the servers' port whether a flow has moved: all packets of a connection must have one destination MAC
address, that of one backend. For that, each backend needs a MAC address of its own (perf/trex/shuntd-config without
--backend-mac).
"""

EPILOG = """\
Example: tcpdump -i trex1 -Q in -s 128 -w flows.pcap   (while astf_long runs and weights change)
         perf/trex/moved-flows flows.pcap

Several captures are read one after the other, as one: parts of one run. What goes to a machine that sends to VIPs itself is on
its way to the director, and does not count. A connection begins with a SYN; a flow without connections, after --idle of silence.

Exit status: 0 no flow has moved, 1 some have, 2 nothing can be said: wrong usage, no capture, no flows, or one MAC address for
all.
"""

# Of those that have moved, so many are shown.
SHOWN = 20


def parser():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="moved-flows", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captures", nargs="+", type=Path, metavar="FILE", help="pcap or pcapng")
    parser.add_argument(
        "--vip", action="append", type=network, metavar="NETWORK", help="where VIPs are; default: the laboratory's"
    )
    parser.add_argument("--idle", type=float, default=300.0, metavar="SECONDS", help="default %(default)g")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def network(text):
    """An address or a network."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def among(networks):
    """Whether an address, in bytes, is in one of the networks. Asked for each packet."""
    known = {}

    def is_in(packed):
        if packed not in known:
            address = ipaddress.ip_address(packed)
            known[packed] = any(address in network for network in networks)
        return known[packed]

    return is_in


def all_frames(captures):
    """The frames of all captures."""
    for path in captures:
        yield from capture.frames(path)


def as_json(result):
    """Everything, as plain values."""
    return {
        "flows": len(result.flows),
        "moved": [
            {
                "flow": flow_text(flow.flow),
                "backends": [
                    {"mac": mac_text(mac), "since_s": since_s, "packets": packets}
                    for mac, (since_s, packets) in flow.backends.items()
                ],
            }
            for flow in result.moved
        ],
        "torn": [{"flow": flow_text(flow), "macs": [mac_text(first), mac_text(other)]} for flow, first, other in result.torn],
        "fragments_without_first": result.lost_fragments,
        "backends": {mac_text(mac): {"flows": flows, "packets": packets} for mac, (flows, packets) in result.shares.items()},
    }


def as_text(result):
    """The report for people."""
    lines = [f"{len(result.flows):,} flows to {len(result.shares)} backends"]
    lines += [f"  {mac_text(mac)}  {flows:>9,} flows  {packets:>12,} packets" for mac, (flows, packets) in result.shares.items()]
    lines += [line for flow in result.moved[:SHOWN] for line in moved_lines(flow)]
    if len(result.moved) > SHOWN:
        lines.append(f"… and {len(result.moved) - SHOWN:,} more")
    for flow, first, other in result.torn[:SHOWN]:
        lines.append(f"torn: {flow_text(flow)}: fragments of one packet went to {mac_text(first)} and {mac_text(other)}")
    if result.lost_fragments:
        lines.append(f"{result.lost_fragments:,} fragments without a first one: nothing can be said of them")
    lines.append(f"{len(result.moved):,} flows have moved" if result.moved else "No flow has moved")
    return "\n".join(lines)


def moved_lines(flow):
    """A flow that has moved."""
    yield f"moved: {flow_text(flow.flow)}"
    begin = min(since_s for since_s, _ in flow.backends.values())
    for mac, (since_s, packets) in flow.backends.items():
        yield f"  {mac_text(mac)}  after {since_s - begin:.3f} s  {packets:,} packets"


def doubt(result, networks):
    """Why nothing can be said; None: something can."""
    if not result.flows:
        listed = ", ".join(str(network) for network in networks)
        return f"there are no packets to VIPs ({listed}) behind the director: capture at the servers' port, or give --vip"
    if len(result.shares) == 1:
        return (
            "all packets have one destination MAC address, so a flow that has moved looks like one that has not: give each "
            "backend a MAC address of its own (shuntd-config without --backend-mac), or there was one backend only"
        )
    return None


def main():
    """Reads, sorts and tells."""
    args = parser().parse_args()
    networks = args.vip or shunt_lab.VIPS
    try:
        result = flows.sort(all_frames(args.captures), among(networks), args.idle)
    except capture.CaptureError as error:
        print(f"moved-flows: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_json(result), indent=2) if args.json else as_text(result))
    reason = doubt(result, networks)
    if reason:
        print(f"moved-flows: nothing can be said: {reason}", file=sys.stderr)
        return 2
    return 1 if result.moved or result.torn else 0


if __name__ == "__main__":
    sys.exit(main())
