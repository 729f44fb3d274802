#!/usr/bin/env python3
"""Tests of what compare.py says: medians, verdicts, what is left out, and the file that the report reads.

    loadtest/peers/test_compare.py
    loadtest/peers/test_compare.py --write     writes that file anew, after a change of its form
"""

import json
import sys
import unittest

from harness.judging import FLOORS, OURS, Spread, beside, floor, target, verdict
from harness.peer import ROOT, Peer
from harness.row import Row
from harness.table import json_ready, markdown
from harness.tool import Figures

# A comparison that never was, for the report's tests.
EXAMPLE = ROOT / "loadtest/tests/reporting/peers.json"
MACHINE = {"name": "vm", "cpu": "a processor", "cores": 2, "memory_mib": 4096, "kernel": "6.1"}
MACHINE |= {"congestion_control": "cubic", "date": "2026-01-02T03:04:05Z", "commit": "0123456789ab"}
MACHINE |= {"node": "unknown", "loadtest": "0.1.0"}
ABOUT = {"machine": MACHINE, "command": ["compare.py", "--rounds", "3"], "rounds": 3, "seed": 7, "sessions": 1000}
ABOUT |= {"at_hand": [1, 64], "seconds": 5.0, "core": 1, "load_core": 0}


def figures(rate: float, problems: tuple[str, ...] = (), whole: bool = True) -> Figures:
    return Figures(int(rate) * 4, 4.0, rate, 50 << 20, whole, list(problems), MACHINE)


def row(name: str, singles: list[float], many: list[float]) -> Row:
    made = Row(Peer.read(name), f"{name} 1.0")
    for at_hand, rates in ((1, singles), (64, many)):
        made.rounds[at_hand] = {number: figures(rate) for number, rate in enumerate(rates)}
    return made


def example() -> dict[str, Row]:
    """Something of all that a comparison can come to."""
    rows = [
        row("umbel", [100e3, 110e3, 105e3], [2e6, 2.1e6, 2.2e6]),
        row("umbel-redis", [90e3, 95e3, 99e3], [1.8e6, 1.9e6, 2e6]),
        row("umbel-redis-post", [80e3, 81e3, 82e3], [1.5e6, 1.6e6, 1.7e6]),
        row("baseline", [120e3, 120e3, 120e3], [2.4e6, 2.4e6, 2.4e6]),
        row("baseline-redis", [110e3, 110e3, 110e3], [2e6, 2e6, 1.6e6]),
        row("nats", [90e3, 120e3, 80e3], [900e3, 1.2e6, 1.3e6]),
        row("nchan", [110e3, 120e3, 130e3], [150e3, 150e3, 150e3]),
        row("centrifugo", [50e3, 50e3, 50e3], [360e3, 390e3, 410e3]),
        row("centrifugo-post", [40e3, 40e3, 40e3], [45e3, 45e3, 45e3]),
        row("ws-ioredis-batched", [60e3, 60e3, 60e3], [800e3, 800e3, 800e3]),
        Row(Peer.read("socketio"), "socketio 1.0", failures=["the load tool ended with 1"]),
    ]
    rows = {one.peer.name: one for one in rows}
    rows["nchan"].rounds[64][2] = figures(9e6, ("12 lost",), whole=False)
    return rows


class Judging(unittest.TestCase):
    def test_quartiles_lie_between_neighbours(self):
        self.assertIsNone(Spread.of([]))
        self.assertEqual(Spread.of([3]), Spread(3, 3, 3))
        self.assertEqual(Spread.of([5, 1, 3, 2, 4]), Spread(2, 3, 4))
        self.assertEqual(Spread.of([1, 2, 3, 4]), Spread(1.75, 2.5, 3.25))

    def test_targets_are_by_how_a_system_is_fed(self):
        def targets(name):
            return [target(Peer.read(name), at_hand) for at_hand in (1, 2, 8, 64)]

        for name in ("ws-ioredis", "socketio", "centrifugo", "nchan-redis", "sockudo", "anycable"):
            self.assertEqual(targets(name), [1, None, 5, 5], name)
        self.assertEqual(targets("nats"), [1, None, 2, 2])
        for name in ("nchan", "mercure"):
            self.assertEqual(targets(name), [1, None, None, None], name)
        for name in (*OURS, *FLOORS, "ws-ioredis-batched"):
            self.assertEqual(targets(name), [None] * 4, name)

    def test_a_verdict_needs_agreement(self):
        for expected, ratios in (
            ("reached", [0.1, 5.1, 5.2]),
            ("reached", [5, 5, 5]),
            ("undecided", [4.8, 4.9, 5.3]),
            ("missed", [4.7, 4.8, 4.9]),
        ):
            self.assertEqual(verdict(5, Spread.of(ratios), True), expected, ratios)
        self.assertEqual(verdict(None, Spread.of([9]), True), "unjudged")
        self.assertEqual(verdict(5, None, True), "undecided")
        self.assertEqual(verdict(5, None, False), "missed")

    def test_each_is_compared_with_the_umbel_that_is_fed_alike(self):
        for peer in Peer.all():
            ours = beside(peer)
            if peer.name in OURS:
                self.assertIsNone(ours)
            else:
                self.assertEqual(Peer.read(ours).fed_by.split(":")[0], peer.fed_by.split(":")[0], peer.name)
                by_redis = ["@redis@" in one.publish_url for one in (peer, Peer.read(ours))]
                self.assertEqual(*by_redis, peer.name)


    def test_what_is_possible_is_shown_by_the_loop_that_is_fed_alike(self):
        for peer in Peer.all():
            least = floor(peer)
            if peer.name in (*OURS, *FLOORS):
                self.assertIsNone(least)
            else:
                self.assertEqual(Peer.read(least).redis, peer.redis, peer.name)
        rows = example()
        self.assertEqual(rows["centrifugo"].work(rows, 64).floor, Spread.of([2e6 / 360e3, 2e6 / 390e3, 1.6e6 / 410e3]))
        self.assertIsNone(rows["umbel"].work(rows, 64).floor)
        del rows["baseline-redis"]
        self.assertIsNone(rows["centrifugo"].work(rows, 64).floor)


class Comparing(unittest.TestCase):
    def test_rounds_that_missed_something_are_left_out(self):
        rows = example()
        work = rows["nchan"].work(rows, 64)
        self.assertEqual(work.deliveries_per_core_second, Spread(150e3, 150e3, 150e3))
        self.assertEqual(work.ratio, Spread.of([2e6 / 150e3, 2.1e6 / 150e3]))
        self.assertEqual(work.rounds, 2)
        self.assertEqual(rows["nchan"].notes(), ["64 at hand: 12 lost; the round is left out"])
        rows["umbel"].rounds[64] = {number: figures(9e6, ("1 doubled",), whole=False) for number in range(3)}
        self.assertIsNone(rows["nats"].work(rows, 64).ratio)
        self.assertEqual(rows["nats"].work(rows, 64).verdict, "missed")

    def test_ratios_are_those_of_the_same_round(self):
        rows = example()
        self.assertEqual(rows["nats"].work(rows, 1).ratio, Spread.of([100 / 90, 110 / 120, 105 / 80]))
        del rows["nats"].rounds[1][0]
        self.assertEqual(rows["nats"].work(rows, 1).ratio, Spread.of([110 / 120, 105 / 80]))

    def test_the_table_has_verdicts_and_why_there_is_none(self):
        text = markdown(example(), ABOUT)
        for line in (
            "| NATS | 64 | at least 2 | 1.75 (1.72–1.99) | 2.00 (1.92–2.33) | 3 | missed |",
            "| NATS | 1 | at least 1 | 1.11 (1.01–1.21) | 1.33 (1.17–1.42) | 3 | reached |",
            "| Centrifugo | 64 | at least 5 | 4.88 (4.87–4.94) | 5.13 (4.52–5.34) | 3 | missed |",
            "| Centrifugo, HTTP API | 64 | at least 5 | 35.56 (34.44–36.67) | 44.44 (40.00–44.44) | 3 | reached |",
            "| Socket.IO with its Redis adapter | 64 | at least 5 | not measured |  | 0 | undecided |",
            "- ws and ioredis, batched by hand: no verdict: written by us to show what batching brings; "
            "no library does it for its users",
            "shuffled with seed 7",
        ):
            self.assertIn(line, text)
        self.assertNotIn("| ws and ioredis, batched by hand | 64 | at least", text)

    def test_the_report_reads_what_is_written(self):
        self.assertEqual(EXAMPLE.read_text(), written(), "run this file with --write")


def written() -> str:
    return json.dumps(json_ready(example(), ABOUT), indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        EXAMPLE.write_text(written())
    else:
        unittest.main()
