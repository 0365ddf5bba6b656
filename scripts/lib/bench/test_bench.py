"""What the benchmark reckons by itself, without anything that runs: `python3 -m unittest discover scripts/lib/bench`."""

import unittest
import xml.dom.minidom
from types import SimpleNamespace

import goals
import model
import policies
from cases import ESTABLISHED, NOTRACK, Case, Table, count
from latency import quantile
from pictures import Line, chart
from report import Report
from rounds import Result
from subject import Measured
from traffic import Traffic

CASE = Case("sluice", "tracked", Traffic())
OTHER = Case("testpmd", "io", Traffic())


def report(*results):
    """Of one table with both cases, at 1 GHz."""
    table = Table("flows", "Flows", ["10k flows"], {"I/O": [OTHER], ESTABLISHED: [CASE]}, base="I/O")
    options = SimpleNamespace(rounds=1, seconds=1.0)
    return Report([table], dict(zip((OTHER, CASE), results)), {}, {}, 1e9, {}, options)


class Reckoning(unittest.TestCase):
    def test_a_quantile_lies_between_two_bounds(self):
        buckets = {1e-6: 50, 2e-6: 90, 5e-6: 100, float("inf"): 100}
        for part, micros in ((0.5, 1.0), (0.7, 1.5), (0.9, 2.0), (0.95, 3.5), (1.0, 5.0)):
            self.assertAlmostEqual(quantile(buckets, part), micros, msg=part)
        self.assertAlmostEqual(quantile({1e-6: 0, float("inf"): 4}, 0.5), 1.0, msg="all above the last bound")

    def test_nothing_is_net_of_what_was_not_measured(self):
        alone = Table("flows", "Flows", ["10k flows"], {ESTABLISHED: [CASE]}, base="I/O")
        text = report(Result([]), Result([Measured(60, 1e6, 0, {})])).table(alone)
        self.assertIn(ESTABLISHED, text)
        self.assertNotIn("net of I/O", text)

    def test_what_lost_packets_is_not_compared(self):
        base, lossy = Result([Measured(50, 1e6, 0, {})]), Result([Measured(60, 1e6, 0.1, {})], "lost 10.0% of the packets")
        text = report(base, lossy).table(report(base, lossy).tables[0])
        self.assertIn(f"| {ESTABLISHED} | – |", text)
        self.assertNotIn("net of I/O", text)
        self.assertIn("lost 10.0%", "".join(report(base, lossy).skipped()))

    def test_net_is_the_difference_of_medians(self):
        of = lambda *nanos: Result([Measured(n, 1e6, 0, {}) for n in nanos])
        lines = report(of(40, 50, 90), of(100, 300, 200)).table(report(of(), of()).tables[0]).splitlines()
        self.assertIn("| I/O | 50 (40–90) |", lines)
        self.assertIn(f"| {ESTABLISHED}, net of I/O | 150 |", lines)

    def test_goals_are_asked_of_what_was_measured_alone(self):
        of = lambda *nanos: Result([Measured(n, 1e6, 0, {}) for n in nanos])
        found = list(goals.rows(report(of(50), of(100))))
        self.assertEqual(found, [["P1: established, 10k flows, net cycles", "50", "≤ 60", "yes"]])

    def test_more_cores_forward_as_many_times_more(self):
        made = report(Result([Measured(50, 1e6, 0, {})]), Result([Measured(100, 1e6, 0, {})]))
        self.assertIn(f"| {ESTABLISHED}, 10k flows | 100 | 10.0 | 20.0 | 40.0 | 80.0 | 160.0 | 320.0 |", model.markdown(made))
        self.assertEqual([model.cores(n) for n in (0.2, 1.0, 1.1, 50)], ["1", "1", "2", "(50)"])

    def test_rules_are_the_same_each_time_and_no_packet_is_on_them(self):
        first, again = (list(policies.rules(1000)) for _ in range(2))
        self.assertEqual(first, again)
        self.assertFalse([rule for rule in first if rule[3] == 53])
        self.assertEqual(policies.network("10.1.2.3/22"), "10.1.0.0/22")
        self.assertEqual([count(n) for n in (1, 10_000, 1_000_000)], ["1", "10k", "1M"])

    def test_a_picture_is_xml_and_none_without_values(self):
        lines = [Line(NOTRACK, [1, None, 300], 0), Line("a < b", [2, 3, 4], 1, dashed=True)]
        parsed = xml.dom.minidom.parseString(chart("t & u", "x", "y", ["1", "2", "3"], lines))
        self.assertEqual(len(parsed.getElementsByTagName("path")), 2)
        self.assertIsNone(chart("t", "x", "y", ["1"], [Line("n", [None], 0)]))


if __name__ == "__main__":
    unittest.main()
