#!/usr/bin/env python3
"""Runs one system, pinned to a core, until it is interrupted.

    loadtest/peers/run.py nats                  prints one line of JSON when it is ready:
                                                url, publish_url, script, pids, version, settings
    loadtest/peers/run.py --list                what there is, and whether it is installed
    loadtest/peers/run.py nats --seconds 600    ends by itself, after an hour at most

SIGTERM and Ctrl-C end it, its Redis and all that they have started.
"""

import argparse
import json
import signal
import sys
import threading

from harness.peer import Peer
from harness.running import Running


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="the system: a directory beside this file")
    parser.add_argument("--core", type=int, default=1, help="core of the system")
    parser.add_argument("--redis-core", type=int, default=0, help="core of its Redis")
    parser.add_argument("--seconds", type=float, default=3600, help="end then")
    parser.add_argument("--list", action="store_true", help="list what there is")
    return parser.parse_args()


def list_all():
    for peer in Peer.all():
        program = peer.program()
        print(f"{peer.name:20} {peer.version_of(program) if program else 'not installed'}")


def main():
    asked = arguments()
    if asked.list:
        return list_all()
    if not asked.name:
        sys.exit("which system? --list shows them")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with Running(Peer.read(asked.name), asked.core, asked.redis_core) as running:
        print(json.dumps(running.told()), flush=True)
        over.wait(asked.seconds)


if __name__ == "__main__":
    main()
