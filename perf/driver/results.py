"""From runs to what they say."""

from dataclasses import dataclass, field

from figures import Spread, pairwise_ratios


@dataclass
class Group:
    """Runs of several programs in turns, of which one is compared with another."""

    label: str
    programs: tuple
    subject: str
    baseline: str
    # By program, one for each pair: at least "packets" and "cpu_ns".
    runs: dict = field(default_factory=dict)

    def add(self, program, run):
        self.runs.setdefault(program, []).append(run)

    def nanoseconds(self, program):
        """CPU time for a packet, by run."""
        return [run["cpu_ns"] / run["packets"] for run in self.runs[program]]

    def spread(self, program):
        return Spread.of(self.nanoseconds(program))

    def ratio(self):
        """Packets in a second of the core, subject to baseline."""
        return Spread.of(pairwise_ratios(self.nanoseconds(self.baseline), self.nanoseconds(self.subject)))

    def summary(self, tsc_hz):
        programs = {}
        for program in self.programs:
            spread = self.spread(program)
            programs[program] = {
                "ns_per_packet": spread.rounded(2),
                "tsc_cycles_per_packet": round(spread.median * tsc_hz / 1e9, 1),
                "packets_per_cpu_second": round(1e9 / spread.median),
            }
        ratio = {"of": self.subject, "to": self.baseline, **self.ratio().rounded(3)}
        return {"label": self.label, "programs": programs, "ratio": ratio, "runs": self.runs}


@dataclass
class Result:
    """A case's groups."""

    case: object
    groups: list
    tsc_hz: int
    facts: dict = field(default_factory=dict)

    def growth(self):
        """Of a generator's groups: the subject's speed in each, as a part of its speed in the first."""
        if self.case.settings()["kind"] != "generator":
            return []
        first = self.groups[0].nanoseconds(self.groups[0].subject)
        return [(group.label, Spread.of(pairwise_ratios(first, group.nanoseconds(group.subject)))) for group in self.groups[1:]]

    def as_json(self):
        return {
            "settings": self.case.settings(),
            "tsc_hz": self.tsc_hz,
            **({"facts": self.facts} if self.facts else {}),
            "groups": [group.summary(self.tsc_hz) for group in self.groups],
            "relative_to_first_group": [{"label": label, **spread.rounded(3)} for label, spread in self.growth()],
        }
