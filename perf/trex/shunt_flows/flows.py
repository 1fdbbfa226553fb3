"""The flows of a capture, and the backends that they went to: one destination MAC address a flow, or the flow has moved."""

import collections
import dataclasses

from .headers import ACK, FIN, RST, SYN, TCP, read

# Fragments whose first has not come yet: so many packets of them are kept, no more.
MOST_WAITING = 10_000


@dataclasses.dataclass(slots=True)
class Flow:
    """A connection, or for protocols without connections all packets of a 5-tuple without a long silence between them."""

    flow: tuple
    # In the order of their first packet: the backend, when it got its first packet of the flow, and how many it got.
    backends: dict
    last_s: float
    # The sequence number of its SYN.
    began_with: int | None
    # A FIN or RST of the client has been seen.
    ended: bool = False

    @property
    def moved(self):
        """Whether more than one backend had it."""
        return len(self.backends) > 1

    def add(self, packet, time_s):
        """One more packet."""
        first_s, packets = self.backends.get(packet.destination_mac, (time_s, 0))
        self.backends[packet.destination_mac] = (first_s, packets + 1)
        self.last_s = time_s
        self.ended |= bool(packet.flags & (FIN | RST))


class Flows:
    """Sorts packets to flows. Only what is for a VIP, and does not go to the director itself, counts."""

    def __init__(self, is_vip, idle_s=300.0):
        self.is_vip = is_vip
        self.idle_s = idle_s
        self.current = {}
        self.finished = []
        self.packets = 0
        # From the first fragment of a packet: its flow, and the backend that it went to.
        self.datagrams = {}
        self.waiting = collections.OrderedDict()
        # Fragments that went to another backend than the first one of their packet: the packet's flow, and both.
        self.torn = []
        self.lost_fragments = 0
        # Who sends packets for VIPs: clients and the director. What goes to one of them is on its way to the director.
        self.senders = set()

    def add(self, frame):
        """One more frame."""
        packet = read(frame.data)
        if packet is None or not self.is_vip(packet.destination):
            return
        self.senders.add(packet.source_mac)
        self.packets += 1
        if packet.ports is None:
            self.later_fragment(packet, frame.time_s)
            return
        flow = self.flow_of(packet, frame.time_s)
        flow.add(packet, frame.time_s)
        if packet.datagram is not None:
            self.datagrams[packet.datagram] = (flow, packet.destination_mac)
            for waiting, time_s in self.waiting.pop(packet.datagram, ()):
                self.later_fragment(waiting, time_s)

    def later_fragment(self, packet, time_s):
        """It belongs to the flow of its first fragment, which may come after it."""
        known = self.datagrams.get(packet.datagram)
        if known is None:
            self.waiting.setdefault(packet.datagram, []).append((packet, time_s))
            if len(self.waiting) > MOST_WAITING:
                self.lost_fragments += len(self.waiting.popitem(last=False)[1])
            return
        flow, mac = known
        if packet.destination_mac != mac:
            self.torn.append((flow.flow, mac, packet.destination_mac))
        flow.add(packet, time_s)

    def flow_of(self, packet, time_s):
        """The flow that a packet belongs to: a new one where it begins a connection, or after a long silence."""
        flow = self.current.get(packet.flow)
        if flow is None or self.begins(packet, flow, time_s):
            if flow is not None:
                self.finished.append(flow)
            flow = Flow(packet.flow, {}, time_s, packet.sequence if is_syn(packet) else None)
            self.current[packet.flow] = flow
        return flow

    def begins(self, packet, flow, time_s):
        """Whether a packet begins another connection of the same 5-tuple. A SYN that is sent again begins none."""
        if packet.protocol == TCP:
            return is_syn(packet) and (flow.ended or packet.sequence != flow.began_with)
        return time_s - flow.last_s > self.idle_s

    def result(self):
        """All flows."""
        lost = self.lost_fragments + sum(len(fragments) for fragments in self.waiting.values())
        flows = [flow for flow in [*self.finished, *self.current.values()] if self.is_forwarded(flow)]
        return Result(flows, self.torn, lost)

    def is_forwarded(self, flow):
        """Takes out what was on its way to the director. Whether something is left."""
        for mac in self.senders & flow.backends.keys():
            del flow.backends[mac]
        return bool(flow.backends)


def is_syn(packet):
    """Whether a client begins a connection with it."""
    return packet.flags & (SYN | ACK) == SYN


@dataclasses.dataclass(frozen=True)
class Result:
    """What a capture says."""

    flows: list
    # Packets whose fragments went to several backends.
    torn: list
    # Later fragments without a first one.
    lost_fragments: int

    @property
    def moved(self):
        """The flows that more than one backend had, in the order in which they moved."""
        return sorted((flow for flow in self.flows if flow.moved), key=lambda flow: max(s for s, _ in flow.backends.values()))

    @property
    def shares(self):
        """How many flows each backend had first, and packets it got."""
        flows = collections.Counter(next(iter(flow.backends)) for flow in self.flows)
        packets = collections.Counter()
        for flow in self.flows:
            for mac, (_, count) in flow.backends.items():
                packets[mac] += count
        return {mac: (flows[mac], packets[mac]) for mac in sorted(packets)}


def sort(frames, is_vip, idle_s=300.0):
    """The flows of these frames."""
    flows = Flows(is_vip, idle_s)
    for frame in frames:
        flows.add(frame)
    return flows.result()
