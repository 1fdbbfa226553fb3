"""Results as text: for the terminal, and as Markdown."""

import argparse
from pathlib import Path

HEADINGS = ("ns/packet", "quartiles", "min to max", "cycles", "Mpps/core")


def output(text):
    """A file to write results to, as an argument: refused before the measurement, not behind it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: it is a folder, or in none")
    return path


def span(low, high, digits=1):
    return f"{low:.{digits}f} to {high:.{digits}f}"


def row(spread, tsc_hz):
    """The cells of a program's line."""
    return (
        f"{spread.median:.1f}",
        span(spread.lower, spread.upper),
        span(spread.least, spread.most),
        f"{spread.median * tsc_hz / 1e9:.0f}",
        f"{1000 / spread.median:.1f}",
    )


def ratio_text(spread):
    return f"{spread.median:.2f} (quartiles {span(spread.lower, spread.upper, 2)}, {span(spread.least, spread.most, 2)})"


def notes(result):
    """What there is to say besides the table."""
    first = result.groups[0].label
    said = [f"{label} to {first}: {ratio_text(spread)}" for label, spread in result.growth()]
    remembered = result.facts.get("remembered_flows")
    if remembered:
        said.append(f"{first}: {remembered:,} flows are remembered")
    return said


def as_table(result):
    """A case's lines for the terminal."""
    widths = (10, 16, 16, 8, 10)
    lines = []
    for group in result.groups:
        cells = "".join(f"{heading:>{width}}" for heading, width in zip(HEADINGS, widths))
        lines.append(f"{group.label:<48}{cells}")
        for program in group.programs:
            cells = row(group.spread(program), result.tsc_hz)
            lines.append(f"  {program:<46}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)))
        lines.append(f"  {group.subject} to {group.baseline}: {ratio_text(group.ratio())}")
    lines += [f"  {note}" for note in notes(result)]
    return "\n".join(lines)


def as_markdown(results, machine, settings):
    """All cases as Markdown, a line for each program."""
    dirty = {True: ", with changes", False: "", None: ", changes unknown"}[machine["dirty"]]
    lines = [
        f"# Measured {machine['time']}",
        "",
        f"{machine['cpu']}, {machine['cpus']} cores{' of a virtual machine' if machine['hypervisor'] else ''}, "
        f"Linux {machine['kernel']}, DPDK {machine['dpdk']}, {machine['rustc']}, "
        f"commit {(machine['commit'] or 'unknown')[:12]}{dirty}; {settings['pairs']} pairs, {settings['seconds']:g} s each, "
        f"{'hugepages' if settings['hugepages'] else 'plain pages'}.",
        "",
        "| case | program | " + " | ".join(HEADINGS) + " | ratio | its quartiles | its min to max |",
        "|---|---|" + "---|" * (len(HEADINGS) + 3),
    ]
    for result in results:
        for group in result.groups:
            for number, program in enumerate(group.programs):
                ratio = ("", "", "")
                if program == group.subject:
                    spread = group.ratio()
                    ratio = (
                        f"**{spread.median:.2f}** of {group.baseline}",
                        span(spread.lower, spread.upper, 2),
                        span(spread.least, spread.most, 2),
                    )
                cells = (group.label if number == 0 else "", program, *row(group.spread(program), result.tsc_hz), *ratio)
                lines.append(f"| {' | '.join(cells)} |")
    for result in results:
        for note in notes(result):
            lines += ["", f"{note}."]
    return "\n".join(lines) + "\n"
