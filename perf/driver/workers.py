"""Two workers of one process, beside two processes of one worker, beside one worker alone."""

import json
import subprocess
import time

from threads import RunError, environment

CORES = (0, 1)
FLOWS = 1_000_000
# From when all are ready until they begin to measure.
PAUSE_NS = 300_000_000


def run_at_once(binary, groups, hugepages, seconds):
    """Runs a process for each group of cores, with a worker on each of its cores. Returns what each did, by core."""
    processes = [
        subprocess.Popen(
            [binary, "--scaling", "--core", ",".join(map(str, cores)), "--flows", str(FLOWS)]
            + ["--milliseconds", str(int(seconds * 1000)), "--hugepages", "on" if hugepages else "off"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for cores in groups
    ]
    try:
        for process in processes:
            if process.stdout.readline().strip() != "ready":
                process.kill()
                raise RunError(f"the generator's bench does not start: {process.communicate()[1].strip()}")
        start = time.time_ns() + PAUSE_NS
        for process in processes:
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        said = [process.communicate(timeout=seconds * 2 + 60) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    runs, tsc_hz = {}, 0
    for process, (told, error) in zip(processes, said):
        if process.returncode != 0:
            raise RunError(f"the generator's bench failed: {error.strip()}")
        told = json.loads(told)
        tsc_hz = told["tsc_hz"]
        runs |= {run["core"]: run for run in told["runs"]}
    return runs, tsc_hz


def run_pair(binary, hugepages, seconds):
    """One run of each. Returns, by core, what each kind of worker did there, and the frequency of the time stamp counter."""
    runs = {core: {} for core in CORES}
    tsc_hz = 0
    for program, sets in (
        ("alone", [[[core]] for core in CORES]),
        ("processes", [[[core] for core in CORES]]),
        ("workers", [[list(CORES)]]),
    ):
        for groups in sets:
            done, tsc_hz = run_at_once(binary, groups, hugepages, seconds)
            for core, run in done.items():
                runs[core][program] = run
    return runs, tsc_hz
