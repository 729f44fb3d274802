"""The costs that the model reckons with: what `measure` found, and what other recorded runs say."""

import json
import pathlib
import statistics

RESULTS = pathlib.Path(__file__).parents[1] / "results"

# Of a node's core, per delivery, one message at hand (or 64 topics under way), receivers' TCP included. Each with the case
# of loadtest/results/2026-11-21-vm-redis/bench.json that it is the median of.
RECORDED = "2026-11-21-vm-redis"
DELIVERY_MICROS = {
    "unicast64": 5.89,      # a topic has few listeners on the node
    "fanout1": 2.17,        # a thousand
    "fanout1-10k": 3.70,    # ten thousand
}
FEW, MANY = 100, 5000       # listeners on a node between which the middle one holds

SESSION_BYTES = 5300        # 2026-11-26-vm-control-group: 1.45 KB of the process, 3.87 KB of the kernel
CONNECT_MICROS = 13.7       # 2026-11-21-vm-redis, storm
# A WebSocket's head of a short message, IP and TCP with timestamps, Ethernet with its gap. Without TLS.
FRAME_BYTES, PACKET_BYTES = 2, 90


def delivery_micros(listeners):
    """What a delivery costs a node on which so many hear the message."""
    case = "unicast64" if listeners < FEW else "fanout1" if listeners < MANY else "fanout1-10k"
    return DELIVERY_MICROS[case]


def recorded(case):
    """What a recorded case says, in microseconds, to hold the above against."""
    cases = json.loads((RESULTS / RECORDED / "bench.json").read_text())["cases"]
    return next(one for one in cases if one["name"] == case)["summary"]["node"]["median"]


class Costs:
    """What Redis takes, in microseconds and bytes, of a file that `measure` wrote."""

    def __init__(self, measured, payload=128):
        self.payload = payload
        redis, node = measured["redis"], measured["node"]
        lines = {(one["call"], one["at_hand"]): one for one in redis["fan_out"]["lines"] if one["payload_bytes"] == payload}
        self.most_at_hand = max(at_hand for _, at_hand in lines)
        self.base, self.copy, self.write, self.copy_bytes = {}, {}, {}, {}
        for call in ("PUBLISH", "FCALL"):
            single, many = lines[call, 1], lines[call, self.most_at_hand]
            self.base[call] = {1: single["base_micros"], self.most_at_hand: many["base_micros"]}
            # A copy is work of its own and a share of one write: copy(K) = own + write / K.
            own = (self.most_at_hand * many["copy_micros"] - single["copy_micros"]) / (self.most_at_hand - 1)
            self.copy[call] = max(own, 0.0)
            self.write[call] = single["copy_micros"] - self.copy[call]
            self.copy_bytes[call] = single["bytes_per_copy"]
        # Copies to many topics cost more than those of one that all hear.
        self.apart = 1.0
        self.apart = max(1.0, statistics.median(map(self._times_more, redis["spread"])))
        largest = max(redis["subscriptions"], key=lambda one: one["topics"])
        self.channel_bytes, self.pair_bytes = largest["bytes_per_channel"], largest["bytes_per_pair"]
        self.cut_micros = largest["cut_micros"]
        self.history_bytes = {one["messages"]: one["bytes_per_topic"] for one in redis["history"]["memory"]
                              if one["payload_bytes"] == payload}
        self.whole_micros = next(one["cpu_micros"] for one in redis["history"]["reads"]
                                 if one["read"] == "whole" and one["at_hand"] > 1)
        self.check_micros = node["quiet_history"]["redis_micros_per_check"]
        self.check_bytes = node["quiet_history"]["output_bytes_per_check"]
        self.node_micros_per_second = node["nothing_to_do"]["redis_micros_per_node_second"]
        most = max(one["topics"] for one in node["topics"])
        of = {one["kind"]: one for one in node["topics"] if one["topics"] == most}
        self.back_micros = {"PUBLISH": of["live"]["back_redis_micros"], "FCALL": of["kept"]["back_redis_micros"]}
        self.topic_bytes = {"PUBLISH": of["live"]["node_bytes_per_topic"], "FCALL": of["kept"]["node_bytes_per_topic"]}

    def message_micros(self, call, hearing, nodes, at_hand):
        """Redis' time for a message that so many of the nodes hear, when so many messages are at hand at once: each node that
        hears any of these has what it hears by one write."""
        writes = nodes * (1 - (1 - hearing / nodes) ** at_hand) / at_hand
        apart = self.apart if at_hand > 1 else 1.0
        return self.base[call][at_hand] + apart * (hearing * self.copy[call] + writes * self.write[call])

    def _times_more(self, spread):
        base = self.base["PUBLISH"][self.most_at_hand]
        said = self.message_micros("PUBLISH", spread["hearing"], spread["nodes"], spread["at_hand"])
        return (spread["cpu_micros"] - base) / (said - base)

    def kept_bytes(self, messages):
        """Memory of a topic with so many messages, between those that were measured by straight lines."""
        known = sorted(self.history_bytes.items())
        for (low, at_low), (high, at_high) in zip(known, known[1:]):
            if messages <= high:
                return at_low + (at_high - at_low) * (max(messages, low) - low) / (high - low)
        return known[-1][1]
