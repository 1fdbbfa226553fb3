"""Why packets were lost: the difference of Shunt's counters before and after a trial, beside what the generator counts."""

import dataclasses

# What a port's hardware drops, in the words of docs/metrics.md.
HARDWARE = {
    "rx_missed": "missed: the NIC dropped it because a worker did not come round in time",
    "rx_errors": "errors: the NIC received it damaged",
    "rx_no_mbuf": "no mbuf: there was no packet buffer for it",
}
BEFORE_SHUNT = "lost outside Shunt, before it"
BEHIND_SHUNT = "lost outside Shunt, behind it"
OUTSIDE_SHUNT = "lost outside Shunt"


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
        )


def named(counted):
    """What Shunt itself and its ports have not forwarded, the most first."""
    reasons = [Loss(reason, count) for reason, count in counted.drops.items()]
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
        Loss(OUTSIDE_SHUNT, sent - received),
    ]


def explain(sent, received, before, after):
    """The reasons for what was lost in a trial, Shunt's own first. Nothing lost, no reasons.

    Shunt counts what others send to it, too: of its reasons, the largest explain the loss, as far as there is one.
    """
    counted = after.since(before)
    missing = sent - received
    reasons = []
    for loss in [*named(counted), *outside(sent, received, counted)]:
        packets = min(loss.packets, missing)
        if packets > 0:
            reasons.append(Loss(loss.reason, packets))
            missing -= packets
    return tuple(reasons)
