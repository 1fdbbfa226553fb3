"""The command line of `perf/trex/ndr`."""

import argparse
import dataclasses
import datetime
import decimal
import os
import sys
from pathlib import Path

from . import generator, losses, report
from .search import Limit, Outcome, Settings, Trial, find_ndr
from .shuntctl import Shuntctl, ShuntctlError

PROFILES = Path(__file__).resolve().parent.parent / "profiles"

# Frames above this many bytes, TRex's memif driver (DPDK 25.07 in v3.08) puts into several slots of the ring.
MEMIF, MEMIF_FRAME = "net_memif", 128
# Looks at the counters until Shunt has sent nothing of its own meanwhile.
LOOKS = 10

DESCRIPTION = """\
Searches for the highest rate that Shunt forwards without loss (NDR): a binary search in packets per second, each trial counted
after the drain, the result confirmed by repeats. A trial counts only where TRex has sent at least 98 % of what it was asked for.
Shunt's counters are read before and after each trial and name the reason of each loss. Writes a report: JSON, Markdown, SVG.
"""

EPILOG = """\
Example: perf/trex/ndr --server trex1 --ssh root@director --profile stl_udp64 --highest 15M --out /tmp/udp64 -- --clients 4096

Behind -- stand the profile's tunables. Exit status: 0 a rate was found, 1 none was found, 2 wrong usage, or no TRex, or no
Shunt, or more packets came back than were sent, 130 interrupted. Where TRex or Shunt leaves in the middle, there is a report of
the trials until then.
"""


def rate(text):
    """A rate in packets per second: 1500000, 1500k or 1.5M."""
    factor = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        # Not a float: as one, 4.1M is 4099999.9999999995.
        number = decimal.Decimal(text[:-1] if factor > 1 else text) * factor
    except decimal.InvalidOperation:
        number = decimal.Decimal("NaN")
    if not number.is_finite() or number < 1 or number != number.to_integral_value():
        raise argparse.ArgumentTypeError(f"not a rate: {text}")
    return int(number)


def positive(text):
    """Seconds above 0."""
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"not a time: {text}")
    return seconds


def parser():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ndr", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", required=True, help="a name of perf/trex/profiles (stl_udp64), or a file")
    parser.add_argument("--out", required=True, metavar="STEM", help="writes STEM.json, STEM.md and STEM.svg")
    parser.add_argument("--highest", required=True, type=rate, metavar="PPS", help="upper end of the search; k and M are known")
    parser.add_argument("--lowest", type=rate, default=1000, metavar="PPS", help="lower end; default 1000")
    parser.add_argument("--resolution", type=rate, metavar="PPS", help="when to stop; default: a 200th of --highest")
    parser.add_argument("--loss", type=float, default=0.0, metavar="RATIO", help="what may be lost; default 0")
    parser.add_argument("--confirmations", type=int, default=3, metavar="N", help="repeats that must pass; default 3")
    parser.add_argument("--max-trials", type=int, default=100, metavar="N", help="default 100")
    parser.add_argument("--seconds", type=positive, default=10.0, help="of each trial; default 10")
    parser.add_argument("--drain", type=positive, default=1.0, metavar="SECONDS", help="before it is counted; default 1")
    parser.add_argument("--warm-up", type=positive, default=2.0, metavar="SECONDS", help="at the lowest rate; default 2")
    trex = parser.add_argument_group("TRex")
    trex.add_argument("--server", default="127.0.0.1", help="where t-rex-64 -i runs; default %(default)s")
    trex.add_argument("--tx-port", type=int, default=0, metavar="N", help="towards Shunt; default 0")
    trex.add_argument("--rx-port", type=int, default=1, metavar="N", help="where the backends are; default 1")
    shunt = parser.add_argument_group("Shunt")
    shunt.add_argument("--ssh", metavar="HOST", help='runs shuntctl there; with options: "-p 2222 root@director"')
    shunt.add_argument("--shuntctl", default="shuntctl", metavar="FILE", help="default: the one on PATH")
    shunt.add_argument("--socket", metavar="PATH", help="shuntd's control socket")
    parser.add_argument("tunables", nargs="*", help=argparse.SUPPRESS)
    return parser


def settings_of(args):
    """How to search."""
    return Settings(
        lowest_pps=args.lowest,
        highest_pps=args.highest,
        resolution_pps=args.resolution or max(1, args.highest // 200),
        loss_ratio=args.loss,
        confirmations=args.confirmations,
        max_trials=args.max_trials,
    )


def profile_path(name):
    """The file of a profile that is named or given."""
    return str(PROFILES / f"{name}.py") if "/" not in name and not name.endswith(".py") else name


def trial_runner(shuntctl, trex, drivers):
    """Runs trials, each between two looks at the counters of both sides."""

    def look():
        """The counters of both sides, of a moment in which Shunt sends nothing of its own."""
        for _ in range(LOOKS):
            before, counted, after = shuntctl.counters(), trex.counted(), shuntctl.counters()
            if before.own == after.own:
                break
        return *counted, after

    def run(pps):
        sent_before, received_before, before = look()
        trex.send(pps)
        sent, received, after = look()
        sent, received = sent - sent_before, received - received_before
        return Trial(
            asked_pps=pps,
            seconds=trex.seconds,
            sent=sent,
            received=received,
            own=after.since(before).own_among_forwarded,
            losses=losses.explain(sent, received, before, after, drivers),
        )

    return run


def say(step):
    """A line for each trial."""
    trial = step.trial
    reasons = "".join(f"\n    {loss.packets:>12,} {loss.reason}" for loss in trial.losses)
    print(
        f"{trial.asked_pps:>12,} packets/s  sent {trial.sent:>12,}  lost {trial.lost:>10,}  {step.verdict.value}{reasons}",
        flush=True,
    )


def about(args, shuntctl):
    """What was measured, for the report."""
    return {
        "profile": Path(args.profile).stem,
        "tunables": " ".join(args.tunables),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds_of_a_trial": args.seconds,
        "drain_seconds": args.drain,
        "trex_server": args.server,
        "shunt": shuntctl.description(),
    }


def make_folder(stem):
    """Makes the folder of the report, before there is something to lose."""
    folder = Path(stem).parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to")


def check_frames(streams, drivers):
    """Refuses frames that a device of Shunt's cannot stand."""
    largest = generator.largest_frame(streams)
    if MEMIF in drivers and largest > MEMIF_FRAME:
        raise generator.GeneratorError(
            f"this profile has frames of {largest} bytes, and memif takes at most {MEMIF_FRAME} from TRex: for larger ones, "
            "TRex's driver leaves flags in the ring that have Shunt's driver receive what nobody has sent, until Shunt has no "
            "packet buffers left: use veth (cfg/veth.yaml) or a NIC"
        )


def interrupted():
    """Ctrl-C."""
    print("ndr: interrupted: no report", file=sys.stderr)
    return 130


def main():
    """Searches and reports."""
    command_line = parser()
    args = command_line.parse_args()
    try:
        settings = settings_of(args)
        make_folder(args.out)
    except (ValueError, OSError) as error:
        command_line.error(str(error))
    shuntctl = Shuntctl(args.shuntctl, args.socket, args.ssh)
    steps, outcome = [], None

    def done(step):
        steps.append(step)
        say(step)

    try:
        description = about(args, shuntctl)
        drivers = [port["driver"] for port in description["shunt"]["ports"]]
        streams = generator.load(profile_path(args.profile), args.tunables)
        check_frames(streams, drivers)
        client = generator.connect(args.server)
        try:
            description["trex"] = generator.description(client)
            trex = generator.Generator(client, streams, args.tx_port, args.rx_port, args.seconds, args.drain)
            trex.warm_up(settings.lowest_pps, args.warm_up)
            outcome = find_ndr(trial_runner(shuntctl, trex, drivers), settings, done)
        finally:
            client.disconnect()
    except (ShuntctlError, generator.GeneratorError, generator.trex_error()) as error:
        if generator.was_interrupted(error):
            return interrupted()
        print(f"ndr: {error}", file=sys.stderr)
        if not steps:
            return 2
        outcome = outcome or Outcome(None, Limit.ERROR, tuple(steps))
    except KeyboardInterrupt:
        return interrupted()
    if outcome.limit in (Limit.DEVICE, Limit.NOTHING) and losses.limit_of_receiver(outcome, drivers):
        outcome = dataclasses.replace(outcome, limit=Limit.RECEIVER)
    print(report.headline(outcome))
    for path in report.write(args.out, outcome, settings, description):
        print(f"written: {path}")
    if outcome.limit in (Limit.ERROR, Limit.EXCESS):
        return 2
    return 1 if outcome.ndr_pps is None else 0


if __name__ == "__main__":
    sys.exit(main())
