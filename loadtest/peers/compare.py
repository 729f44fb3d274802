#!/usr/bin/env python3
"""The same work for every system that is installed, Umbel among them: deliveries per second of the server's core.

    cargo build --release -p umbel -p umbel-loadtest      the node and the load tool
    loadtest/peers/install.sh                             the systems; see README.md
    loadtest/peers/compare.py                             all of them, about two minutes a round
    loadtest/peers/compare.py nats nchan --rounds 1       some of them, Umbel always
    loadtest/peers/compare.py --at-hand 64 --sessions 10000

Each round starts every system anew, in another order. Results: loadtest/results/DATE-MACHINE-peers/.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from harness.peer import ROOT, Peer
from harness.running import Running
from harness.table import OURS, OURS_WITH_REDIS, Row, json_ready, markdown
from harness.tool import Load, measure


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="systems; none: all that are installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--at-hand", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--core", type=int, default=1, help="core of the servers")
    parser.add_argument("--load-core", type=int, default=0, help="core of the load and of Redis")
    parser.add_argument("--tool", default=str(ROOT / "target/release/umbel-loadtest"))
    parser.add_argument("--out", type=Path, help="directory of the results")
    return parser.parse_args()


def chosen(names: list[str]) -> list[Peer]:
    """Umbel first, then those named, or all; what is named and isn't installed is an error."""
    ours = [Peer.read(OURS), Peer.read(OURS_WITH_REDIS)]
    others = [peer for peer in Peer.all() if peer.name not in (OURS, OURS_WITH_REDIS)]
    others = [peer for peer in others if peer.name in names] if names else others
    unknown = set(names) - {peer.name for peer in ours + others}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; run.py --list shows what there is")
    missing = [peer.name for peer in ours + others if peer.program() is None]
    if missing and (names or OURS in missing):
        sys.exit(f"not installed: {', '.join(missing)}")
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return [peer for peer in ours + others if peer.program()]


def one_round(number: int, rows: list[Row], load: Load, asked):
    """Every system once, in an order that is another one in each round."""
    turn = number % len(rows)
    for row in rows[turn:] + rows[:turn]:
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
    load = Load(asked.tool, asked.load_core, asked.sessions, asked.seconds)
    rows = [Row(peer, peer.version_of(peer.program())) for peer in chosen(asked.names)]
    for number in range(asked.rounds):
        one_round(number, rows, load, asked)
    machines = [f.machine for row in rows for found in row.rounds.values() for f in found.values()]
    if not machines:
        sys.exit("nothing could be measured")
    about = {
        # The tool was pinned, and counts the cores that it may use.
        "machine": machines[0] | {"cores": os.cpu_count()},
        "command": sys.argv,
        "rounds": asked.rounds,
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
