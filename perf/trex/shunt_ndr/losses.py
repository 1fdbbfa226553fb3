"""Why packets were lost: the difference of Shunt's counters before and after a trial, beside what the generator counts."""

import dataclasses

from .search import Verdict

# What a port's hardware drops, in the words of docs/metrics.md.
HARDWARE = {
    "rx_missed": "missed: the NIC dropped it because a worker did not come round in time",
    "rx_errors": "errors: the NIC received it damaged",
    "rx_no_mbuf": "no mbuf: there was no packet buffer for it",
}
BEFORE_SHUNT = "lost outside Shunt, before it"
BEHIND_SHUNT = "lost outside Shunt, behind it"
OUTSIDE_SHUNT = "lost outside Shunt"
TX_FULL = "tx_full"
# What it means where a device's ring is emptied by who is at its other end, and not by a wire.
RECEIVERS_RING = "the receiver, here the generator, did not empty the device's ring in time"
# Drivers of such devices.
RING_DRIVERS = {"net_memif", "net_af_packet"}


@dataclasses.dataclass(frozen=True)
class Loss:
    """So many packets, for one reason."""

    reason: str
    packets: int


@dataclasses.dataclass(frozen=True)
class Counters:
    """Shunt's counters at one time."""

    # Sums over all ports, by the names of `shuntctl --json port list`.
    rx_packets: int
    tx_packets: int
    hardware: dict
    # Frames dropped, by reason.
    drops: dict
    # Frames for the slow path, by reason.
    punts: dict
    # By port: frames that were forwarded by it, and frames that the director has sent there of its own.
    forwarded: dict = dataclasses.field(default_factory=dict)
    own: dict = dataclasses.field(default_factory=dict)

    @property
    def own_among_forwarded(self):
        """The director's own frames on the ports by which it forwards: who counts there what was forwarded counts these, too."""
        return sum(own for port, own in self.own.items() if self.forwarded[port] > 0)

    def since(self, before):
        """What has been counted since then. A reason that is new has been 0."""

        def difference(now, then):
            return {name: count - then.get(name, 0) for name, count in now.items()}

        return Counters(
            rx_packets=self.rx_packets - before.rx_packets,
            tx_packets=self.tx_packets - before.tx_packets,
            hardware=difference(self.hardware, before.hardware),
            drops=difference(self.drops, before.drops),
            punts=difference(self.punts, before.punts),
            forwarded=difference(self.forwarded, before.forwarded),
            own=difference(self.own, before.own),
        )


def named(counted, drivers=()):
    """What Shunt itself and its ports have not forwarded, the most first."""
    meanings = {TX_FULL: f" ({RECEIVERS_RING})"} if RING_DRIVERS & set(drivers) else {}
    reasons = [Loss(reason + meanings.get(reason, ""), count) for reason, count in counted.drops.items()]
    reasons += [Loss(f"{reason} (for the slow path)", count) for reason, count in counted.punts.items()]
    reasons += [Loss(f"{name} ({HARDWARE[name]})", count) for name, count in counted.hardware.items()]
    return sorted(reasons, key=lambda loss: -loss.packets)


def outside(sent, received, counted):
    """Where the packets are that Shunt's counters do not explain.

    Before Shunt: sent, and neither received nor dropped by a port's hardware. Behind it: sent by Shunt, and not received. Frames
    of others (ARP, LLDP) can hide some of either, so what remains is called "outside" without saying where.
    """
    return [
        Loss(BEFORE_SHUNT, sent - counted.rx_packets - sum(counted.hardware.values())),
        Loss(BEHIND_SHUNT, counted.tx_packets - received),
        Loss(OUTSIDE_SHUNT, sent - (received - counted.own_among_forwarded)),
    ]


def explain(sent, received, before, after, drivers=()):
    """The reasons for what was lost in a trial, Shunt's own first. Nothing lost, no reasons.

    `drivers` are those of Shunt's ports. Shunt counts what others send to it, too: of its reasons, the largest explain the loss,
    as far as there is one.
    """
    counted = after.since(before)
    missing = sent - (received - counted.own_among_forwarded)
    reasons = []
    for loss in [*named(counted, drivers), *outside(sent, received, counted)]:
        packets = min(loss.packets, missing)
        if packets > 0:
            reasons.append(Loss(loss.reason, packets))
            missing -= packets
    return tuple(reasons)


def limit_of_receiver(outcome, drivers):
    """Whether the search has found how fast the receiver empties a ring, and not what the director can do.

    With memif and AF_PACKET, a full transmit ring (tx_full) is the work of who should empty it.
    """
    lost = [step.trial.losses for step in outcome.steps if step.verdict is Verdict.LOST]
    by_receiver = [losses for losses in lost if losses and losses[0].reason.startswith(TX_FULL)]
    return bool(RING_DRIVERS & set(drivers)) and 2 * len(by_receiver) > len(lost)
