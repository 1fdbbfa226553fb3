"""The results as a picture."""

COLORS = {
    "io": "#c7c7c7",
    "mac": "#7f9fbf",
    "shuntd": "#d9534f",
    "bare": "#c7c7c7",
    "worker": "#d9534f",
    "alone": "#c7c7c7",
    "processes": "#7f9fbf",
    "workers": "#d9534f",
}


def draw(path, results, machine):
    """Bars of the medians, with whiskers from the least to the most; the ratio behind the last of a group."""
    import matplotlib  # installed by scripts/install-deps --perf; nothing else needs it

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "shunt"
    from matplotlib import pyplot

    groups = [group for result in results for group in result.groups]
    bars = sum(len(group.programs) + 1 for group in groups)
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.2 * bars))
    place, ticks, labels, named = 0, [], [], set()
    for group in groups:
        ticks.append(place + (len(group.programs) - 1) / 2)
        labels.append(group.label)
        for program in group.programs:
            spread = group.spread(program)
            whiskers = [[spread.median - spread.least], [spread.most - spread.median]]
            label = None if program in named else program
            named.add(program)
            color = COLORS[program]
            axes.barh(place, spread.median, 0.9, xerr=whiskers, color=color, label=label, error_kw={"linewidth": 0.7})
            if program == group.subject:
                axes.text(spread.most, place, f"  {group.ratio().median:.2f} of {group.baseline}", va="center", fontsize=7)
            place += 1
        place += 1
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("ns of the forwarding thread's CPU time for each packet; less is better")
    axes.set_title(f"{machine['cpu']}, DPDK {machine['dpdk']}, commit {(machine['commit'] or 'unknown')[:12]}", fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
