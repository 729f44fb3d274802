"""What grows with sessions, by the measured costs: nodes, Redis, subscriptions, traffic, and what is full first."""

import math

from costs import FRAME_BYTES, PACKET_BYTES, SESSION_BYTES, delivery_micros

# Chosen. The first four are those of k8s/README.md.
CORES = 2                   # of a node
CPU_SHARE = 0.5             # of these, in use
SESSIONS = 50_000           # of a node
PROGRAM_BYTES = 88 << 20    # of a node: program and broker.history_mib
CARD_BITS = 10e9            # a network card, of a node or of Redis, of which half is used
CHECK_SECONDS = 10          # broker.check_seconds
HISTORY = (100, 300)        # messages and seconds

# What one Redis may be asked for, each by the name of its figure.
LIMITS = {
    "redis_cores": 0.6,             # it has one thread; beyond this messages wait
    "redis_bits": CARD_BITS / 2,
    "redis_bytes": 64 << 30,
    "redis_connections": 9_000,     # of maxclients' 10 000
    "back_seconds": 30,             # until all is subscribed and compared after Redis was away
}
NAMES = {"redis_cores": "Redis' core", "redis_bits": "Redis' network card", "redis_bytes": "Redis' memory",
         "redis_connections": "Redis' connections", "back_seconds": "the time to come back after Redis was away"}
MOST_SESSIONS = 1_000_000_000


def hearing(audience, nodes):
    """How many of the nodes have at least one of so many sessions, when each is on any node: expected."""
    if nodes == 1:
        return 1.0
    return nodes * -math.expm1(audience * math.log1p(-1 / nodes))


def size(workload, sessions, costs, together=False, check_seconds=CHECK_SECONDS):
    """All figures at so many sessions. `together`: the proxy sends the sessions of a topic to as few nodes as hold them."""
    groups = workload.groups(sessions)
    deliveries = sum(group.topics * group.rate * group.audience for group in groups)
    packet = costs.payload + FRAME_BYTES + (2 if costs.payload > 125 else 0) + PACKET_BYTES
    bits = deliveries * packet * 8
    needed = max(math.ceil(sessions / SESSIONS), math.ceil(bits / (CARD_BITS / 2)), 1)
    while True:
        nodes = max(needed + 1, 3)
        heard = [_heard(group, nodes, together) for group in groups]
        cpu = sum(group.topics * group.rate * group.audience * delivery_micros(group.audience / hears)
                  for group, hears in zip(groups, heard)) / 1e6
        if cpu <= needed * CORES * CPU_SHARE:
            break
        needed = max(needed + 1, math.ceil(cpu / (CORES * CPU_SHARE)))
    pairs = sum(group.topics * hears for group, hears in zip(groups, heard))
    topics = sum(group.topics for group in groups)
    figures = {
        "nodes": nodes, "node_cores": cpu / nodes, "deliveries": deliveries, "egress_bits": bits,
        "messages": sum(group.topics * group.rate for group in groups), "topics": topics, "pairs": pairs,
        "subscriptions_per_node": pairs / nodes,
        "heard_per_node": sum(group.topics * group.rate * hears for group, hears in zip(groups, heard)) / nodes,
        "node_bytes": PROGRAM_BYTES + sessions / nodes * SESSION_BYTES + pairs / nodes * costs.topic_bytes[workload.call],
        "redis_connections": 2 * nodes,
        "back_seconds": pairs * costs.back_micros[workload.call] / 1e6,
        "last_seconds": max(group.audience / hears / CORES * delivery_micros(group.audience / hears)
                            for group, hears in zip(groups, heard)) / 1e6,
    }
    figures |= _redis(workload, groups, heard, nodes, costs, check_seconds)
    figures["redis_bytes"] = topics * costs.channel_bytes + pairs * costs.pair_bytes + (
        sum(group.topics * costs.kept_bytes(_kept(group.rate)) for group in groups) if workload.has_history else 0)
    return figures


def _heard(group, nodes, together):
    if together:
        return min(hearing(group.audience, nodes), max(1.0, group.audience / SESSIONS))
    return hearing(group.audience, nodes)


def _kept(rate):
    """Messages that a topic holds: those of its time, and as many as come until it is trimmed, every 16th."""
    most, seconds = HISTORY
    return min(most, max(1, rate * seconds + 8))


def _redis(workload, groups, heard, nodes, costs, check_seconds):
    """Redis' core by what it does, in cores, and its output."""
    call = workload.call
    parts = dict.fromkeys(("messages", "copies", "checks", "probes"), 0.0)
    single = output = 0.0
    for group, hears in zip(groups, heard):
        rate = group.topics * group.rate
        base = costs.base[call][costs.most_at_hand]
        parts["messages"] += rate * base / 1e6
        parts["copies"] += rate * (costs.message_micros(call, hears, nodes, costs.most_at_hand) - base) / 1e6
        single += rate * costs.message_micros(call, hears, nodes, 1) / 1e6
        output += rate * hears * costs.copy_bytes[call]
        if workload.has_history:
            checks = group.topics * hears * math.exp(-group.rate * check_seconds) / check_seconds
            parts["checks"] += checks * costs.check_micros / 1e6
            output += checks * costs.check_bytes
    parts["probes"] = nodes * costs.node_micros_per_second / 1e6
    cores = sum(parts.values())
    return {"redis_cores": cores, "redis_cores_single": single + parts["checks"] + parts["probes"],
            "redis_parts": parts, "redis_bits": output * 8}


def limits(workload, costs, **change):
    """At how many sessions each of Redis' limits is reached, the first one first; those beyond a thousand million
    sessions aren't named."""
    found = []
    for name, most in LIMITS.items():
        low, high = 1_000, MOST_SESSIONS
        if size(workload, high, costs, **change)[name] <= most:
            continue
        while high - low > low // 200:
            middle = (low + high) // 2
            low, high = (middle, high) if size(workload, middle, costs, **change)[name] <= most else (low, middle)
        found.append((low, name))
    return sorted(found)


def shards(figures):
    """Into how many Redis servers topics must be parted, so that each stays within all its limits. Each node is
    connected to each, and so many connections are no reason for more."""
    return max(1, *(math.ceil(figures[name] / most) for name, most in LIMITS.items() if name != "redis_connections"))


ADVICE = {
    "messages": "topics over several Redis servers",
    "copies": "keep a topic's sessions on few nodes; topics over several Redis servers",
    "checks": "a larger broker.check_seconds; topics over several Redis servers",
    "probes": "fewer, larger nodes",
    "redis_bits": "keep a topic's sessions on few nodes; a relay per region",
    "redis_bytes": "a shorter history; topics over several Redis servers",
    "redis_connections": "fewer, larger nodes; maxclients",
    "back_seconds": "topics over several Redis servers; fewer topics per session",
}


def advice(workload, at, name, costs):
    """What to change where a limit is reached first."""
    if name != "redis_cores":
        return ADVICE[name]
    figures = size(workload, at, costs)
    parts = dict(figures["redis_parts"])
    if figures["pairs"] < 1.5 * figures["topics"]:
        # Topics that one node hears can't be brought closer together.
        parts["messages"] += parts.pop("copies")
    return ADVICE[max(parts, key=parts.get)]
