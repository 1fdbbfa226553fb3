"""The search for the NDR, with devices and generators that are made up."""

import random

import pytest

from shunt_ndr.search import Limit, Settings, Trial, Verdict, find_ndr

SECONDS = 10.0
SETTINGS = Settings(lowest_pps=1000, highest_pps=10_000_000, resolution_pps=10_000)


def device(limit_pps):
    """Loses everything above its limit."""

    def run(pps):
        sent = round(pps * SECONDS)
        return Trial(pps, SECONDS, sent, min(sent, round(limit_pps * SECONDS)))

    return run


def random_device(probability, seed=1):
    """Loses each packet with a probability, at every rate (few enough to be drawn by their expected number)."""
    numbers = random.Random(seed)

    def run(pps):
        sent = round(pps * SECONDS)
        expected = sent * probability
        lost = int(expected) + (numbers.random() < expected % 1)
        return Trial(pps, SECONDS, sent, sent - lost)

    return run


def slow_generator(most_pps, run):
    """Sends at most so much, and the device sees no more."""

    def limited(pps):
        trial = run(min(pps, most_pps))
        return Trial(pps, SECONDS, trial.sent, trial.received)

    return limited


def rates(outcome, confirming=None):
    """The rates of the trials, in their order."""
    return [step.trial.asked_pps for step in outcome.steps if confirming is None or step.confirming == confirming]


@pytest.mark.parametrize("limit", [1000, 1001, 12_345, 999_999, 5_000_000, 9_999_999])
def test_the_limit_of_a_device_is_found(limit):
    outcome = find_ndr(device(limit), SETTINGS)
    assert limit - SETTINGS.resolution_pps <= outcome.ndr_pps <= limit
    assert outcome.limit is Limit.DEVICE
    assert rates(outcome, confirming=True) == [outcome.ndr_pps] * 3


def test_few_trials_are_needed():
    """10 halvings reduce 10 million to 10 thousand; the first trial and three confirmations come in addition."""
    assert len(find_ndr(device(3_333_333), SETTINGS).steps) <= 1 + 10 + 3


def test_a_device_without_loss_is_confirmed_at_the_upper_end():
    outcome = find_ndr(device(10**9), SETTINGS)
    assert outcome.ndr_pps == 10_000_000
    assert outcome.limit is Limit.RANGE
    assert rates(outcome) == [10_000_000] * 4


def test_a_device_that_forwards_nothing_has_no_ndr():
    outcome = find_ndr(device(0), SETTINGS)
    assert outcome.ndr_pps is None
    assert outcome.limit is Limit.NOTHING
    assert rates(outcome)[-1] == 1000, "the lower end was tried"


def test_a_lucky_trial_is_refuted_by_the_confirmations():
    """The rate passes once, where it was to fail: the search goes on below it."""
    honest = device(2_000_000)
    trials = []

    def run(pps):
        trials.append(pps)
        # The second trial: half way up.
        return device(10**9)(pps) if len(trials) == 2 else honest(pps)

    outcome = find_ndr(run, SETTINGS)
    assert 1_990_000 <= outcome.ndr_pps <= 2_000_000
    refuted = [step for step in outcome.steps if step.confirming and step.verdict is Verdict.LOST]
    assert len(refuted) == 1


def test_a_device_that_loses_at_random_gets_a_rate_at_which_it_hardly_does():
    """One packet in a million: a rate that passes four times has hardly a million packets in a trial."""
    outcome = find_ndr(random_device(1e-6), SETTINGS)
    assert outcome.ndr_pps is not None
    assert outcome.ndr_pps * SECONDS < 1_000_000
    assert len(outcome.steps) < SETTINGS.max_trials


def test_a_little_loss_may_be_allowed():
    partial = Settings(lowest_pps=1000, highest_pps=10_000_000, resolution_pps=10_000, loss_ratio=2e-6)
    assert find_ndr(random_device(1e-6), partial).ndr_pps == 10_000_000
    # 0.1 % over its limit, a device has lost 0.1 %.
    per_mille = Settings(lowest_pps=1000, highest_pps=10_000_000, resolution_pps=1000, loss_ratio=1e-3)
    assert find_ndr(device(5_000_000), per_mille).ndr_pps == pytest.approx(5_005_000, abs=1000)


def test_a_generator_that_cannot_keep_up_is_named():
    outcome = find_ndr(slow_generator(3_000_000, device(10**9)), SETTINGS)
    assert outcome.limit is Limit.GENERATOR
    # It counts as long as it sends 98 %.
    assert outcome.ndr_pps == pytest.approx(3_000_000 / 0.98, abs=SETTINGS.resolution_pps)
    assert outcome.steps[0].verdict is Verdict.SHORT


def test_a_device_slower_than_its_slow_generator_is_named():
    outcome = find_ndr(slow_generator(3_000_000, device(1_000_000)), SETTINGS)
    assert outcome.limit is Limit.DEVICE
    assert outcome.ndr_pps == pytest.approx(1_000_000, abs=SETTINGS.resolution_pps)


def test_a_generator_that_sends_nothing_proves_nothing():
    outcome = find_ndr(lambda pps: Trial(pps, SECONDS, 0, 0), SETTINGS)
    assert outcome.ndr_pps is None
    assert outcome.limit is Limit.GENERATOR
    assert {step.verdict for step in outcome.steps} == {Verdict.SHORT}


@pytest.mark.parametrize("sent, verdict", [(980_000, Verdict.PASSED), (979_999, Verdict.SHORT), (1_000_000, Verdict.PASSED)])
def test_a_trial_counts_from_98_percent(sent, verdict):
    assert Trial(100_000, SECONDS, sent, sent).verdict(SETTINGS) is verdict


def test_a_short_trial_does_not_count_though_nothing_was_lost():
    """Also one that has lost something is short first: it says nothing about the rate."""
    assert Trial(100_000, SECONDS, 500_000, 400_000).verdict(SETTINGS) is Verdict.SHORT


def test_one_lost_packet_is_a_loss():
    assert Trial(100_000, SECONDS, 1_000_000, 999_999).verdict(SETTINGS) is Verdict.LOST


def test_a_few_strangers_among_the_received_are_no_loss():
    trial = Trial(100_000, SECONDS, 1_000_000, 1_000_003)
    assert trial.verdict(SETTINGS) is Verdict.PASSED
    assert trial.lost == -3


def test_the_devices_own_frames_hide_no_loss():
    """Four announcements came in, and four packets did not: "lost 0"."""
    trial = Trial(100_000, SECONDS, 1_000_000, 1_000_000, own=4)
    assert (trial.lost, trial.verdict(SETTINGS)) == (4, Verdict.LOST)
    assert Trial(100_000, SECONDS, 1_000_000, 1_000_004, own=4).verdict(SETTINGS) is Verdict.PASSED


def test_much_more_than_was_sent_ends_the_search():
    """A ring that is broken: 4,002 frames sent, 5,695,777 received."""
    broken = Trial(400.2, SECONDS, 4_002, 5_695_777)
    assert broken.verdict(SETTINGS) is Verdict.EXCESS
    assert Trial(100_000, SECONDS, 1_000_000, 1_000_011).verdict(SETTINGS) is Verdict.EXCESS
    trials = []

    def run(pps):
        trials.append(pps)
        sent = round(pps * SECONDS)
        return Trial(pps, SECONDS, sent, sent * 2 if len(trials) == 3 else sent // 2)

    outcome = find_ndr(run, SETTINGS)
    assert (outcome.ndr_pps, outcome.limit, len(outcome.steps)) == (None, Limit.EXCESS, 3)


def test_a_device_that_is_never_confirmed_ends_with_the_trials():
    """Passes when it is asked first, fails when it is asked again."""
    asked = set()

    def run(pps):
        sent = round(pps * SECONDS)
        again = pps in asked
        asked.add(pps)
        return Trial(pps, SECONDS, sent, sent - again)

    few = Settings(lowest_pps=1000, highest_pps=10_000_000, resolution_pps=1, max_trials=30)
    outcome = find_ndr(run, few)
    assert outcome.ndr_pps is None
    assert outcome.limit is Limit.TRIALS
    assert len(outcome.steps) == 30


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_device_does_the_search_ends_and_keeps_its_promise(seed):
    """Devices that are nothing but noise: what is found has passed 1 + 3 times in a row at the end."""
    numbers = random.Random(seed)
    bias = numbers.random()

    def run(pps):
        sent = round(pps * SECONDS * numbers.choice([1, 1, 1, 0.5]))
        return Trial(pps, SECONDS, sent, sent - (numbers.random() > bias))

    outcome = find_ndr(run, SETTINGS)
    assert len(outcome.steps) <= SETTINGS.max_trials
    assert all(SETTINGS.lowest_pps <= rate <= SETTINGS.highest_pps for rate in rates(outcome))
    if outcome.ndr_pps is None:
        return
    last = outcome.steps[-SETTINGS.confirmations :]
    assert all(step.confirming and step.verdict is Verdict.PASSED and step.trial.asked_pps == outcome.ndr_pps for step in last)
    failed = [step.trial.asked_pps for step in outcome.steps if step.verdict is not Verdict.PASSED]
    assert all(rate > outcome.ndr_pps for rate in failed)


def test_every_step_is_told():
    told = []
    outcome = find_ndr(device(5_000_000), SETTINGS, told.append)
    assert tuple(told) == outcome.steps


@pytest.mark.parametrize(
    "wrong",
    [
        {"lowest_pps": 0},
        {"lowest_pps": 20_000_000},
        {"resolution_pps": 0},
        {"loss_ratio": 1.0},
        {"sent_ratio": 0.0},
        {"confirmations": -1},
        {"max_trials": 0},
        {"most_strangers": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    right = {"lowest_pps": 1000, "highest_pps": 10_000_000, "resolution_pps": 10_000}
    with pytest.raises(ValueError):
        Settings(**{**right, **wrong})
