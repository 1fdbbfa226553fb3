"""The search itself: which rates to try, and what their outcome says. Knows neither TRex nor Shunt.

The rates are absolute, in packets per second, not shares of a line rate: two devices, or two versions, stay comparable.
"""

import dataclasses
import enum


class Verdict(enum.Enum):
    """What a trial says about its rate."""

    PASSED = "passed"
    LOST = "lost"
    # The generator sent too little: nothing is known of the device at that rate.
    SHORT = "generator too slow"
    # More came back than was sent: nothing that was counted can be believed.
    EXCESS = "more came back than was sent"


class Limit(enum.Enum):
    """Why the search ended where it did."""

    DEVICE = "the device: it loses packets above"
    RECEIVER = "the receiver: it does not empty the ring in time that the device sends into, so packets are lost above"
    GENERATOR = "the generator: it cannot send faster"
    RANGE = "the range of the search: nothing was lost at its upper end"
    NOTHING = "the device: it loses packets even at the lower end of the range"
    TRIALS = "the number of trials: no rate was confirmed within it"
    EXCESS = "the measurement: more packets came back than were sent, so it counts what it should not"
    ERROR = "an error: the search ended early"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to search. The defaults are those of `ndr`."""

    lowest_pps: int
    highest_pps: int
    # The search is over when the lowest rate that fails is at most so much above the highest that passes.
    resolution_pps: int
    # 0 for the non-drop rate; else what may be lost of what was sent (a partial drop rate).
    loss_ratio: float = 0.0
    # A trial counts only where the generator has sent this share of what it was asked for.
    sent_ratio: float = 0.98
    # How often the rate that was found must pass again.
    confirmations: int = 3
    max_trials: int = 100
    # So many packets of others may be among those that come back.
    most_strangers: int = 10

    def __post_init__(self):
        if not 0 < self.lowest_pps <= self.highest_pps:
            raise ValueError(f"The lowest rate ({self.lowest_pps}) must be above 0 and at most the highest ({self.highest_pps})")
        if self.resolution_pps < 1:
            raise ValueError("The resolution must be at least 1 packet per second")
        if not 0 <= self.loss_ratio < 1 or not 0 < self.sent_ratio <= 1:
            raise ValueError("Ratios are between 0 and 1")
        if self.confirmations < 0 or self.max_trials < 1 or self.most_strangers < 0:
            raise ValueError("There must be at least one trial, and no negative number of confirmations or strangers")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of sending at one rate for a while, counted after the drain: when all that would still come has come."""

    asked_pps: int
    seconds: float
    sent: int
    received: int
    # The frames among the received that the device has sent of its own: ARP, announcements.
    own: int = 0
    # Whatever else is known about it: the reasons of its losses.
    losses: tuple = ()

    @property
    def asked(self):
        """The packets that the generator should have sent."""
        return round(self.asked_pps * self.seconds)

    @property
    def lost(self):
        """The packets that did not come back. Negative: there were strangers among those that did."""
        return self.sent - (self.received - self.own)

    def verdict(self, settings):
        """What it says about its rate."""
        if self.sent == 0 or self.sent < settings.sent_ratio * self.asked:
            return Verdict.SHORT
        if -self.lost > settings.most_strangers:
            return Verdict.EXCESS
        return Verdict.PASSED if self.lost <= settings.loss_ratio * self.sent else Verdict.LOST


@dataclasses.dataclass(frozen=True)
class Step:
    """A trial in the course of the search."""

    trial: Trial
    verdict: Verdict
    confirming: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the search has found. No rate: none was confirmed."""

    ndr_pps: int | None
    limit: Limit
    steps: tuple


class OutOfTrials(Exception):
    """There have been as many trials as are allowed."""


class TooManyReceived(Exception):
    """More came back than was sent."""


class Search:
    """A binary search between the lowest and the highest rate.

    Loss is not always repeatable, so a rate that has passed once is only a candidate. One that fails when it is to be confirmed
    is an upper end like any other, and the search goes on below.
    """

    def __init__(self, run_trial, settings, on_step=lambda step: None):
        self.run_trial = run_trial
        self.settings = settings
        self.on_step = on_step
        self.steps = []
        # Rates that have passed and were never refuted, ascending.
        self.passed = []
        # The lowest rate that has failed, and how.
        self.failed_pps = None
        self.failed_as = None

    def run(self):
        """Searches."""
        try:
            return self.search()
        except OutOfTrials:
            return self.outcome(None, Limit.TRIALS)
        except TooManyReceived:
            return self.outcome(None, Limit.EXCESS)

    def search(self):
        """Goes through candidates until one is confirmed or none is left."""
        self.measure(self.settings.highest_pps)
        while True:
            self.narrow()
            if not self.passed:
                return self.outcome(None, self.limit(Limit.NOTHING))
            if self.confirm(self.passed[-1]):
                return self.outcome(self.passed[-1], self.limit(Limit.DEVICE))

    def narrow(self):
        """Bisects between the highest rate that passes and the lowest that fails."""
        while self.failed_pps is not None and self.failed_pps > self.settings.lowest_pps:
            if not self.passed:
                low = self.settings.lowest_pps
                if self.failed_pps - low <= self.settings.resolution_pps:
                    self.measure(low)
                    continue
            else:
                low = self.passed[-1]
                if self.failed_pps - low <= self.settings.resolution_pps:
                    return
            self.measure((low + self.failed_pps) // 2)

    def confirm(self, pps):
        """Whether the rate passes again as often as it must."""
        return all(self.measure(pps, confirming=True) is Verdict.PASSED for _ in range(self.settings.confirmations))

    def measure(self, pps, confirming=False):
        """Runs a trial and takes down what it says."""
        if len(self.steps) == self.settings.max_trials:
            raise OutOfTrials
        trial = self.run_trial(pps)
        verdict = trial.verdict(self.settings)
        self.steps.append(Step(trial, verdict, confirming))
        self.on_step(self.steps[-1])
        if verdict is Verdict.EXCESS:
            raise TooManyReceived
        if verdict is not Verdict.PASSED:
            self.refute(pps, verdict)
        elif not confirming:
            self.passed.append(pps)
        return verdict

    def refute(self, pps, verdict):
        """The rate fails: it is the new upper end, and nothing at or above it counts as passed."""
        self.failed_pps, self.failed_as = pps, verdict
        self.passed = [passed for passed in self.passed if passed < pps]

    def limit(self, otherwise):
        """What has kept the search from going higher."""
        if self.failed_pps is None:
            return Limit.RANGE
        return Limit.GENERATOR if self.failed_as is Verdict.SHORT else otherwise

    def outcome(self, pps, limit):
        """The end of the search."""
        return Outcome(pps, limit, tuple(self.steps))


def find_ndr(run_trial, settings, on_step=lambda step: None):
    """Searches with `run_trial`, which sends at a rate in packets per second and returns a Trial."""
    return Search(run_trial, settings, on_step).run()
