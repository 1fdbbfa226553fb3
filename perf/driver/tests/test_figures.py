"""What is made of runs."""

import tomllib
import unittest
from pathlib import Path

import cases
import report
import shunt
from figures import Spread, pairwise_ratios
from memory import Memory
from results import Group, Result
from threads import CpuTime, RunError


def counters(packets, dropped=0, punted=0, lost=0, turns=None):
    return {
        "rx_packets": packets,
        "dropped_packets": dropped,
        "forwarded_packets": packets - dropped - punted - lost,
        "punted_packets": punted,
        "turns": turns or packets // 32,
        "busy_turns": packets // 32,
    }


def run_of(later, half_stray=False, used_ns=1_000_000_000, slept=0):
    before = (counters(0, turns=1) | {"turns": 0}, CpuTime(0, 0, 0))
    return shunt.counted(before, (later, CpuTime(used_ns, 1_000_000_000, slept)), half_stray)


class Figures(unittest.TestCase):
    def test_a_sample_in_five_numbers(self):
        spread = Spread.of([5, 1, 2, 4, 3])
        self.assertEqual(spread, Spread(median=3, lower=2, upper=4, least=1, most=5))
        self.assertEqual(Spread.of([7]), Spread(7, 7, 7, 7, 7))
        self.assertEqual(Spread.of([1, 2]).median, 1.5)
        with self.assertRaises(ValueError):
            Spread.of([])

    def test_ratios_are_of_pairs(self):
        self.assertEqual(pairwise_ratios([10, 20], [20, 40]), [0.5, 0.5])
        with self.assertRaises(ValueError):
            pairwise_ratios([1], [1, 2])

    def group(self):
        group = Group("load", ("mac", "shuntd"), "shuntd", "mac")
        # The second pair was disturbed as a whole: each ratio is still 0.8.
        for nanoseconds in (10, 30, 10):
            group.add("mac", {"packets": 100, "cpu_ns": 100 * nanoseconds})
            group.add("shuntd", {"packets": 100, "cpu_ns": 125 * nanoseconds})
        return group

    def test_a_disturbed_pair_does_not_change_the_ratio(self):
        ratio = self.group().ratio()
        self.assertEqual((ratio.least, ratio.median, ratio.most), (0.8, 0.8, 0.8))

    def test_a_summary_has_cycles_and_packets_of_a_second(self):
        summary = self.group().summary(2_000_000_000)
        self.assertEqual(summary["programs"]["mac"]["tsc_cycles_per_packet"], 20)
        self.assertEqual(summary["programs"]["mac"]["packets_per_cpu_second"], 100_000_000)
        self.assertEqual(summary["ratio"]["median"], 0.8)

    def test_the_tables_say_the_same(self):
        result = Result(cases.CASES[0], [self.group()], 2_000_000_000)
        facts = {"time": "", "cpu": "", "cpus": 2, "hypervisor": True, "kernel": "", "dpdk": "", "rustc": ""}
        facts |= {"commit": None, "dirty": None}
        markdown = report.as_markdown([result], facts, {"pairs": 3, "seconds": 1, "hugepages": False})
        self.assertIn("shuntd to mac: 0.80", report.as_table(result))
        self.assertIn("| **0.80** of mac |", markdown)


class Runs(unittest.TestCase):
    def test_what_was_forwarded_is_a_measurement(self):
        self.assertEqual(run_of(counters(32_000_000))["packets"], 32_000_000)
        self.assertEqual(run_of(counters(32_000_000, dropped=16_000_000), True)["dropped"], 16_000_000)

    def test_what_was_lost_dropped_punted_or_idle_is_none(self):
        for later in (
            counters(0),
            counters(32_000_000, dropped=1),
            counters(32_000_000, lost=1_000_000),
            counters(32_000_000, punted=1),
            counters(32_000_000, turns=2_000_000),
        ):
            with self.subTest(later), self.assertRaises(RunError):
                run_of(later)
        with self.assertRaises(RunError):
            run_of(counters(32_000_000), half_stray=True)
        with self.assertRaises(RunError):
            run_of(counters(32_000_000), used_ns=50_000_000)
        with self.assertRaises(RunError):
            run_of(counters(32_000_000), slept=10)

    def test_buffers_are_enough_for_what_is_preloaded(self):
        self.assertEqual(Memory.for_frames(1_024, False).mbufs, 16_383)
        self.assertGreater(Memory.for_frames(500_000, False).mbufs, 500_000 + 8_192)

    def test_the_daemon_s_file_has_all_services(self):
        (case,), _ = cases.named(["services-1000"])
        text = shunt.configuration(case, "net_null0", Memory(16_383, False), Path("/run/bench.sock"))
        file = tomllib.loads(text)
        self.assertEqual((len(file["services"]), len(file["services"][0]["backends"])), (1000, 16))
        self.assertEqual(file["director"]["workers"], [1])


if __name__ == "__main__":
    unittest.main()
