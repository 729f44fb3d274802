#!/usr/bin/env python3
"""The formulas and the simulation on cases that can be reckoned by hand. Neither Redis nor a node is started."""

import itertools
import math
import random
import sys
import unittest

sys.dont_write_bytecode = True

import costs
import fit
import measure_redis
import model
import node
import report
import rollout
import shares
import workloads
from private_redis import pack
from rollout import Plan, Rollout


def measured(base=2.0, single=4.25, many=0.5, apart=1.0):
    """What `measure` would have found, in round numbers: a write of 4 µs and 0.25 µs of a copy's own. Copies to many topics
    cost `apart` times those."""
    spread = {"hearing": 10, "nodes": 10, "at_hand": 16, "cpu_micros": base + apart * 10 * many}
    lines = [{"call": call, "payload_bytes": 128, "at_hand": at_hand, "base_micros": base * (10 if call == "FCALL" else 1),
              "copy_micros": copy, "bytes_per_copy": 200.0, "worst_residual_micros": 0.0}
             for call in ("PUBLISH", "FCALL") for at_hand, copy in ((1, single), (16, many))]
    topics = [{"topics": 1000, "kind": kind, "back_redis_micros": micros, "node_bytes_per_topic": 500.0}
              for kind, micros in (("live", 1.0), ("kept", 10.0))]
    return {
        "redis": {"fan_out": {"lines": lines},
                  "subscriptions": [{"topics": 1000, "bytes_per_channel": 100.0, "bytes_per_pair": 120.0, "cut_micros": 1.0}],
                  "spread": [spread],
              "history": {"memory": [{"payload_bytes": 128, "messages": count, "bytes_per_topic": size}
                                         for count, size in ((1, 1000.0), (10, 2800.0), (100, 20800.0))],
                              "reads": [{"read": "whole", "at_hand": 100, "cpu_micros": 300.0}]}},
        "node": {"topics": topics, "quiet_history": {"redis_micros_per_check": 10.0, "output_bytes_per_check": 100.0},
                 "nothing_to_do": {"redis_micros_per_node_second": 100.0}}}


COSTS = costs.Costs(measured())


class Lines(unittest.TestCase):
    def test_a_line_goes_through_points_that_are_on_one(self):
        base, step, rest = fit.line([(1, 5), (2, 7), (64, 131)])
        self.assertAlmostEqual(base, 3)
        self.assertAlmostEqual(step, 2)
        self.assertAlmostEqual(rest, 0)

    def test_one_point_is_no_line(self):
        self.assertRaises(ValueError, fit.line, [(1, 5), (1, 6)])


class Wire(unittest.TestCase):
    def test_commands_are_as_redis_reads_them(self):
        self.assertEqual(pack("SET", b"a", 12), b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n12\r\n")

    def test_a_copy_of_a_message_has_this_size(self):
        text = b"*3\r\n$7\r\nmessage\r\n$18\r\numbel:room.0000001\r\n$128\r\n" + b"x" * 128 + b"\r\n"
        self.assertEqual(measure_redis.copy_bytes("PUBLISH", 128, 1), len(text))
        digit = measure_redis.copy_bytes("FCALL", 128, [b"0" * 16 + b"-9", 1])
        self.assertEqual(measure_redis.copy_bytes("FCALL", 128, [b"0" * 16 + b"-10", 1]), digit + 1)

    def test_client_frames_tell_their_length_in_three_ways(self):
        self.assertEqual(node.client_frame(b"a"), b"\x81\x81\0\0\0\0a")
        self.assertEqual(node.client_frame(b"a" * 126)[:4], b"\x81\xfe\0\x7e")
        self.assertEqual(node.client_frame(b"a" * 65536)[:10], b"\x81\xff\0\0\0\0\0\1\0\0")


class Model(unittest.TestCase):
    def test_what_is_taken_from_recorded_runs_is_recorded_so(self):
        for case, micros in costs.DELIVERY_MICROS.items():
            self.assertAlmostEqual(costs.recorded(case), micros, delta=0.006, msg=case)

    def test_a_copy_is_work_of_its_own_and_a_share_of_a_write(self):
        self.assertAlmostEqual(COSTS.copy["PUBLISH"], 0.25)
        self.assertAlmostEqual(COSTS.write["PUBLISH"], 4)
        # All ten nodes hear it: 2 µs and ten copies, each with a write, or a sixteenth of one.
        self.assertAlmostEqual(COSTS.message_micros("PUBLISH", 10, 10, 1), 2 + 10 * 4.25)
        self.assertAlmostEqual(COSTS.message_micros("PUBLISH", 10, 10, 16), 2 + 10 * 0.5)
        # One of very many: no two of those at hand go to the same node. One of two: both are written to.
        self.assertAlmostEqual(COSTS.message_micros("PUBLISH", 1, 1e6, 16), 2 + 4.25, places=3)
        self.assertAlmostEqual(COSTS.message_micros("PUBLISH", 1, 2, 16), 2 + 0.25 + 4 * 2 / 16, places=3)

    def test_copies_to_many_topics_cost_what_was_measured(self):
        twice = costs.Costs(measured(apart=2.0))
        self.assertAlmostEqual(twice.message_micros("PUBLISH", 10, 10, 16), 2 + 2 * 10 * 0.5)
        self.assertAlmostEqual(twice.message_micros("PUBLISH", 10, 10, 1), 2 + 10 * 4.25)
        self.assertEqual(costs.Costs(measured(apart=0.5)).apart, 1)

    def test_how_many_nodes_hear_a_topic(self):
        self.assertAlmostEqual(model.hearing(1, 50), 1)
        self.assertAlmostEqual(model.hearing(2, 4), 1.75)
        self.assertAlmostEqual(model.hearing(10**6, 20), 20)
        self.assertEqual(model.hearing(7, 1), 1)
        dice = random.Random(1)
        drawn = sum(len({dice.randrange(20) for _ in range(15)}) for _ in range(2000)) / 2000
        self.assertAlmostEqual(model.hearing(15, 20), drawn, delta=0.1)

    def test_memory_of_a_topic_is_between_what_was_measured(self):
        self.assertEqual([COSTS.kept_bytes(count) for count in (1, 5.5, 10, 55, 100, 500)], [1000, 1900, 2800, 11800, 20800, 20800])

    def test_zipf_shares_out_all_sessions_and_topics(self):
        for topics in (1, 2, 7, 100, 12_345):
            groups = workloads.zipf(1e6, topics, 1)
            self.assertAlmostEqual(sum(group.topics for group in groups), topics)
            self.assertAlmostEqual(sum(group.topics * group.audience for group in groups), 1e6, delta=1)
        self.assertAlmostEqual(workloads.zipf(11, 3, 1)[0].audience, 6)
        self.assertAlmostEqual(workloads.harmonic(1000), sum(1 / k for k in range(1, 1001)), places=9)

    def test_a_million_sessions_with_a_topic_each(self):
        at = model.size(workloads.WORKLOADS[1], 1_000_000, COSTS)
        self.assertEqual(at["nodes"], 21)
        self.assertAlmostEqual(at["deliveries"], 1e6 / 60)
        self.assertAlmostEqual(at["egress_bits"], 1e6 / 60 * (128 + 4 + 90) * 8)
        self.assertAlmostEqual(at["pairs"], 1e6)
        self.assertAlmostEqual(at["heard_per_node"] * 21, 1e6 / 60)
        # Sixteen messages go to 11.4 of 21 nodes; and 100 µs a second for each node.
        writes = 21 * (1 - (20 / 21) ** 16) / 16
        self.assertAlmostEqual(at["redis_cores"], 1e6 / 60 * (2.25 + 4 * writes) * 1e-6 + 21 * 100e-6)
        self.assertAlmostEqual(at["redis_bytes"], 1e6 * 220)
        self.assertAlmostEqual(at["back_seconds"], 1)

    def test_quiet_topics_with_history_are_asked_for(self):
        live, kept = (model.size(workloads.WORKLOADS[index], 1_000_000, COSTS) for index in (1, 2))
        self.assertEqual(live["redis_parts"]["checks"], 0)
        self.assertAlmostEqual(kept["redis_parts"]["checks"], 1e6 * math.exp(-1 / 6) / 10 * 10e-6)
        rarely = model.size(workloads.WORKLOADS[2], 1_000_000, COSTS, check_seconds=60)
        self.assertAlmostEqual(rarely["redis_parts"]["checks"], 1e6 * math.exp(-1) / 60 * 10e-6)

    def test_rooms_that_are_kept_together_have_one_copy(self):
        apart = model.size(workloads.WORKLOADS[3], 10_000_000, COSTS)
        together = model.size(workloads.WORKLOADS[3], 10_000_000, COSTS, together=True)
        self.assertGreater(apart["pairs"], 50 * together["pairs"])
        self.assertAlmostEqual(together["pairs"], 100_000)
        self.assertGreater(model.shards(apart), model.shards(together))

    def test_a_limit_is_where_the_figure_passes_it(self):
        for workload in workloads.WORKLOADS:
            found = model.limits(workload, COSTS)
            self.assertEqual(found, sorted(found))
            for at, name in found:
                most = model.LIMITS[name]
                self.assertLessEqual(model.size(workload, at, COSTS)[name], most)
                self.assertGreater(model.size(workload, at * 1.03, COSTS)[name], most)

    def test_every_limit_has_a_name_and_advice(self):
        for workload in workloads.WORKLOADS:
            for at, name in model.limits(workload, COSTS):
                self.assertTrue(model.NAMES[name] and model.advice(workload, at, name, COSTS))
        self.assertIn("10 000 000", report.model(COSTS))

    def test_topics_of_one_session_are_not_to_be_kept_together(self):
        self.assertNotIn("few nodes", model.advice(workloads.WORKLOADS[1], 5_000_000, "redis_cores", COSTS))
        self.assertIn("few nodes", model.advice(workloads.WORKLOADS[3], 5_000_000, "redis_cores", COSTS))
        self.assertIn("check_seconds", model.advice(workloads.WORKLOADS[2], 5_000_000, "redis_cores", COSTS))


class Shares(unittest.TestCase):
    def test_the_lowest_are_filled_first(self):
        self.assertEqual(shares.fill([5, 0, 3], 0), [0, 0, 0])
        self.assertEqual(shares.fill([5, 0, 3], 2), [0, 2, 0])
        self.assertEqual(shares.fill([5, 0, 3], 5), [0, 4, 1])
        self.assertEqual(shares.fill([5, 0, 3], 10), [1, 6, 3])
        dice = random.Random(2)
        for _ in range(200):
            levels = [dice.randrange(20) for _ in range(dice.randrange(1, 9))]
            count = dice.randrange(60)
            one_by_one = list(levels)
            for _ in range(count):
                one_by_one[one_by_one.index(min(one_by_one))] += 1
            filled = [level + share for level, share in zip(levels, shares.fill(levels, count))]
            self.assertEqual(sorted(filled), sorted(one_by_one))

    def test_what_is_taken_is_added(self):
        dice = random.Random(3)
        for total, count in itertools.product((1, 7, 100), (0, 1, 5, 7)):
            source, target = {0: total, 1: 2, 5: 1}, {1: 3}
            if count <= total + 3:
                shares.take(source, count, target, dice)
                self.assertEqual((sum(source.values()), sum(target.values())), (total + 3 - count, 3 + count))
                self.assertTrue(all(source.values()) and all(target.values()))
        self.assertRaises(rollout.Broken, shares.take, {0: 1}, 2, {}, dice)

    def test_lots_have_the_mean_and_spread_of_the_binomial(self):
        dice = random.Random(4)
        for count, chance in ((10, 0.3), (500, 0.01), (10_000, 0.2)):
            drawn = [shares.binomial(dice, count, chance) for _ in range(4000)]
            mean = sum(drawn) / len(drawn)
            spread = math.sqrt(sum((one - mean) ** 2 for one in drawn) / len(drawn))
            expected = math.sqrt(count * chance * (1 - chance))
            self.assertAlmostEqual(mean, count * chance, delta=0.1 * expected)
            self.assertAlmostEqual(spread, expected, delta=0.1 * expected)
        self.assertEqual(shares.binomial(dice, 9, 1), 9)


class Simulated(unittest.TestCase):
    def run_with(self, **plan):
        return Rollout(Plan(**{"pods": 5, "sessions": 1000, **plan}), (1, 5000)).run().result()

    def test_least_connections_move_each_session_once(self):
        result = self.run_with(choice="least")
        self.assertEqual((result["moves_per_session"], result["most_moves"], result["fullest"], result["emptiest"]), (1, 1, 1, 1))
        # Each step is a start and minReadySeconds; the last pod that leaves has its pause and its drain.
        self.assertAlmostEqual(result["seconds"], 5 * 36 + 5 + 30 + 2, delta=5)
        self.assertAlmostEqual(result["peak_connects"], 1000 / 30, delta=2)

    def test_at_random_some_move_again(self):
        for choice in ("random", "robin"):
            result = self.run_with(choice=choice)
            self.assertGreater(result["moves_per_session"], 1.2)
            self.assertGreater(result["fullest"], 1.15)
            self.assertAlmostEqual(sum(result["moved"]), 1)

    def test_with_all_at_once_each_moves_once(self):
        result = self.run_with(surge=5, choice="random")
        self.assertEqual((result["moves_per_session"], result["most_moves"]), (1, 1))
        self.assertAlmostEqual(result["peak_connects"], 5000 / 30, delta=5)

    def test_without_surge_one_is_missing(self):
        result = self.run_with(surge=0, unavailable=1, choice="least")
        self.assertGreater(result["moves_per_session"], 1)

    def test_topics_of_one_session_are_read_at_every_move_and_one_for_all_once_per_new_pod(self):
        for choice in ("least", "random"):
            result = self.run_with(choice=choice)
            self.assertAlmostEqual(result["reads"][1]["all"], result["moves_per_session"] * 5000, delta=1e-6)
            self.assertAlmostEqual(result["reads"][5000]["all"], 5, delta=0.3)

    def test_what_comes_faster_than_it_is_accepted_waits(self):
        result = self.run_with(accepts_per_second=20, choice="least")
        self.assertEqual(result["peak_connects_of_a_pod"], 20)
        self.assertGreater(result["longest_queue"], 100)

    def test_beyond_the_limit_clients_are_refused_and_come_again(self):
        result = self.run_with(choice="random", limit=1200)
        self.assertGreater(result["refused"], 0)
        self.assertLessEqual(result["fullest_ever"], 1.2)

    def test_the_same_dice_give_the_same(self):
        self.assertEqual(self.run_with(choice="random"), self.run_with(choice="random"))
        self.assertNotEqual(self.run_with(choice="random"), self.run_with(choice="random", seed=2))

    def broken(self, break_it):
        simulated = Rollout(Plan(pods=5, sessions=1000))
        simulated.step()
        break_it(simulated)
        return simulated

    def test_what_can_not_be_is_noticed(self):
        def loses_one(some):
            some.pods[0].open[0] -= 1
            some.pods[0].count -= 1

        def too_full(some):
            for pod in some.pods[1:5]:
                shares.take(pod.open, 1000, some.pods[0].open, some.random)
                pod.count = 0
            some.pods[0].count = 5000

        def miscounted(some):
            some.pods[0].count += 1

        def one_too_many(some):
            some.pods += [rollout.Pod(True, some.now)]

        def one_too_few(some):
            some.pods[0].leaves = some.now

        def too_late(some):
            some.pods[-1].leaves = some.now - 51
        cases = {loses_one: "have become 4999", too_full: "has 5000", miscounted: "don't agree", one_too_many: "7 pods",
                 one_too_few: "fewer pods", too_late: "deadline"}
        for break_it, said in cases.items():
            with self.subTest(break_it.__name__), self.assertRaisesRegex(rollout.Broken, said):
                self.broken(break_it).check()
        self.broken(lambda some: None).check()


if __name__ == "__main__":
    unittest.main()
