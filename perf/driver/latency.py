"""perf/latency: how long frames take through shuntd and back over memif, beside testpmd. See --help and perf/README.md."""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import cases
import generator
import machine
import report
import shunt
import testpmd
from figures import Spread, pairwise_ratios
from frames import UDP
from memory import USUAL, Memory
from threads import RunError, Thread, end, environment, last_lines, until

ROOT = Path(__file__).resolve().parents[2]

PROGRAMS = ("mac", "shuntd")
# Per cent of what the path carries.
LOADS = (50, 90)
FIGURES = ("p50", "p99", "p999")
PORT_MAC = "02:00:00:00:aa:00"
# Of 64 bytes, 1,024 flows.
CASE = cases.PcapCase("memif", "64-byte UDP frames, 1,024 flows, 16 backends", protocol=UDP)

DESCRIPTION = """\
A generator on core 0 sends 64-byte frames through a director on core 1 and back, over shared memory (memif), and measures how long
each takes: dpdk-testpmd (mac) and shuntd in turns, at 50 % and 90 % of what the path carries, which is found first. No NIC, no
hugepages. Installs what is missing, and builds. Needs root and two cores. How to read the figures: perf/README.md."""


def arguments():
    parser = argparse.ArgumentParser(
        prog="perf/latency", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 pairs of 1 s: does it work, and roughly how long is it?")
    parser.add_argument("--pairs", type=int, metavar="N", help="runs of each program; default 5, with --quick 2")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each run and load; default 3, with --quick 1")
    parser.add_argument("--json", type=report.output, metavar="FILE", help="write all, with every single run")
    parser.add_argument(
        "--no-build", action="store_true", help="installs nothing; builds only the generator's bench if it has changed"
    )
    parser.add_argument(
        "--dev", action="store_true", help="with --no-build: take the development build; tries the command, its figures mean nothing"
    )
    given = parser.parse_args()
    if given.dev and not given.no_build:
        parser.error("--dev takes what has been built: add --no-build")
    given.pairs = given.pairs if given.pairs is not None else 2 if given.quick else 5
    given.seconds = given.seconds if given.seconds is not None else 1 if given.quick else 3
    if not 1 <= given.pairs <= 1_000 or not 0.5 <= given.seconds <= 60:
        parser.error("--pairs is 1 to 1000, --seconds 0.5 to 60")
    return given


class Generator:
    """The running generator: the server of the memif."""

    def __init__(self, binary, folder, more):
        self._socket = folder / "memif.sock"
        self._log = folder / "generator.log"
        self._told = False
        command = [binary, "--socket", self._socket, "--core", "0", "--to", PORT_MAC, *more]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment()
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # What it has measured, it has told; it ends by itself when nobody holds its standard input.
        self._process.stdin.close()
        if self._told:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        end(self._process)
        self._process.stdout.close()
        self._socket.unlink(missing_ok=True)

    def device(self):
        """The other end, once there is this one."""

        def listening():
            if self._process.poll() is not None:
                raise RunError(f"the generator does not start; its last words:\n{last_lines(self._log)}")
            return self._socket.exists()

        until(listening, 30, "the generator's memif")
        return f"net_memif0,role=client,id=0,socket={self._socket},socket-abstract=no,mac={PORT_MAC}"

    def told(self, seconds):
        """What it has measured; it stays until the director is gone."""
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise RunError(f"the generator has told nothing within {seconds:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(10)
            raise RunError(f"the generator failed ({code}); its last words:\n{last_lines(self._log)}")
        self._told = True
        return json.loads(line)


class Latency:
    """What all runs have in common."""

    def __init__(self, given, folder):
        self.given = given
        self.folder = folder
        self.binary = generator.find(ROOT, given.dev, "latency")
        target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
        self.shuntd = target / ("debug" if given.dev else "release") / "shuntd"
        if not self.shuntd.exists():
            raise RunError(f"There is no {self.shuntd}: leave --no-build out")
        self.memory = Memory(USUAL, False)

    @contextmanager
    def director(self, program, device):
        """One that forwards while this lasts; gives a function that returns what shuntd itself has to say of it."""
        if program == "mac":
            with testpmd.Testpmd("mac", device, self.memory) as director:
                director.ready()
                director.start()
                yield lambda: None
            return
        text = shunt.configuration(CASE, device, self.memory, self.folder / "shuntd.sock")
        with shunt.Shuntd(self.shuntd, self.folder, text) as director:
            director.ready()
            # It has nothing to do, but looks each 0.5 ms whether it has, on the generator's core.
            slow_path = until(lambda: Thread.named(director.pid(), "shunt-slow"), 5, "shuntd's slow path")
            os.setpriority(os.PRIO_PROCESS, slow_path.number, 19)
            yield lambda: director.workers()[0]["latency"]["since_start"]["percentiles"]

    def run(self, program, more):
        """One run of a program, with what the generator is to do; returns what it tells."""
        milliseconds = max(10, int(self.given.seconds * 1000))
        more = [*more, "--milliseconds", str(milliseconds)]
        with Generator(self.binary, self.folder, more) as running:
            with self.director(program, running.device()) as inside:
                told = running.told(120 + 15 * self.given.seconds)
                return {**told, "inside": inside()}

    def carried(self):
        """How many frames a second the path carries with each program; the median of three, in turns."""
        rates = {program: [] for program in PROGRAMS}
        for number in range(1 if self.given.quick else 3):
            for program in PROGRAMS:
                progress(f"what the path carries: {program}, {number + 1}")
                rates[program].append(self.run(program, ["--saturate"])["carried"])
        return rates

    def pairs(self, rates):
        """All runs, by program and load."""
        runs = {program: {load: [] for load in LOADS} for program in PROGRAMS}
        inside = []
        more = ["--rates", ",".join(str(rates[load]) for load in LOADS)]
        for pair in range(self.given.pairs):
            for program in PROGRAMS:
                progress(f"pair {pair + 1} of {self.given.pairs}: {program}")
                told = self.run(program, more)
                for load, trial in zip(LOADS, told["trials"], strict=True):
                    runs[program][load].append(trial)
                if told["inside"]:
                    inside.append(told["inside"])
        return runs, inside


def progress(text):
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else "", end="", file=sys.stderr, flush=True)


def typical(trials, figure):
    """Over all pieces of all runs, in µs."""
    return Spread.of([piece[f"{figure}_ns"] / 1000 for trial in trials for piece in trial["pieces"]])


def whole(trials, figure):
    """Over the runs as wholes, in µs."""
    return Spread.of([trial["all"][f"{figure}_ns"] / 1000 for trial in trials])


def ratio(runs, load, figure):
    """shuntd to mac, pair by pair: of each run, the median of its pieces."""
    medians = ([typical([trial], figure).median for trial in runs[program][load]] for program in ("shuntd", "mac"))
    return Spread.of(pairwise_ratios(*medians))


def table(runs, rates):
    lines = []
    for load in LOADS:
        lines.append(f"{load} %: {rates[load] / 1e6:.2f} million frames a second; round trip in µs")
        heads = "".join(f"{name:>10}" for name in ("p50", "p99", "p99.9"))
        lines.append(f"  {'':<8}{'in the median 50 ms:':>22}{heads}{'  in whole runs:':<18}{heads}{'lost':>10}{'sent late':>11}")
        for program in PROGRAMS:
            trials = runs[program][load]
            sent = sum(trial["sent"] for trial in trials)
            pieces, wholes = ("".join(f"{of(trials, f).median:>10,.1f}" for f in FIGURES) for of in (typical, whole))
            lost, late = (sum(trial[name] for trial in trials) / sent for name in ("lost", "late"))
            lines.append(f"  {program:<8}{'':>22}{pieces}{'':18}{wholes}{lost:>10.4%}{late:>11.2%}")
        ratios = "".join(f"{ratio(runs, load, figure).median:>10.2f}" for figure in FIGURES)
        lines.append(f"  {'ratio':<8}{'':>22}{ratios}")
    return "\n".join(lines)


def inside_text(inside):
    """What shuntd's own histogram says: the part of the round trip that is the worker's."""
    figures = ", ".join(
        f"{name} {Spread.of([percentiles[f'{key}_ns'] / 1000 for percentiles in inside]).median:.1f}"
        for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))
    )
    return f"of that within the worker, by shuntctl worker list, both loads together, in µs: {figures}"


def measure(given, folder):
    """Everything, as JSON; prints the tables."""
    latency = Latency(given, folder)
    carried = latency.carried()
    carries = {program: Spread.of(rates).median for program, rates in carried.items()}
    least = min(carries.values())
    rates = {load: int(least * load / 100) for load in LOADS}
    progress("")
    print("the path carries, in million frames a second: " + ", ".join(f"{p} {r / 1e6:.2f}" for p, r in carries.items()))
    runs, inside = latency.pairs(rates)
    progress("")
    print(table(runs, rates))
    if inside:
        print(inside_text(inside))
    print('"sent late": the generator came to it more than 10 µs too late, for which its own core and a full ring account')
    return {
        "case": {**CASE.settings(), "kind": "memif"},
        "carried": carried,
        "rates": rates,
        "runs": runs,
        "inside_shuntd": inside,
        "summary": {
            load: {
                **{
                    program: {
                        "median_50_ms": {f: typical(runs[program][load], f).rounded(2) for f in FIGURES},
                        "whole_runs": {f: whole(runs[program][load], f).rounded(2) for f in FIGURES},
                    }
                    for program in PROGRAMS
                },
                "ratio": {f: ratio(runs, load, f).rounded(3) for f in FIGURES},
            }
            for load in LOADS
        },
    }


def niceness_of(session):
    """That of the session whose file this is: `/autogroup-7 nice 0` (sched(7)). A kernel without autogroups has no file; where there
    was no setsid(2) since the first process, the file is empty."""
    words = session.read_text().split() if session.exists() else []
    return int(words[-1]) if words else None


@contextmanager
def preferred(session=Path("/proc/self/autogroup")):
    """Before whoever else runs, as far as the kernel lets; what is started inherits it."""
    # Where sessions share the time among them, a priority counts within the session only.
    before = niceness_of(session)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        if before is not None:
            session.write_text("-20")
    except OSError as error:
        print(f"latency: no priority over others ({error.strerror}): who else runs shows in the figures", file=sys.stderr)
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                session.write_text(str(before))


def check_machine():
    if os.geteuid() != 0:
        raise RunError("Must be run as root")
    if not {0, 1} <= os.sched_getaffinity(0):
        raise RunError("Cores 0 and 1 are needed: the director forwards on 1, the generator has 0")


def main():
    given = arguments()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_machine()
        facts = machine.facts(ROOT)
        with preferred(), tempfile.TemporaryDirectory(prefix="shunt-latency-") as folder:
            # EAL leaves its folders behind.
            os.environ["RUNTIME_DIRECTORY"] = folder
            measured = measure(given, Path(folder))
        if given.json:
            settings = {"pairs": given.pairs, "seconds": given.seconds, "forwarding_core": 1, "generator_core": 0}
            everything = {"machine": facts, "settings": settings, **measured}
            given.json.write_text(json.dumps(everything, indent=1) + "\n")
    except (RunError, OSError) as error:
        progress("")
        print(f"latency: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
