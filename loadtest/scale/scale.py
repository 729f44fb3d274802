#!/usr/bin/env python3
"""What grows with nodes, topics and subscribers: measured at sizes that fit on one machine, and reckoned up to ten million
sessions.

    scale.py all                       measures, reckons, simulates; writes loadtest/results/<date>-<machine>-scale/
    scale.py measure --out FILE        Redis and nodes on loopback, a few minutes
    scale.py model FILE                tables for 100 000 to 10 000 000 sessions, by what FILE has
    scale.py rollout FILE              a rollout of 100 pods, simulated; fails if the simulation contradicts itself
    scale.py page scale.json           writes scale.md anew, by what `all` has recorded

Python's standard library, a redis-server and a release build of the node are all that it needs.
"""

import argparse
import json
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True

import machine
import measure_node
import measure_redis
import processes
import report
import rollout
import simulate
from costs import RESULTS, Costs
from private_redis import Server

LIBRARY = machine.ROOT / "crates/umbel-broker/src/redis/library.lua"
TOPICS = (10_000, 100_000)
NODES = 8


def measure(umbel, begun):
    """All measurements, and where they were made."""
    def progress(what):
        print(f"{time.monotonic() - begun:5.0f} s  {what}", file=sys.stderr, flush=True)

    library = LIBRARY.read_text()
    processes.keep_off()
    with Server(library) as server:
        found = {"machine": machine.described(umbel, server.version(), " ".join(sys.argv))}
        idle = server.idle()
        redis = {"fan_out": measure_redis.fan_out(server, idle, progress), "spread": measure_redis.spread(server, idle, progress)}
    redis["subscriptions"] = [measure_redis.subscriptions(topics, NODES, progress) for topics in TOPICS]
    redis["history"] = measure_redis.history(library, progress)
    node = {
        "fan_out": measure_node.fan_out(umbel, library, progress),
        "topics": [measure_node.topics(umbel, library, topics, kind, progress) for kind in ("live", "kept") for topics in TOPICS],
        "nothing_to_do": measure_node.nothing_to_do(umbel, library, progress),
        "quiet_history": measure_node.quiet_history(umbel, library, TOPICS[0], progress),
    }
    processes.keep_off_no_more()
    found["seconds"] = time.monotonic() - begun
    return found | {"redis": redis, "node": node}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("all", "measure"):
        command = commands.add_parser(name)
        command.add_argument("--umbel", default="target/release/umbel", help="the node (target/release/umbel)")
        if name == "measure":
            command.add_argument("--out", type=pathlib.Path, required=True, help="the file to write")
        else:
            command.add_argument("--out", type=pathlib.Path, help="the directory to write (loadtest/results/<date>-<machine>-scale)")
    for name in ("model", "rollout", "page"):
        commands.add_parser(name).add_argument("file", type=pathlib.Path, help="what `measure` or `all` has written")
    return parser.parse_args()


def all_of_it(options, begun):
    measured = measure(options.umbel, begun)
    rollouts = simulate.rollouts(lambda what: print(what, file=sys.stderr, flush=True))
    at = measured["machine"]
    folder = options.out or RESULTS / f"{at['date'][:10]}-{at['name']}-scale"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(measured | {"rollouts": rollouts}, indent=1) + "\n")
    write_page(folder / "scale.json")


def write_page(file):
    """Writes the page beside the figures that `all` has recorded."""
    recorded = json.loads(file.read_text())
    costs = Costs(recorded)
    parts = [report.head(recorded), report.measured(recorded), report.model(costs), report.rollout(recorded["rollouts"], costs)]
    file.with_suffix(".md").write_text("\n".join(parts))
    print(file.with_suffix(".md"))


def main():
    # What was started is ended, also when we are.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scale: ended"))
    try:
        run()
    except KeyboardInterrupt:
        sys.exit("scale: interrupted")
    except rollout.Broken as broken:
        sys.exit(f"scale: the simulation contradicts itself: {broken}")


def run():
    options, begun = arguments(), time.monotonic()
    if options.command == "all":
        all_of_it(options, begun)
    elif options.command == "measure":
        options.out.write_text(json.dumps(measure(options.umbel, begun), indent=1) + "\n")
    elif options.command == "page":
        write_page(options.file)
    else:
        costs = Costs(json.loads(options.file.read_text()))
        if options.command == "model":
            print(report.model(costs))
        else:
            print(report.rollout(simulate.rollouts(lambda what: print(what, file=sys.stderr, flush=True)), costs))


if __name__ == "__main__":
    main()
