"""The table of rooms, from what criterion leaves behind."""

import json
import os
import tempfile
import unittest
from pathlib import Path

import rooms


def leave(folder, group, function, value, elements, median, age_s=0):
    """A bench's figures, as criterion writes them."""
    new = folder / group / function / (value or "") / "new"
    new.mkdir(parents=True)
    benchmark = {
        "group_id": group,
        "function_id": function,
        "value_str": value,
        "throughput": {"Elements": elements} if elements else None,
    }
    (new / "benchmark.json").write_text(json.dumps(benchmark))
    interval = {"lower_bound": median * 0.9, "upper_bound": median * 1.1}
    estimates = {"median": {"point_estimate": median, "confidence_interval": interval}}
    (new / "estimates.json").write_text(json.dumps(estimates))
    then = 1_000_000 - age_s
    os.utime(new / "benchmark.json", (then, then))


class Rooms(unittest.TestCase):
    def test_figures_are_for_each_element_and_of_this_run(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            leave(folder, "parse", "plain ipv4", None, 1024, 2048.0)
            leave(folder, "maglev", "equal weights", "1000", None, 2_100_000.0)
            leave(folder, "parse", "of old", None, 1024, 1.0, age_s=60)
            found = rooms.measured(folder, 1_000_000 - 30)
        self.assertEqual([row["case"] for row in found], ["equal weights, 1000", "plain ipv4"])
        self.assertEqual(found[1]["ns"], 2.0)
        lines = rooms.table(found).splitlines()
        self.assertEqual(lines[2], "| maglev | equal weights, 1000 | 2.10 ms | 1.89 to 2.31 ms |")
        self.assertEqual(lines[3], "| parse | plain ipv4 | 2.00 ns | 1.80 to 2.20 ns |")


if __name__ == "__main__":
    unittest.main()
