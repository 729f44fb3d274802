#!/usr/bin/env python3
"""Proves for each system that it delivers all: no load tool is needed, only its own script.

Each session must hear every message once, and in order unless peer.toml says why not. Times here mean nothing.

    loadtest/peers/check.py                     all that are installed
    loadtest/peers/check.py nats nchan --sessions 1000 --at-hand 64 --rounds 20
"""

import argparse
import asyncio
import sys
from urllib.parse import urlsplit

from harness.peer import Peer
from harness.running import Running
from harness.script import Script
from harness.sessions import Publisher, Session, payload

TOPIC = "bench.0"
OPENING_AT_ONCE = 50
PATIENCE_SECONDS = 30


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="systems; none: all that are installed")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--at-hand", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--core", type=int, default=1)
    return parser.parse_args()


async def opened(script: Script, url: str, count: int) -> list[Session]:
    """Opens sessions, some at a time, and waits until each has subscribed."""
    host, sessions = urlsplit(url), []
    for at in range(0, count, OPENING_AT_ONCE):
        some = [Session(script, host.netloc, TOPIC) for _ in range(min(OPENING_AT_ONCE, count - at))]
        sessions += some
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.create_connection(lambda s=s: s, host.hostname, host.port) for s in some))
        _, waiting = await asyncio.wait([session.open for session in some], timeout=PATIENCE_SECONDS)
        for session in some:
            if session.open in waiting:
                session.fail(f"step {session.step + 1} isn't over after {PATIENCE_SECONDS} s")
            session.open.result()
    return sessions


async def hears(session: Session, number: int):
    """Waits until the session has heard so many messages, or failed."""
    while session.heard < number and not session.failure:
        session.came.clear()
        await session.came.wait()


async def all_hear(sessions: list[Session], number: int):
    """Waits for all; one that failed is an error."""
    try:
        await asyncio.wait_for(asyncio.gather(*(hears(one, number) for one in sessions)), PATIENCE_SECONDS)
    except TimeoutError:
        late = sum(one.heard < number for one in sessions)
        raise ConnectionError(f"{late} sessions wait for a message for {PATIENCE_SECONDS} s") from None
    if failures := {one.failure for one in sessions if one.failure}:
        raise ConnectionError("; ".join(failures))


async def check(running: Running, script: Script, asked) -> str:
    """What was heard, in words; anything that is missing is an error."""
    sessions = await opened(script, running.url, asked.sessions)
    publisher = Publisher(script, running.publish_url)
    await publisher.connect()
    published = 0
    for _ in range(asked.rounds):
        messages = [payload(published + number) for number in range(asked.at_hand)]
        try:
            await asyncio.wait_for(publisher.publish(TOPIC, messages), PATIENCE_SECONDS)
        except TimeoutError:
            raise ConnectionError(f"publishing isn't answered for {PATIENCE_SECONDS} s") from None
        published += asked.at_hand
        await all_hear(sessions, published)
    # What comes twice comes late.
    await asyncio.sleep(0.2)
    heard = sum(session.heard for session in sessions)
    reordered = sum(session.reordered for session in sessions)
    wrong = {session.failure for session in sessions if session.failure}
    for session in sessions:
        session.close()
    publisher.close()
    if wrong or heard != published * asked.sessions:
        raise ConnectionError(f"{heard} of {published * asked.sessions} messages; {wrong or ''}")
    if reordered and not running.peer.unordered:
        raise ConnectionError(f"{reordered} of {heard} messages came before an earlier one")
    return f"{heard} messages, all once" + (f", {reordered} before an earlier one" if reordered else " and in order")


def main():
    asked = arguments()
    peers = [Peer.read(name) for name in asked.names] or [peer for peer in Peer.all() if peer.program()]
    failed = 0
    for peer in peers:
        try:
            with Running(peer, asked.core) as running:
                heard = asyncio.run(check(running, Script.read(peer.script_file), asked))
                print(f"{peer.name:20} {heard}; {running.version}", flush=True)
        except (OSError, RuntimeError, TimeoutError) as error:
            failed += 1
            print(f"{peer.name:20} FAILED: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
