"""perf/bench: measures what Shunt costs beside DPDK's testpmd. See --help; how to read the figures: perf/README.md."""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import cases
import chart
import generator
import machine
import report
import shunt
import testpmd
import workers
from frames import write_pcap
from memory import ON_ITS_WAY, Memory, reserved_hugepages
from results import Group, Result
from threads import RunError

ROOT = Path(__file__).resolve().parents[2]

DESCRIPTION = """\
Runs dpdk-testpmd (modes io and mac) and shuntd in turns on the same core, device and frames, and prints what a packet
costs of the forwarding thread's CPU time. No NIC and, unless asked for, no hugepages. Installs what is missing, and builds.
Needs root, two cores, and for all cases 4 GiB of memory. How to read the figures: perf/README.md."""


def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < 10_000:
            raise argparse.ArgumentTypeError(f"{text} is not from more than 0 to 9999")
        return value

    return parse


def arguments():
    parser = argparse.ArgumentParser(
        prog="perf/bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="list the cases, and do nothing else")
    parser.add_argument("--cases", metavar="A,B", help="only these cases; default: all")
    parser.add_argument("--quick", action="store_true", help="only the first case, in less than a minute")
    parser.add_argument("--pairs", type=positive(int), default=5, metavar="N", help="runs of each program; default 5")
    parser.add_argument("--seconds", type=positive(float), metavar="N", help="of each run; default 3, with --quick 2")
    parser.add_argument("--json", type=report.output, metavar="FILE", help="write all, with every single run")
    parser.add_argument("--svg", type=report.output, metavar="FILE", help="draw the medians")
    parser.add_argument("--markdown", type=report.output, metavar="FILE", help="write the table as Markdown")
    parser.add_argument(
        "--hugepages", action="store_true", help="packet memory of both in hugepages, which are reserved for the time of the bench"
    )
    parser.add_argument(
        "--no-build", action="store_true", help="installs nothing; builds only the generator's bench if it has changed"
    )
    parser.add_argument(
        "--dev", action="store_true", help="with --no-build: take the development build; tries the cases, its figures mean nothing"
    )
    given = parser.parse_args()
    if given.quick and given.cases:
        parser.error("--quick runs the first case: leave --cases out")
    if given.dev and not given.no_build:
        parser.error("--dev takes what has been built: add --no-build")
    given.seconds = given.seconds or (2 if given.quick else 3)
    # Only looked for: to import it would bring its threads into the process that measures.
    if given.svg and not importlib.util.find_spec("matplotlib"):
        parser.error("--svg needs python3-matplotlib: scripts/install-deps --perf")
    names = [cases.FIRST] if given.quick else given.cases.split(",") if given.cases else [c.name for c in cases.CASES]
    given.chosen, unknown = cases.named(names)
    if unknown:
        parser.error(f"There is no case {', '.join(unknown)}: see --list")
    return given


class Bench:
    """What all runs have in common."""

    def __init__(self, given, folder):
        self.given = given
        self.folder = folder
        target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
        self.shuntd = target / ("debug" if given.dev else "release") / "shuntd"
        if not self.shuntd.exists():
            raise RunError(f"There is no {self.shuntd}: leave --no-build out")
        self.generator_binary = None
        # Long enough that the driver's frames have all been seen once.
        self.warm_up = min(0.5, given.seconds)

    def progress(self, text):
        print(f"\r\x1b[K{text}" if sys.stderr.isatty() else "", end="", file=sys.stderr, flush=True)

    def measure(self, case):
        kind = case.settings()["kind"]
        return {"pcap": self.pcap, "generator": self.generator, "workers": self.workers}[kind](case)

    def pcap(self, case):
        pcap = self.folder / "frames.pcap"
        self.progress(f"{case.name}: frames")
        write_pcap(pcap, case.frames())
        device = f"net_pcap0,rx_pcap={pcap},infinite_rx=1"
        memory = Memory.for_frames(case.preloaded(), self.given.hugepages)
        group = Group(case.title, (*testpmd.MODES, "shuntd"), "shuntd", "mac")
        times = (self.given.seconds, self.warm_up)
        for pair in range(self.given.pairs):
            for mode in testpmd.MODES:
                self.progress(f"{case.name}: pair {pair + 1} of {self.given.pairs}, testpmd {mode}")
                run, tsc_hz = testpmd.run(mode, device, memory, *times)
                group.add(mode, run)
            self.progress(f"{case.name}: pair {pair + 1} of {self.given.pairs}, shuntd")
            group.add("shuntd", shunt.run(self.shuntd, self.folder, case, device, memory, *times))
        return Result(case, [group], tsc_hz)

    def flows_bench(self):
        """The generator's bench, looked for once."""
        if self.generator_binary is None:
            self.progress("looking for the generator's bench")
            self.generator_binary = generator.find(ROOT, self.given.dev)
        return self.generator_binary

    def generator(self, case):
        binary = self.flows_bench()
        self.progress(f"{case.name}: {self.given.pairs} pairs")
        by_flows, tsc_hz, facts = generator.run(
            binary, case, self.given.pairs, self.given.seconds, self.given.hugepages
        )
        groups = []
        for flows, runs in by_flows.items():
            group = Group(case.label(flows), ("bare", "mac", "worker"), "worker", "mac")
            for run in runs:
                group.add(run["program"], run)
            groups.append(group)
        return Result(case, groups, tsc_hz, facts)

    def workers(self, case):
        binary = self.flows_bench()
        programs = ("alone", "processes", "workers")
        groups = {core: Group(f"2 workers: core {core}", programs, "workers", "processes") for core in workers.CORES}
        tsc_hz = 0
        for pair in range(self.given.pairs):
            self.progress(f"{case.name}: pair {pair + 1} of {self.given.pairs}")
            runs, tsc_hz = workers.run_pair(binary, self.given.hugepages, self.given.seconds)
            for core, by_program in runs.items():
                for program, run in by_program.items():
                    groups[core].add(program, run)
        return Result(case, list(groups.values()), tsc_hz)


def check_machine():
    if os.geteuid() != 0:
        raise RunError("Must be run as root")
    if not {0, 1} <= os.sched_getaffinity(0):
        raise RunError("Cores 0 and 1 are needed: 1 forwards, 0 does the rest")
    if not Path("/proc/self/schedstat").exists():
        raise RunError("This kernel does not tell what threads use (CONFIG_SCHED_INFO)")


def hugepages(given):
    """Enough for the largest of the cases, and for two processes of the others."""
    if not given.hugepages:
        return nullcontext()
    preloaded = [case.preloaded() for case in given.chosen if case.settings()["kind"] == "pcap"]
    return reserved_hugepages(ROOT, max(Memory.for_frames(frames, True).mib() for frames in [*preloaded, 2 * ON_ITS_WAY]) * 5 // 4)


def measure_all(given, folder):
    """All that was chosen. Returns the results, and whether each case has one."""
    bench = Bench(given, folder)
    results, complete = [], True
    for case in given.chosen:
        try:
            result = bench.measure(case)
        except (RunError, OSError, subprocess.SubprocessError, ValueError) as error:
            bench.progress("")
            print(f"bench: {case.name} is not measured: {error}\n", file=sys.stderr)
            complete = False
            continue
        bench.progress("")
        print(f"{report.as_table(result)}\n", flush=True)
        results.append(result)
    return results, complete


def write(given, results, facts):
    settings = {"pairs": given.pairs, "seconds": given.seconds, "hugepages": given.hugepages, "forwarding_core": 1}
    if given.json:
        everything = {"machine": facts, "settings": settings, "cases": [result.as_json() for result in results]}
        given.json.write_text(json.dumps(everything, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(report.as_markdown(results, facts, settings))
    if given.svg and results:
        chart.draw(given.svg, results, facts)


def main():
    given = arguments()
    if given.list:
        for case in cases.CASES:
            print(f"{case.name:<20} {case.title}")
        return 0
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_machine()
        facts = machine.facts(ROOT)
        with hugepages(given), tempfile.TemporaryDirectory(prefix="shunt-bench-") as folder:
            # EAL leaves its folders behind.
            os.environ["RUNTIME_DIRECTORY"] = folder
            results, complete = measure_all(given, Path(folder))
        write(given, results, facts)
    except (RunError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for result in results:
        if result.case.name == cases.FIRST:
            print(f"ratio to testpmd mac, IPv4 TCP, 1024 flows: {result.groups[0].ratio().median:.2f}")
    return 0 if complete else 1


sys.exit(main())
