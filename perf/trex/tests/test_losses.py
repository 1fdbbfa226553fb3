"""The reasons of losses, from counters that are made up and from the real shuntctl's answers."""

import json
import stat

import pytest

from shunt_ndr.losses import BEFORE_SHUNT, BEHIND_SHUNT, OUTSIDE_SHUNT, Counters, Loss, explain, limit_of_receiver
from shunt_ndr.search import Limit, Outcome, Step, Trial, Verdict
from shunt_ndr.shuntctl import Shuntctl, ShuntctlError, counters_of

NOTHING = {"rx_missed": 0, "rx_errors": 0, "rx_no_mbuf": 0}
# There has been traffic before the trial.
BEFORE = Counters(
    rx_packets=5000,
    tx_packets=4000,
    hardware=dict(NOTHING, rx_missed=7),
    drops={"no_service": 900},
    punts={"arp": 3},
    forwarded={"clients": 0, "backends": 3900},
    own={"clients": 80, "backends": 20},
)


def after(rx, tx, hardware=None, drops=None, punts=None, own=0):
    """The counters at the end of a trial in which so much has come in addition, so much of its frames Shunt's own."""

    def grown(now, then):
        return {name: then.get(name, 0) + (now or {}).get(name, 0) for name in {**then, **(now or {})}}

    return Counters(
        rx_packets=BEFORE.rx_packets + rx,
        tx_packets=BEFORE.tx_packets + tx,
        hardware=grown(hardware, BEFORE.hardware),
        drops=grown(drops, BEFORE.drops),
        punts=grown(punts, BEFORE.punts),
        forwarded=grown({"backends": tx - own}, BEFORE.forwarded),
        # Those at the clients' port, by which nothing is forwarded, do not come in at the generator's second port.
        own=grown({"backends": own, "clients": 99}, BEFORE.own),
    )


def reasons(sent, received, **counted):
    """The reasons with the first word of what they mean."""
    return [(loss.reason.split(" (")[0], loss.packets) for loss in explain(sent, received, BEFORE, after(**counted))]


def test_nothing_lost_has_no_reason():
    assert reasons(1000, 1000, rx=1000, tx=1000) == []


def test_what_others_send_to_shunt_is_no_loss_of_the_trial():
    assert reasons(1000, 1000, rx=1005, tx=1000, drops={"multicast": 5}) == []


def test_shunts_own_reasons_are_named_the_most_first():
    found = reasons(1000, 900, rx=1000, tx=900, drops={"tx_full": 30, "no_backend": 70})
    assert found == [("no_backend", 70), ("tx_full", 30)]


def test_what_the_hardware_drops_is_named():
    found = reasons(1000, 990, rx=990, tx=990, hardware={"rx_missed": 8, "rx_no_mbuf": 2})
    assert found == [("rx_missed", 8), ("rx_no_mbuf", 2)]


def test_what_goes_to_the_slow_path_is_named():
    lost = explain(1000, 940, BEFORE, after(rx=1000, tx=940, punts={"too_big": 60}))
    assert lost == (Loss("too_big (for the slow path)", 60),)


def test_what_never_reached_shunt_is_lost_before_it():
    assert reasons(1000, 940, rx=940, tx=940) == [(BEFORE_SHUNT, 60)]


def test_what_shunt_has_sent_is_lost_behind_it():
    assert reasons(1000, 940, rx=1000, tx=1000) == [(BEHIND_SHUNT, 60)]


def test_all_at_once_adds_up_to_the_loss():
    found = reasons(1000, 700, rx=850, tx=750, hardware={"rx_missed": 50}, drops={"tx_full": 100})
    assert found == [("tx_full", 100), ("rx_missed", 50), (BEFORE_SHUNT, 100), (BEHIND_SHUNT, 50)]
    assert sum(packets for _, packets in found) == 300


def test_what_no_counter_shows_is_outside():
    """Frames of others can hide where it was: Shunt has received as many as were sent, and sent as many as were received."""
    assert reasons(1000, 990, rx=1000, tx=990) == [(OUTSIDE_SHUNT, 10)]


def test_frames_of_others_at_the_generator_hide_some_of_a_loss():
    """50 never reached Shunt, and 40 of others came in at the generator: 10 are missing, and no more are explained."""
    assert reasons(1000, 990, rx=950, tx=950) == [(BEFORE_SHUNT, 10)]


def test_shunts_own_frames_hide_no_loss():
    """Four announcements came in at the generator, and four packets did not. Those at the other port do not count."""
    assert after(rx=1000, tx=1000, own=4).since(BEFORE).own_among_forwarded == 4
    assert reasons(1000, 1000, rx=996, tx=1000, own=4) == [(BEFORE_SHUNT, 4)]
    assert reasons(1000, 1000, rx=1000, tx=1000, own=4, drops={"tx_full": 4}) == [("tx_full", 4)]
    assert reasons(1000, 1000, rx=1000, tx=1004, own=4) == [(BEHIND_SHUNT, 4)]
    assert reasons(1000, 1004, rx=1000, tx=1004, own=4) == []


def test_a_full_ring_is_the_receivers_doing_where_no_wire_empties_it():
    full = after(rx=1000, tx=900, drops={"tx_full": 100})
    for driver, says in [("net_memif", "did not empty"), ("net_af_packet", "did not empty"), ("net_ixgbe", None)]:
        (loss,) = explain(1000, 900, BEFORE, full, drivers=[driver])
        assert loss.packets == 100 and loss.reason.startswith("tx_full")
        assert loss.reason == "tx_full" if says is None else says in loss.reason


def outcome_that_lost(*reasons_of_trials):
    """The outcome of trials that lost for these reasons, and of one that passed."""
    lost = [Step(Trial(9, 1.0, 9, 1, losses=(Loss(reason, 8),)), Verdict.LOST, False) for reason in reasons_of_trials]
    return Outcome(1, Limit.DEVICE, (*lost, Step(Trial(1, 1.0, 1, 1), Verdict.PASSED, False)))


def test_the_limit_is_the_receiver_where_most_trials_lost_by_its_ring():
    assert limit_of_receiver(outcome_that_lost("tx_full (…)", "tx_full (…)", "rx_missed"), ["net_memif"])
    assert not limit_of_receiver(outcome_that_lost("tx_full", "tx_full"), ["net_ixgbe"])
    assert not limit_of_receiver(outcome_that_lost("tx_full (…)", "rx_missed", "no_backend"), ["net_memif"])
    assert not limit_of_receiver(outcome_that_lost(), ["net_memif"])


def test_reasons_never_explain_more_than_was_lost():
    assert reasons(1000, 998, rx=1010, tx=998, drops={"not_our_mac": 12}) == [("not_our_mac", 2)]


def test_a_reason_that_is_new_counts_from_0():
    grown = Counters(1, 1, NOTHING, {"loop": 4}, {}).since(Counters(0, 0, NOTHING, {}, {}))
    assert grown.drops == {"loop": 4}


PORTS = [
    {"rx_packets": 10, "tx_packets": 1, "forwarded_packets": 0, "rx_missed": 1, "rx_errors": 2, "rx_no_mbuf": 3, "name": "a"},
    {"rx_packets": 20, "tx_packets": 7, "forwarded_packets": 4, "rx_missed": 4, "rx_errors": 5, "rx_no_mbuf": 6, "name": "b"},
]
DROPS = [
    {"reason": "runt", "fate": "drop", "packets": 0},
    {"reason": "loop", "fate": "drop", "packets": 9},
    {"reason": "arp", "fate": "punt", "packets": 8},
]


def test_counters_are_sums_over_the_ports():
    counters = counters_of(PORTS, DROPS)
    assert (counters.rx_packets, counters.tx_packets) == (30, 8)
    assert (counters.forwarded, counters.own, counters.own_among_forwarded) == ({"a": 0, "b": 4}, {"a": 1, "b": 3}, 3)
    old = [{key: value for key, value in port.items() if key != "forwarded_packets"} for port in PORTS]
    assert counters_of(old, DROPS).own == {"a": 0, "b": 0}, "an older daemon does not tell them apart"
    assert counters.hardware == {"rx_missed": 5, "rx_errors": 7, "rx_no_mbuf": 9}
    assert (counters.drops, counters.punts) == ({"runt": 0, "loop": 9}, {"arp": 8})


def fake(folder, name, text):
    """A program."""
    file = folder / name
    file.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_shuntctl_is_asked(tmp_path):
    answers = (
        f"case $* in *'port list') echo '{json.dumps(PORTS)}' ;; *'drops --all') echo '{json.dumps(DROPS)}' ;; *) exit 2 ;; esac"
    )
    assert Shuntctl(fake(tmp_path, "shuntctl", answers), "/run/s").counters() == counters_of(PORTS, DROPS)


def test_over_ssh_the_command_is_quoted_for_the_remote_shell(tmp_path, monkeypatch):
    """The stand-in for ssh does what ssh does: it gives its last word to a shell."""
    fake(tmp_path, "ssh", f'echo "$@" >{tmp_path}/arguments\nexec sh -c "${{@: -1}}"')
    program = fake(tmp_path, "shunt ctl", """printf '"%s|%s|%s"' "$2" "$3" "$4" """)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Shuntctl(program, "/run/it's", "-p 2222 root@director").ask("status") == "--socket|/run/it's|status"
    assert (tmp_path / "arguments").read_text().startswith("-o BatchMode=yes -p 2222 root@director ")


@pytest.mark.parametrize(
    "program, message",
    [("echo no daemon >&2; exit 2", "exit status 2: no daemon"), ("echo '{'", "not JSON"), ("sleep 5", "timed out")],
)
def test_what_goes_wrong_is_said(tmp_path, program, message):
    with pytest.raises(ShuntctlError, match=message):
        Shuntctl(fake(tmp_path, "shuntctl", program), timeout_s=0.5).counters()


def test_a_program_that_is_not_there_is_said():
    with pytest.raises(ShuntctlError, match="No such file"):
        Shuntctl("/nowhere/shuntctl").counters()


def test_explanations_are_losses():
    assert explain(10, 9, BEFORE, after(rx=10, tx=9, drops={"loop": 1})) == (Loss("loop", 1),)
