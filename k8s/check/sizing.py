#!/usr/bin/env python3
"""How many nodes, how much memory, how much of Redis: the table of k8s/README.md, from measured costs.

    k8s/check/sizing.py                                     writes the table into the page
    k8s/check/sizing.py --check                             says whether the page has it as it would be written
    k8s/check/sizing.py SESSIONS MESSAGES LISTENERS [BYTES] one line: messages per second in all, sessions that hear each
"""

import math
import pathlib
import sys

PAGE = pathlib.Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- written by `make manifests-write` -->", "<!-- end -->"

# Measured; k8s/README.md says where.
SESSION_BYTES = 5300          # of the control group, idle: 1450 of the process, 3870 of the kernel
PROGRAM_BYTES = 24 << 20      # what the program has before it serves anybody
DELIVERY_MICROS = 2.2         # one message at hand, 1000 listeners on the node
LONELY_DELIVERY_MICROS = 5.9  # a topic with a single listener on the node
PUBLISH_MICROS = 15           # of Redis' core, with history: 65 000 a second
COPY_MICROS = 3.1             # of Redis' core, for each node that hears it: at most, 322 000 a second

# Chosen.
CORES = 2                     # of a node
CPU_SHARE = 0.5               # of these, in use
MEMORY_SHARE = 0.5            # of the limit, by sessions and history
SESSIONS = 50_000             # of a node: what comes to the others at once when it is lost
HISTORY_BYTES = 64 << 20      # broker.history_mib
ACCEPTS = 5000                # limits.accepts_per_second
FEW = 100                     # listeners of a topic on a node, below which a delivery is a lonely one

# Application, sessions, messages per second in all, sessions that hear each.
ROWS = [
    ("notifications, one a minute each", 10_000, 167, 1),
    ("notifications, one a minute each", 100_000, 1_667, 1),
    ("rooms of 50, two messages a second", 100_000, 4_000, 50),
    ("feeds of 1000, one message a second", 100_000, 100, 1_000),
    ("one topic for all, ten messages a second", 100_000, 10, 100_000),
    ("notifications, one a minute each", 1_000_000, 16_667, 1),
    ("feeds of 1000, one message a second", 1_000_000, 1_000, 1_000),
]


def size(sessions, messages, listeners, message_bytes=512):
    """Nodes (one of them to spare), their memory, and what Redis does."""
    deliveries = messages * listeners
    needed = 1
    while True:
        lonely = listeners / needed < FEW
        micros = LONELY_DELIVERY_MICROS if lonely else DELIVERY_MICROS
        room = needed * CORES * CPU_SHARE * 1e6
        if sessions <= needed * SESSIONS and deliveries * micros <= room:
            break
        needed += 1
    nodes = max(needed + 1, 3)
    # When one is lost the others have its sessions.
    each = math.ceil(sessions / (nodes - 1))
    memory = (PROGRAM_BYTES + HISTORY_BYTES + each * SESSION_BYTES) / MEMORY_SHARE
    hearing = min(nodes, listeners)
    return {
        "deliveries": deliveries,
        "nodes": nodes,
        "cpu": deliveries * micros / 1e6 / nodes,
        "memory": 512 * math.ceil(memory / (512 << 20)),
        "back": sessions / nodes / (ACCEPTS * (nodes - 1)),
        "redis_cpu": messages * (PUBLISH_MICROS + COPY_MICROS * hearing) / 1e6,
        "redis_bytes": messages * message_bytes * hearing,
    }


def little(value):
    return f"{value:.2f}" if value >= 0.01 else "< 0.01"


def number(value):
    return f"{value:,.0f}".replace(",", " ")


def row(name, sessions, messages, listeners, message_bytes=512):
    s = size(sessions, messages, listeners, message_bytes)
    memory = f"{s['memory'] / 1024:g} GiB" if s["memory"] >= 1024 else f"{s['memory']} MiB"
    return (f"| {name} | {number(sessions)} | {number(messages)} | {number(s['deliveries'])} | {s['nodes']} | "
            f"{little(s['cpu'])} | {memory} | {s['back']:.1f} s | {little(s['redis_cpu'])} | "
            f"{s['redis_bytes'] / 1e6:.2f} MB/s |")


HEAD = """\
| application | sessions | messages/s | deliveries/s | nodes | cores in use, each | memory, each | one lost: its clients are back in | Redis: cores | Redis: output |
|---|---|---|---|---|---|---|---|---|---|"""


def page():
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"sizing: {PAGE} has no place for the table")
    table = "\n".join([HEAD, *(row(*one) for one in ROWS)])
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main():
    arguments = sys.argv[1:]
    if not arguments:
        PAGE.write_text(page())
    elif arguments == ["--check"]:
        if PAGE.read_text() != page():
            sys.exit("k8s/README.md: the sizing table isn't what k8s/check/sizing.py says: make manifests-write")
    else:
        print(HEAD, row("yours", *(int(argument) for argument in arguments)), sep="\n")


if __name__ == "__main__":
    main()
