"""Health checks: configurations, and from runs to what is printed."""

import tomllib
import unittest

import health


def run(cpu, probes, **more):
    usual = {"failed": 0, "void": 0, "arp_p50_us": 500.0, "arp_p99_us": 900.0, "arp_lost": 0}
    return health.Measured(cpu=cpu, probes_per_s=probes, **usual | more)


class Configurations(unittest.TestCase):
    def test_each_case_has_its_backends_and_its_check(self):
        addresses = [health.FIRST + number for number in range(2_000)]
        for case in health.CASES:
            text = health.configuration(case, "auto", addresses, "/run/x.sock")
            (service,) = tomllib.loads(text)["services"]
            self.assertEqual(len(service["backends"]), case.backends)
            self.assertEqual(service["check"].split()[0], case.check)

    def test_no_backend_has_an_address_of_another_host(self):
        others = {health.VIP, health.DIRECTOR, health.ASKER}
        self.assertFalse(others & {health.FIRST + number for number in range(2_000)})


class Tables(unittest.TestCase):
    def test_a_probe_costs_what_is_beyond_no_checks(self):
        none, tcp = health.CASES[0], health.CASES[2]
        text = health.table({none: [run(0.02, 0)], tcp: [run(0.03, 1_000), run(0.05, 1_000, void=3), run(0.04, 1_000)]})
        line = text.splitlines()[-1]
        self.assertIn("| tcp-1000 | 4.0 (3.0 to 5.0) |", line)
        self.assertIn("| 20.0 (10.0 to 30.0) | 0 | 3 |", line)

    def test_without_the_case_of_no_checks_nothing_is_said_of_a_probe(self):
        self.assertIn("| – |", health.table({health.CASES[1]: [run(0.03, 100)]}))


if __name__ == "__main__":
    unittest.main()
