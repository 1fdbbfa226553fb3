"""Processes, their threads, and what those have used of a core."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


class RunError(Exception):
    """A run that is no measurement."""


@dataclass(frozen=True)
class CpuTime:
    """A thread's time: on a core, ready but waiting for one, and by the clock."""

    used_ns: int
    waited_ns: int
    wall_ns: int

    def __sub__(self, earlier):
        return CpuTime(
            self.used_ns - earlier.used_ns, self.waited_ns - earlier.waited_ns, self.wall_ns - earlier.wall_ns
        )

    def check_busy(self, who):
        """A thread that slept had less to do than it could."""
        share = (self.used_ns + self.waited_ns) / self.wall_ns
        if share < 0.9:
            raise RunError(f"{who} was busy for {share:.0%} of the time only: it had too little to do")


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
        text = Path(f"/proc/{self.process}/task/{self.number}/schedstat").read_text()
        used, waited, _ = text.split()
        return CpuTime(int(used), int(waited), time.monotonic_ns())


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


def last_lines(path, count=5):
    """What a program said last."""
    lines = Path(path).read_text(errors="replace").replace("\r", "").strip().splitlines()
    return "\n".join(f"  | {line}" for line in lines[-count:])
