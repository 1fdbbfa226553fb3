"""Processes, their threads, and what those have used of a core."""

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


class RunError(Exception):
    """A run that is no measurement."""


@dataclass(frozen=True)
class CpuTime:
    """A thread's time on a core, and by the clock; and how often it has gone to sleep by itself."""

    used_ns: int
    wall_ns: int
    slept: int

    def __sub__(self, earlier):
        return CpuTime(self.used_ns - earlier.used_ns, self.wall_ns - earlier.wall_ns, self.slept - earlier.slept)

    def check_busy(self, who):
        """A thread that polls never sleeps; others may keep it from its core, which costs it no CPU time, but not for long."""
        if self.slept > 3:
            raise RunError(f"{who} slept {self.slept} times: it had too little to do")
        if self.used_ns < 0.1 * self.wall_ns:
            raise RunError(f"{who} had its core for {self.used_ns / self.wall_ns:.0%} of the time only: too much else runs here")


@dataclass(frozen=True)
class Thread:
    """A thread of a process."""

    process: int
    number: int

    @classmethod
    def named(cls, process, name):
        """The thread of that name; None where there is none (yet)."""
        for task in Path(f"/proc/{process}/task").glob("*"):
            try:
                if (task / "comm").read_text().strip() == name:
                    return cls(process, int(task.name))
            except OSError:
                continue  # it has just ended
        return None

    def cpu_time(self):
        """To the nanosecond of a thread that sleeps; of one that runs, as of the kernel's last tick."""
        folder = Path(f"/proc/{self.process}/task/{self.number}")
        used, wall_ns = (folder / "schedstat").read_text().split()[0], time.monotonic_ns()
        slept = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", (folder / "status").read_text(), re.M)[1]
        return CpuTime(int(used), wall_ns, int(slept))


def until(condition, seconds, what):
    """Waits for what `condition` returns."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise RunError(f"{what} did not come within {seconds} s")
        time.sleep(0.02)


def environment():
    """Without what would configure the daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHUNT_")}


def end(process, seconds=10):
    """Ends a child, the hard way if need be."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(path):
    """What a program that writes to this file said last."""
    return tail(Path(path).read_text(errors="replace").replace("\r", ""))


def tail(text, count=5):
    """The end of what a program said."""
    lines = text.strip().splitlines()
    return "\n".join(f"  | {line}" for line in lines[-count:])
