"""The results as a picture."""

GREY, BLUE, RED = "#c7c7c7", "#7f9fbf", "#d9534f"
COLORS = {
    "io": GREY,
    "bare": GREY,
    "alone": GREY,
    "mac": BLUE,
    "processes": BLUE,
    "shuntd": RED,
    "worker": RED,
    "workers": RED,
}


def draw(path, results, machine):
    """Bars of the medians, with whiskers from the least to the most; the ratio behind the last of a group."""
    import matplotlib  # installed by scripts/install-deps --perf; nothing else needs it

    matplotlib.use("Agg")
    # Text as text, and the same picture for the same figures.
    matplotlib.rcParams.update({"svg.hashsalt": "shunt", "svg.fonttype": "none"})
    from matplotlib import pyplot

    groups = [group for result in results for group in result.groups]
    bars = sum(len(group.programs) + 1 for group in groups)
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.2 * bars))
    place, ticks, labels = 0, [], []
    for group in groups:
        ticks.append(place + (len(group.programs) - 1) / 2)
        labels.append(group.label)
        for program in group.programs:
            spread = group.spread(program)
            whiskers = [[spread.median - spread.least], [spread.most - spread.median]]
            axes.barh(place, spread.median, 0.9, xerr=whiskers, color=COLORS[program], error_kw={"linewidth": 0.7})
            if program == group.subject:
                axes.text(spread.most, place, f"  {group.ratio().median:.2f} of {group.baseline}", va="center", fontsize=7)
            place += 1
        place += 1
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("ns of the forwarding thread's CPU time for each packet; less is better")
    axes.set_title(f"{machine['cpu']}, DPDK {machine['dpdk']}, commit {(machine['commit'] or 'unknown')[:12]}", fontsize=9)
    measured = {program for group in groups for program in group.programs}
    names = {color: ", ".join(p for p in COLORS if COLORS[p] == color and p in measured) for color in (GREY, BLUE, RED)}
    bars = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in names]
    axes.legend(bars, names.values(), fontsize=8, loc="lower right")
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
