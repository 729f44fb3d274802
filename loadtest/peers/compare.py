#!/usr/bin/env python3
"""The same work for every system that is installed, Umbel among them: deliveries per second of the server's core.

    cargo build --release -p umbel -p umbel-loadtest      the node and the load tool
    loadtest/peers/install.sh                             the systems; see README.md
    loadtest/peers/compare.py                             all of them; says first how long it will take
    loadtest/peers/compare.py --only nats,nchan --rounds 1    some of them, Umbel always
    loadtest/peers/compare.py --at-hand 64 --sessions 10000

Each round starts every system anew, in an order that --seed shuffles. Results: loadtest/results/DATE-MACHINE-peers/.
Ends with 1 when a system failed. Verdicts change nothing in that.
"""

import argparse
import json
import os
import random
import secrets
import sys
import time
import tomllib
from pathlib import Path

from harness.judging import FLOORS, OURS, beside, floor
from harness.peer import ROOT, Peer
from harness.row import Row
from harness.running import Running
from harness.table import json_ready, markdown
from harness.tool import SCENARIO, Load, measure

# What a system takes beyond its warm-ups and windows: to start and end, and around each of its measurements.
START_SECONDS, AROUND_SECONDS = 1.5, 1.5
TOOL = ROOT / "target/release/umbel-loadtest"


def program(text: str) -> Path:
    """The file of a program that is there."""
    path = Path(text).resolve()
    if not os.access(path, os.X_OK) or not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no program")
    return path


def number(least: float, kind: type):
    """A number that is at least so much."""

    def read(text: str):
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    read.__name__ = kind.__name__
    return read


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME,…", help="these, and the Umbels they're compared with")
    parser.add_argument("--rounds", type=number(1, int), default=5, metavar="N")
    parser.add_argument("--sessions", type=number(1, int), default=1000, metavar="N")
    parser.add_argument("--at-hand", type=number(1, int), nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--seconds", type=number(0.1, float), default=5, metavar="S", help="of each measurement")
    parser.add_argument("--seed", type=number(0, int), default=secrets.randbelow(2**32), help="of the order")
    parser.add_argument("--core", type=int, default=1, help="core of the servers")
    parser.add_argument("--load-core", type=int, default=0, help="core of the load and of Redis")
    parser.add_argument("--umbel", type=program, metavar="PATH", help="the node; else $UMBEL or the release build")
    parser.add_argument("--tool", type=program, default=str(TOOL), metavar="PATH", help="the load tool")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory of the results")
    return parser.parse_args()


def chosen(only: str) -> list[Peer]:
    """The Umbels and bare loops that are needed, then the systems named, or all.

    What is named and isn't installed is an error.
    """
    every = {peer.name: peer for peer in Peer.all()}
    names = [name for name in only.split(",") if name]
    if unknown := set(names) - set(every):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; run.py --list shows what there is")
    ours_and_floors = (*OURS, *FLOORS)
    others = [peer for name, peer in every.items() if name not in ours_and_floors and (name in names or not names)]
    needed = {needs(peer) for peer in others for needs in (beside, floor)} | {OURS[0], *names}
    ours = [every[name] for name in ours_and_floors if name in needed or not names]
    missing = [peer.name for peer in ours + others if peer.program() is None]
    if missing and (names or OURS[0] in missing):
        sys.exit(f"not installed: {', '.join(missing)}")
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return [peer for peer in ours + others if peer.name not in missing]


def plan(systems: int, asked) -> str:
    """What will be done, and about how long it takes."""
    warm_up = tomllib.loads(SCENARIO.read_text())["window"]["warm_up_seconds"]
    each = START_SECONDS + len(asked.at_hand) * (warm_up + asked.seconds + AROUND_SECONDS)
    hands = ", ".join(map(str, asked.at_hand))
    return (
        f"{systems} systems × {asked.rounds} rounds × {hands} at hand for {asked.seconds:g} s, seed {asked.seed}: "
        f"about {systems * asked.rounds * each / 60:.1f} minutes"
    )


def one_round(number: int, rows: list[Row], load: Load, asked):
    """Every system once, in this order."""
    for row in rows:
        at_hand = None
        try:
            with Running(row.peer, asked.core, asked.load_core) as running:
                for at_hand in asked.at_hand:
                    figures = measure(load, running, at_hand)
                    row.rounds.setdefault(at_hand, {})[number] = figures
                    rate = figures.deliveries_per_core_second
                    said = "; ".join(figures.problems)
                    print(f"{number + 1}: {row.peer.name:20} {at_hand:3} at hand {rate:12.0f}/s {said}", flush=True)
        except (OSError, RuntimeError) as error:
            where = f"{at_hand} at hand: " if at_hand else ""
            row.failures.append(f"{where}{error}".replace("\n", " "))
            print(f"{number + 1}: {row.peer.name:20} FAILED: {where}{error}", flush=True)


def main():
    asked = arguments()
    if asked.umbel:
        os.environ["UMBEL"] = str(asked.umbel)
    os.environ["LOADTEST"] = str(asked.tool)
    load = Load(str(asked.tool), asked.load_core, asked.sessions, asked.seconds)
    rows = [Row(peer, peer.version_of(peer.program())) for peer in chosen(asked.only)]
    print(plan(len(rows), asked), flush=True)
    order, shuffle = list(rows), random.Random(asked.seed).shuffle
    for number in range(asked.rounds):
        shuffle(order)
        one_round(number, order, load, asked)
    machines = [f.machine for row in rows for found in row.rounds.values() for f in found.values()]
    if not machines:
        sys.exit("nothing could be measured")
    about = {
        # The tool was pinned, and counts the cores that it may use.
        "machine": machines[0] | {"cores": os.cpu_count()},
        "command": sys.argv,
        "rounds": asked.rounds,
        "seed": asked.seed,
        "sessions": asked.sessions,
        "at_hand": asked.at_hand,
        "seconds": asked.seconds,
        "core": asked.core,
        "load_core": asked.load_core,
    }
    name = f"{time.strftime('%Y-%m-%d', time.gmtime())}-{machines[0].get('name', 'machine')}-peers"
    out = asked.out or ROOT / "loadtest/results" / name
    out.mkdir(parents=True, exist_ok=True)
    by_name = {row.peer.name: row for row in rows}
    table = markdown(by_name, about)
    (out / "peers.md").write_text(table)
    (out / "peers.json").write_text(json.dumps(json_ready(by_name, about), indent=1) + "\n")
    print(f"\n{table}\n{out}")
    sys.exit(1 if any(row.failures for row in rows) else 0)


if __name__ == "__main__":
    main()
