"""The tables, in Markdown, each with its formulas."""

import costs as recorded
import model as reckoned
from workloads import WORKLOADS

SIZES = (100_000, 1_000_000, 3_000_000, 10_000_000)
CHANGED_CHECKS = 60     # broker.check_seconds


def table(head, rows):
    first, *lines = ("| " + " | ".join(map(str, line)) + " |" for line in [head, *rows])
    return "\n".join([first, "|---" * len(head) + "|", *lines]) + "\n"


def number(value):
    return f"{value:,.0f}".replace(",", " ")


def figure(value):
    """Three digits, or all that stand before the point."""
    if value == 0:
        return "0"
    if value >= 100:
        return number(value)
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.01 else "< 0.01"


def rounded(value):
    """Two digits, since no model is better than that."""
    unit = 10 ** (len(str(int(value))) - 2)
    return number(int(value) // unit * unit)


def traffic(bits):
    return f"{figure(bits / 1e9)} Gbit/s" if bits >= 1e9 else f"{figure(bits / 1e6)} Mbit/s"


def memory(size):
    return f"{figure(size / 2**30)} GiB" if size >= 1 << 30 else f"{figure(size / 2**20)} MiB"


def head(measured):
    at = measured["machine"]
    busy = "Others ran on the machine meanwhile: times are longer than they need be. " if at["load_before"] > 0.5 else ""
    return f"""# What grows with nodes, topics and subscribers

- Date: {at['date']}, commit {at['commit']}; node: {at['node']}; Redis {at['redis']}; Python {at['python']}
- Machine: {at['name']}, {at['cpu']}, {at['cores']} cores, {at['memory_mib']} MiB, Linux {at['kernel']}, TCP {at['congestion_control']}; load average before: {at['load_before']:.2f}
- Command: `{at['command']}`; measuring took {measured['seconds']:.0f} s

Redis has a core of its own as far as the machine has two; CPU is its process' own time by the scheduler, less what it takes when idle. Over
loopback a send runs the receiver's TCP input, which is in it. {busy}Medians of {len(measured['redis']['fan_out']['points'][0]['all_cpu_micros'])}.
"""


def measured(found):
    redis, node = found["redis"], found["node"]
    parts = ["## Measured\n", "Redis, a message: CPU = base + copy × connections that hear it.\n"]
    parts.append(table(["call", "payload", "at hand", "base µs", "copy µs", "furthest point from the line µs", "bytes per copy"], [
        [one["call"], one["payload_bytes"], one["at_hand"], figure(one["base_micros"]), figure(one["copy_micros"]),
         figure(one["worst_residual_micros"]), figure(one["bytes_per_copy"])] for one in redis["fan_out"]["lines"]]))
    points = redis["fan_out"]["points"]
    nodes = sorted({one["nodes"] for one in points})
    keys = sorted({(one["call"], one["payload_bytes"], one["at_hand"]) for one in points})
    value = {(one["call"], one["payload_bytes"], one["at_hand"], one["nodes"]): one["cpu_micros"] for one in points}
    parts.append("The points, µs of Redis per message:\n")
    parts.append(table(["call, payload, at hand", *(f"{count} connections" for count in nodes)],
                       [[", ".join(map(str, key)), *(figure(value[*key, count]) for count in nodes)] for key in keys]))
    spread = redis["spread"]
    known = recorded.Costs(found)
    parts.append("The line is of one topic that all connections hear. Held against another case, "
                 f"{spread[0]['topics']} topics over {spread[0]['nodes']} connections, {spread[0]['at_hand']} messages at hand, each to a topic "
                 f"at random: copies cost {known.apart:.2f} times what that line says, which the model takes over (formulas below).\n")
    parts.append(table(["connections that hear a message", "measured µs", "model µs", "model / measured"], [
        [figure(one["hearing"]), figure(one["cpu_micros"]), figure(said), f"{said / one['cpu_micros']:.2f}"]
        for one in spread for said in [known.message_micros("PUBLISH", one["hearing"], one["nodes"], one["at_hand"])]]))
    parts.append("Redis, subscriptions: memory = topics × channel + (topic, node) pairs × pair. *Cut*: a connection with all of them ends.\n")
    parts.append(table(["topics", "channel B", "pair B", "first SUBSCRIBE µs", "further ones µs", "cut µs", "in, out B"], [
        [number(one["topics"]), figure(one["bytes_per_channel"]), figure(one["bytes_per_pair"]), figure(one["cpu_micros_first"]),
         figure(one["cpu_micros_next"]), figure(one["cut_micros"]),
         f"{one['points'][0]['input_bytes']:.0f}, {one['points'][0]['output_bytes']:.0f}"] for one in redis["subscriptions"]]))
    parts.append("Redis, history:\n")
    parts.append(table(["payload", "messages", "memory of a topic B"], [
        [one["payload_bytes"], one["messages"], number(one["bytes_per_topic"])] for one in redis["history"]["memory"]]))
    parts.append(table(["read", "at hand", "messages", "µs", "out B"], [
        [one["read"], one["at_hand"], one["messages"], figure(one["cpu_micros"]), number(one["output_bytes"])]
        for one in redis["history"]["reads"]]))
    return "\n".join(parts + [nodes_measured(node)])


def nodes_measured(node):
    fan, quiet, idle = node["fan_out"], node["quiet_history"], node["nothing_to_do"]
    parts = ["A node with one worker, one message at hand: "
             f"CPU = {fan['base_micros']:.1f} µs + {fan['delivery_micros']:.2f} µs × its sessions that hear it "
             f"(furthest point {fan['worst_residual_micros']:.1f} µs off). Of {number(fan['elsewhere']['messages'])} messages that only "
             f"another node's sessions hear it takes in {fan['elsewhere']['taken_in_here']:.0f}.\n"]
    parts.append(table(["topics of a node", "history", "subscribed in s", "node µs each", "node B each", "further subscription B",
                        "back after its link was cut, s", "Redis µs each", "node µs each", "reads"], [
        [number(one["topics"]), "yes" if one["kind"] == "kept" else "no", figure(one["seconds"]), figure(one["node_cpu_micros"]),
         number(one["node_bytes_per_topic"]), number(max(one["node_bytes_per_further_subscription"], 0)),
         figure(one["back_seconds"]), figure(one["back_redis_micros"]), figure(one["back_node_micros"]),
         number(one["back_reads"])] for one in node["topics"]]))
    parts.append(f"A node that does nothing takes {idle['redis_micros_per_node_second']:.0f} µs of Redis and "
                 f"{idle['points'][-1]['node_micros_per_second']:.0f} µs of its own in a second. {number(quiet['topics'])} quiet topics with "
                 f"history: {number(quiet['checks'])} checks in {quiet['seconds']:.0f} s, {quiet['redis_micros_per_check']:.1f} µs of Redis and "
                 f"{quiet['node_micros_per_check']:.1f} µs of the node each.\n")
    return "\n".join(parts)


FORMULAS = """\
S sessions, T topics of audience A, r messages a second each, payload {payload} bytes; sums over all kinds of topics.

- deliveries/s = Σ T × r × A; **egress** = deliveries/s × {packet} bytes on the wire (payload, frame, TCP/IP, Ethernet; no TLS)
- **nodes** N = the largest of S / {sessions}, deliveries/s × cost / ({cores} cores × {share:g}), egress / ({card:g} Gbit/s ÷ 2), and one to spare; cost of a delivery {few} µs
  where fewer than {few_count} of a node hear it, {middle} µs, from {many_count} on {many} µs (loadtest/results/{recorded}/bench.md)
- nodes that hear a topic: H = N × (1 − (1 − 1/N)^A), sessions being anywhere; **subscriptions** = Σ T × H, and that / N per node
- **Redis' core** = Σ T × r × (base + (H × own + W × write) × {apart:.2f}) + checks + probes; W = N × (1 − (1 − H / N)^{at_hand}) / {at_hand} writes of a message, as each node has what
  it hears of {at_hand} messages at hand by one. That is what the core must have at its limit. *If each came alone*, with a turn of Redis' loop for each and a write per copy, it would be more: so the core seems busy
  early, and beyond 1 messages wait for each other and share turns and writes. base {base}, own {own}, write {write} µs (with
  history: base {kept_base}, own {kept_own}, write {kept_write})
- checks of quiet topics with history = Σ T × H × e^(−r × c) / c × {check:.1f} µs, c = broker.check_seconds ({seconds}); probes = N × {probe:.0f} µs
- **Redis' output** = Σ T × r × H × {copy:.0f} bytes ({kept_copy:.0f} with history), and {check_bytes:.0f} for each check
- **Redis' memory** = T × {channel:.0f} + T × H × {pair:.0f} bytes, with history and what T topics with r × 300 s + 8 messages (1 to 100) hold, by the table above
- **back** after Redis was away = Σ T × H × {back:.1f} µs of its core ({kept_back:.1f} with history, which is compared)
- **a node's memory** = 88 MiB + S / N × {session} + subscriptions × {topic:.0f} bytes ({kept_topic:.0f} with history); **last**: its sessions that hear the largest topic × cost / {cores}
"""


def formulas(costs):
    most = costs.most_at_hand
    delivery = recorded.DELIVERY_MICROS
    return FORMULAS.format(
        payload=costs.payload, packet=costs.payload + 4 + recorded.PACKET_BYTES, sessions=number(reckoned.SESSIONS),
        cores=reckoned.CORES, share=reckoned.CPU_SHARE, card=reckoned.CARD_BITS / 1e9, few=delivery["unicast64"],
        middle=delivery["fanout1"], many=delivery["fanout1-10k"], few_count=recorded.FEW, many_count=recorded.MANY,
        recorded=recorded.RECORDED, at_hand=most, apart=costs.apart, base=figure(costs.base["PUBLISH"][most]), own=figure(costs.copy["PUBLISH"]),
        write=figure(costs.write["PUBLISH"]), kept_base=figure(costs.base["FCALL"][most]), kept_own=figure(costs.copy["FCALL"]),
        kept_write=figure(costs.write["FCALL"]), check=costs.check_micros, seconds=reckoned.CHECK_SECONDS,
        probe=costs.node_micros_per_second, copy=costs.copy_bytes["PUBLISH"], kept_copy=costs.copy_bytes["FCALL"],
        check_bytes=costs.check_bytes, channel=costs.channel_bytes, pair=costs.pair_bytes, back=costs.back_micros["PUBLISH"],
        kept_back=costs.back_micros["FCALL"], session=recorded.SESSION_BYTES, topic=costs.topic_bytes["PUBLISH"],
        kept_topic=costs.topic_bytes["FCALL"])


def model(costs):
    fleet, broker = [], []
    for workload in WORKLOADS:
        for sessions in SIZES:
            at = reckoned.size(workload, sessions, costs)
            first = [workload.name if sessions == SIZES[0] else "", number(sessions)]
            fleet.append([*first, number(at["nodes"]), figure(at["node_cores"]), number(at["subscriptions_per_node"]),
                          number(at["heard_per_node"]), memory(at["node_bytes"]), traffic(at["egress_bits"]), f"{figure(at['last_seconds'] * 1e3)} ms"])
            full = max(reckoned.LIMITS, key=lambda name: at[name] / reckoned.LIMITS[name])
            share = at[full] / reckoned.LIMITS[full]
            broker.append([*first, number(at["messages"]), figure(at["redis_cores"]), figure(at["redis_cores_single"]),
                           traffic(at["redis_bits"]), number(at["pairs"]), memory(at["redis_bytes"]),
                           f"{figure(at['back_seconds'])} s", f"{reckoned.NAMES[full]}, {share:.0%}", reckoned.shards(at)])
    return "\n".join(["## Reckoned\n", formulas(costs), "The fleet:\n",
                      table(["workload", "sessions", "nodes", "cores each", "subscriptions each", "messages/s each", "memory each", "egress of all", "last"], fleet),
                      "Redis:\n",
                      table(["workload", "sessions", "messages/s", "cores", "if each came alone", "output", "subscriptions", "memory", "back",
                             "fullest of the limits", "servers needed"], broker),
                      limits(costs), changes(costs)])


def limits(costs):
    rows = []
    for workload in WORKLOADS:
        found = reckoned.limits(workload, costs)[:2]
        words = [f"{reckoned.NAMES[name]}, {rounded(at)}" for at, name in found] + ["none within 1 000 000 000"] * (2 - len(found))
        rows.append([workload.name, *words, reckoned.advice(workload, *found[0], costs) if found else ""])
    most = ", ".join(f"{reckoned.NAMES[name]} {text}" for name, text in (
        ("redis_cores", "0.6"), ("redis_bits", "5 Gbit/s"), ("redis_bytes", "64 GiB"), ("redis_connections", "9000, two of each node"),
        ("back_seconds", "30 s")))
    return f"Where one Redis is full, in sessions ({most}):\n\n" + table(["workload", "first", "then", "what to change there"], rows)


def changes(costs):
    rows = []
    for workload in WORKLOADS:
        cells = []
        for change in ({}, {"together": True}, {"check_seconds": CHANGED_CHECKS}, {"together": True, "check_seconds": CHANGED_CHECKS}):
            at = reckoned.size(workload, SIZES[-1], costs, **change)
            cells.append(f"{figure(at['redis_cores'])}; {traffic(at['redis_bits'])}; {reckoned.shards(at)}")
        rows.append([workload.name, *cells])
    return (f"At {number(SIZES[-1])} sessions: Redis' cores, its output, and servers that topics must be parted over. *Together*: the proxy sends "
            "the sessions of a topic to as few nodes as hold them, such as by a hash of the room.\n\n"
            + table(["workload", "as it is", "together", f"check_seconds {CHANGED_CHECKS}", "both"], rows))


def rollout(rollouts, costs):
    rows, reads = [], []
    for one in rollouts:
        first = [number(one["sessions"]), f"{one['surge']} / {one['unavailable']}",
                 one["choice"] + ("" if one["limit"] else ", no limit")]
        moved = one["moved"]
        rows.append([*first, f"{one['seconds'] / 60:.1f} min", number(one["peak_connects"]), number(one["peak_connects_of_a_pod"]),
                     f"{one['moves_per_session']:.2f}", f"{1 - sum(moved[:2]):.0%}, {1 - sum(moved[:4]):.1%}", one["most_moves"],
                     number(one["refused"]), f"{one['fullest_ever']:.2f}", f"{one['fullest']:.2f}, {one['emptiest']:.2f}"])
        cells = []
        for found in one["reads"].values():
            least = found["peak"] * costs.back_micros["FCALL"] / 1e6
            cells.append(f"{number(found['all'])}; {number(found['peak'])}; {figure(least)} to {figure(least + found['peak'] * costs.whole_micros / 1e6)}")
        reads.append([*first, *cells])
    return "\n".join([
        "## A rollout of 100 pods, simulated\n",
        "As the base's manifests have it (start 6 s, minReadySeconds 30, pause 5 s, drain 30 s, 5000 accepts a second, `limits.sessions` "
        "twice what a pod begins with, or none), with no other coming and going. *Least*: the proxy chooses by least connections; *random* as it says, and "
        "round robin does the same. Each step's sums are checked: no session is lost, no limit passed.\n",
        table(["sessions of a pod", "maxSurge / maxUnavailable", "choice", "takes", "connects/s, fullest second", "of one pod",
               "moves per session", "moved twice, four times and more", "most moves", "refused, and came again", "fullest pod meanwhile",
               "fullest, emptiest at the end"], rows),
        "Topics with history that are new to a node, each subscribed and compared once, and read once if something was missed: in all; in the "
        "fullest second; Redis' cores for that (with nothing missed, to a whole history of 100 each):\n",
        table(["sessions of a pod", "maxSurge / maxUnavailable", "choice", "a topic each", "rooms of 100", "one for all"], reads)])
