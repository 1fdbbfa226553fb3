"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path


def said(*command, cwd=None):
    """The first line that a command prints, or None."""
    try:
        output = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return (output.strip().splitlines() or [""])[0]


def field(path, pattern):
    """What a pattern finds in a file of the kernel's."""
    found = re.search(pattern, Path(path).read_text(), re.M)
    return found[1].strip() if found else None


def facts(root):
    """Machine, versions, commit. No names: neither the host's nor anybody's."""
    # But for the results, which the bench itself writes.
    changes = said("git", "status", "--porcelain", "--", ".", ":!perf/results", cwd=root)
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cpu": field("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cpus": os.cpu_count(),
        "hypervisor": "hypervisor" in (field("/proc/cpuinfo", r"^flags\s*: (.*)$") or "").split(),
        "memory_mib": int(field("/proc/meminfo", r"^MemTotal:\s*(\d+)")) // 1024,
        "kernel": platform.release(),
        "transparent_hugepages": field("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]")
        if Path("/sys/kernel/mm/transparent_hugepage/enabled").exists()
        else None,
        "load_average": os.getloadavg()[0],
        "dpdk": said("pkg-config", "--modversion", "libdpdk"),
        "rustc": said("rustc", "--version", cwd=root),
        "commit": said("git", "rev-parse", "HEAD", cwd=root),
        # Of an archive without history, nobody knows.
        "dirty": None if changes is None else changes != "",
    }
