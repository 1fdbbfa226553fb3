#!/usr/bin/python3
"""What each room of the fast path costs by itself: runs criterion's benches, and makes a table of what they measured. See --help."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
import report

ROOT = Path(__file__).resolve().parents[2]
BENCHES = ("rooms", "maglev")


def arguments():
    parser = argparse.ArgumentParser(
        prog="perf/rooms",
        description="Runs the benches of the fast path's rooms (parse, service, hash, slot, remembered flows, fragments) and of Maglev "
        "tables, some 6 minutes on one core after the build, and prints a table. How to read it: perf/README.md.",
    )
    parser.add_argument("--json", type=report.output, metavar="FILE", help="write all, with the machine and the commit")
    parser.add_argument("--markdown", type=report.output, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--no-build", action="store_true", help="install nothing (cargo builds what has changed all the same)")
    return parser.parse_args()


def criterion():
    """Where criterion keeps its figures."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return (target if target.is_absolute() else ROOT / target) / "criterion"


def measured(folder, since):
    """What benches have measured since then: dictionaries, times in ns for each element."""
    found = []
    for path in sorted(folder.glob("**/new/benchmark.json")):
        if path.stat().st_mtime < since:
            continue
        benchmark = json.loads(path.read_text())
        median = json.loads(path.with_name("estimates.json").read_text())["median"]
        elements = (benchmark["throughput"] or {}).get("Elements", 1)
        interval = median["confidence_interval"]
        found.append(
            {
                "room": benchmark["group_id"],
                "case": ", ".join(part for part in (benchmark["function_id"], benchmark["value_str"]) if part),
                "ns": median["point_estimate"] / elements,
                "ns_low": interval["lower_bound"] / elements,
                "ns_high": interval["upper_bound"] / elements,
            }
        )
    return found


def in_units(row):
    """The median and its interval, in a unit that suits them."""
    for unit, ns in (("ms", 1e6), ("µs", 1e3), ("ns", 1)):
        if row["ns"] >= ns or unit == "ns":
            return f"{row['ns'] / ns:.2f} {unit}", f"{row['ns_low'] / ns:.2f} to {row['ns_high'] / ns:.2f} {unit}"


def table(rows):
    lines = ["| room | case | median | its 95 % interval |", "|---|---|---|---|"]
    lines += ["| {} | {} | {} | {} |".format(row["room"], row["case"], *in_units(row)) for row in rows]
    return "\n".join(lines)


def main():
    wanted = arguments()
    since = time.time()
    command = ["cargo", "bench", "--locked", "--quiet", "--package", "dataplane"]
    command += [word for bench in BENCHES for word in ("--bench", bench)]
    # What criterion says of changes is to whatever was measured here before, and not for this table.
    done = subprocess.run([*command, "--", "--noplot"], cwd=ROOT, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"rooms: cargo bench has failed (status {done.returncode})")
    rows, facts = measured(criterion(), since), machine.facts(ROOT)
    if not rows:
        sys.exit(f"rooms: the benches have left no figures in {criterion()}")
    print(table(rows))
    if wanted.json:
        wanted.json.write_text(json.dumps({"machine": facts, "rooms": rows}, indent=1) + "\n")
    if wanted.markdown:
        heading = f"# Rooms, measured {facts['time']}\n\n{facts['cpu']}, {facts['rustc']}, commit {(facts['commit'] or 'unknown')[:12]}"
        wanted.markdown.write_text(f"{heading}{', with changes' if facts['dirty'] else ''}.\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
