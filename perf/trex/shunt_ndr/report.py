"""The report of a search: JSON for programs, Markdown for people, and a chart."""

import json
from pathlib import Path

from .losses import Loss
from .search import Limit, Verdict

# Packets per second and losses; colors that differ in lightness, too.
COLORS = {Verdict.PASSED: "#0072b2", Verdict.LOST: "#d55e00", Verdict.SHORT: "#999999", Verdict.EXCESS: "#cc79a7"}
MARKERS = {Verdict.PASSED: "o", Verdict.LOST: "x", Verdict.SHORT: "s", Verdict.EXCESS: "^"}
# Rates that span so much are drawn on a logarithmic axis.
DECADE = 10


def as_json(outcome, settings, about):
    """Everything, as plain values."""
    return {
        "ndr_pps": outcome.ndr_pps,
        "limit": outcome.limit.name.lower(),
        "settings": vars(settings),
        "about": about,
        "trials": [trial_as_json(step) for step in outcome.steps],
    }


def trial_as_json(step):
    """One trial, as plain values."""
    trial = step.trial
    return {
        "asked_pps": trial.asked_pps,
        "seconds": trial.seconds,
        "asked": trial.asked,
        "sent": trial.sent,
        "received": trial.received,
        "own_frames_of_shunt": trial.own,
        "lost": trial.lost,
        "verdict": step.verdict.name.lower(),
        "confirming": step.confirming,
        "losses": [vars(loss) for loss in trial.losses],
    }


def headline(outcome):
    """The result in a sentence."""
    if outcome.ndr_pps is None:
        return f"No rate was found; the limit is {outcome.limit.value}."
    least = "at least " if outcome.limit in (Limit.GENERATOR, Limit.RANGE) else ""
    return f"{least}{outcome.ndr_pps:,} packets per second; the limit is {outcome.limit.value}.".capitalize()


def losses_of(steps):
    """What was lost over all trials, by reason, the most first."""
    total = {}
    for step in steps:
        for loss in step.trial.losses:
            total[loss.reason] = total.get(loss.reason, 0) + loss.packets
    return sorted((Loss(reason, packets) for reason, packets in total.items()), key=lambda loss: -loss.packets)


def trial_row(step):
    """A trial as a row of the table."""
    trial = step.trial
    reasons = "; ".join(f"{loss.packets:,} {loss.reason}" for loss in trial.losses)
    kind = " (confirming)" if step.confirming else ""
    cells = (
        f"{trial.asked_pps:,}",
        f"{trial.sent:,}",
        f"{trial.received - trial.own:,}",
        f"{trial.lost:,}",
        step.verdict.value + kind,
        reasons,
    )
    return "| " + " | ".join(cells) + " |"


def as_markdown(outcome, settings, about, chart=None):
    """The report for people."""
    ratio = "without loss" if settings.loss_ratio == 0 else f"with a loss of at most {settings.loss_ratio:%}"
    lines = [f"# Rate {ratio}: {about.get('profile', 'profile unknown')}", "", headline(outcome), ""]
    if chart:
        lines += [f"![Loss over the rate]({chart})", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {value_as_text(value)} |" for key, value in {**about, **vars(settings)}.items()]
    lines += [
        "",
        "## Trials",
        "",
        "| packets/s asked | sent | received | lost | verdict | reasons |",
        "|---:|---:|---:|---:|---|---|",
    ]
    lines += [trial_row(step) for step in outcome.steps]
    reasons = losses_of(outcome.steps)
    lines += ["", "## Reasons of all losses", ""]
    lines += [f"- {loss.packets:,}: {loss.reason}" for loss in reasons] or ["Nothing was lost."]
    return "\n".join(lines) + "\n"


def value_as_text(value):
    """A value in a table's cell."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def draw(outcome, path):
    """The chart: what was lost at which rate, and why."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    # The same drawing for the same result, for files that are kept.
    with plt.rc_context({"svg.hashsalt": "shunt", "svg.fonttype": "none", "font.size": 9}):
        reasons = losses_of(outcome.steps)
        figure, axes = plt.subplots(
            2 if reasons else 1, 1, squeeze=False, figsize=(8, 6 if reasons else 3.5), layout="constrained"
        )
        draw_trials(axes[0][0], outcome)
        if reasons:
            draw_reasons(axes[1][0], reasons)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def draw_trials(axis, outcome):
    """A mark for each trial."""
    for verdict in Verdict:
        trials = [step.trial for step in outcome.steps if step.verdict is verdict]
        if trials:
            rates = [trial.asked_pps / 1e6 for trial in trials]
            shares = [100 * max(trial.lost, 0) / max(trial.sent, 1) for trial in trials]
            axis.plot(
                rates, shares, MARKERS[verdict], color=COLORS[verdict], label=verdict.value, linestyle="none", clip_on=False
            )
    if outcome.ndr_pps is not None:
        axis.axvline(outcome.ndr_pps / 1e6, color="black", linewidth=1, label=f"{outcome.ndr_pps:,} packets/s")
    # Losses of one in a million and of a half, on one axis, with 0.
    axis.set_yscale("symlog", linthresh=1e-4)
    axis.set_ylim(0, 100)
    rates = [step.trial.asked_pps for step in outcome.steps]
    if rates and max(rates) >= DECADE * min(rates):
        axis.set_xscale("log")
    else:
        axis.set_xlim(left=0)
    axis.set_xlabel("million packets per second asked for")
    axis.set_ylabel("lost, %")
    axis.legend()


def draw_reasons(axis, reasons):
    """A bar for each reason."""
    names = [loss.reason.split(" (")[0] for loss in reasons]
    axis.barh(names, [loss.packets for loss in reasons], color="#56b4e9")
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(left=1)
    axis.set_xlabel("packets lost over all trials")


def write(stem, outcome, settings, about):
    """Writes STEM.json, STEM.md and STEM.svg into a folder that is there, and returns their paths."""
    stem = Path(stem)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".json", ".md", ".svg")]
    paths[0].write_text(json.dumps(as_json(outcome, settings, about), indent=2) + "\n", encoding="utf-8")
    paths[1].write_text(as_markdown(outcome, settings, about, chart=paths[2].name), encoding="utf-8")
    draw(outcome, paths[2])
    return paths
