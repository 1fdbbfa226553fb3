"""Latencies: from runs to what is printed."""

import tempfile
import unittest
from pathlib import Path

import latency


def trial(*pieces, lost=0, late=0):
    """A run with these values, in ns, for all percentiles of its pieces."""
    figures = [{f"{name}_ns": value for name in latency.FIGURES} for value in pieces]
    return {"sent": 1_000, "lost": lost, "late": late, "all": figures[-1], "pieces": figures}


def runs(mac, shuntd):
    return {"mac": {50: mac, 90: mac}, "shuntd": {50: shuntd, 90: shuntd}}


class Figures(unittest.TestCase):
    def test_a_disturbed_piece_does_not_move_the_median(self):
        trials = [trial(1_000, 1_100, 1_200), trial(1_000, 9_000_000, 1_200)]
        self.assertEqual(latency.typical(trials, "p99").median, 1.15)
        self.assertEqual(latency.typical(trials, "p99").most, 9_000)

    def test_whole_runs_have_all(self):
        self.assertEqual(latency.whole([trial(1_000, 3_000), trial(1_000, 5_000)], "p50").median, 4.0)

    def test_the_ratio_is_of_neighbors_in_time(self):
        # The machine was twice as slow in the second pair, for both.
        of = runs([trial(1_000), trial(2_000)], [trial(1_500), trial(3_000)])
        self.assertEqual(latency.ratio(of, 50, "p50").median, 1.5)
        self.assertEqual(latency.ratio(of, 50, "p50").most, 1.5)

    def test_the_table_says_what_was_lost(self):
        text = latency.table(runs([trial(1_000)], [trial(1_500, lost=10, late=100)]), {50: 500_000, 90: 900_000})
        lines = text.splitlines()
        self.assertIn("50 %: 0.50 million frames a second", lines[0])
        self.assertEqual(lines[3].split(), ["shuntd", *["1.5"] * 6, "1.0000%", "10.00%"])
        self.assertEqual(lines[4].split(), ["ratio", *["1.50"] * 3])


class Session(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.session = Path(self.folder.name) / "autogroup"

    def niceness(self, text):
        self.session.write_text(text)
        return latency.niceness_of(self.session)

    def test_has_a_niceness(self):
        self.assertEqual(self.niceness("/autogroup-508 nice -3\n"), -3)

    def test_a_process_in_no_autogroup_has_none(self):
        self.assertIsNone(self.niceness(""))

    def test_a_kernel_without_autogroups_has_none(self):
        self.assertIsNone(latency.niceness_of(self.session))


if __name__ == "__main__":
    unittest.main()
