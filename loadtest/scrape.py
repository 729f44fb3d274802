#!/usr/bin/env python3
"""What does a scrape cost, and do sessions notice it?

Starts a node with twenty topic rules, opens sessions that hold many topics between them, and then asks for
/metrics again and again. Prints the series, the CPU of the node per scrape (its own and the kernel's for it,
less what it takes while nobody asks), and the round trips of a neighbour's pings: while nobody scrapes, while
another node is scraped, which takes as much of the machine, and while this one is.

    loadtest/scrape.py                          18 000 sessions, 100 000 topics
    loadtest/scrape.py --sessions 1000 --topics 6000

Needs a release build, and as many descriptors as sessions.
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

HTTP, ADMIN = ("127.0.0.1", 8097), ("127.0.0.1", 9497)
OTHER_HTTP, OTHER_ADMIN = ("127.0.0.1", 8098), ("127.0.0.1", 9498)
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TICKS = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=18_000)
    parser.add_argument("--topics", type=int, default=100_000)
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--umbel", default="target/release/umbel")
    return parser.parse_args()


def scrape(admin=ADMIN):
    with urllib.request.urlopen("http://{}:{}/metrics".format(*admin), timeout=10) as answer:
        return answer.read().decode()


def value(text, name):
    lines = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def cpu_micros(pid):
    """Microseconds that all threads ran, by the scheduler's own account."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1000


def session(topics, source):
    stream = socket.create_connection(HTTP, timeout=30, source_address=(source, 0))
    head = (
        f"GET /topics/{','.join(topics)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    stream.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += stream.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return stream


def ping(stream):
    """The round trip of an empty, masked ping, in microseconds."""
    begun = time.perf_counter_ns()
    stream.sendall(b"\x89\x80\x00\x00\x00\x00")
    answer = b""
    while len(answer) < 2:
        answer += stream.recv(2 - len(answer))
    assert answer == b"\x8a\x00", answer
    return (time.perf_counter_ns() - begun) / 1000


def pings(stream, seconds):
    until = time.monotonic() + seconds
    taken = []
    while time.monotonic() < until:
        taken.append(ping(stream))
        time.sleep(0.0005)
    taken.sort()
    return taken


def shown(taken):
    at = lambda share: taken[min(int(len(taken) * share), len(taken) - 1)]
    return (
        f"{len(taken)} pings: median {statistics.median(taken):.0f} us, p99 {at(0.99):.0f} us, "
        f"p99.9 {at(0.999):.0f} us, worst {taken[-1]:.0f} us"
    )


def main():
    options = arguments()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        for rule in range(20):
            settings.write(
                f'[[topics]]\nmatch = "rule{rule}.*"\nsubscribe = "anyone"\npublish = "anyone"\n'
            )
        settings.flush()
        nodes = [start(options, settings.name, *at) for at in ((HTTP, ADMIN), (OTHER_HTTP, OTHER_ADMIN))]
        try:
            measure(options, nodes[0].pid)
        finally:
            for node in nodes:
                node.send_signal(signal.SIGINT)
                node.wait(10)


def start(options, settings, http, admin):
    command = [options.umbel, "serve", "--config", settings]
    command += ["--listen", "{}:{}".format(*http), "--admin", "{}:{}".format(*admin)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(options, pid):
    deadline = time.monotonic() + 10
    while True:
        try:
            scrape()
            break
        except OSError:
            assert time.monotonic() < deadline, "the node doesn't answer"
            time.sleep(0.1)
    names = [f"rule{number % 20}.t{number}" for number in range(options.topics)]
    streams = [
        session(names[at :: options.sessions], f"127.0.0.{2 + at % 200}") for at in range(options.sessions)
    ]
    time.sleep(1)
    text = scrape()
    series = sum(1 for line in text.splitlines() if not line.startswith("#"))
    print(
        f"{value(text, 'umbel_sessions_open'):.0f} sessions, {value(text, 'umbel_subscriptions'):.0f} "
        f"subscriptions, {series} series, {len(text)} bytes"
    )
    begun, before = time.monotonic(), cpu_micros(pid)
    time.sleep(5)
    idle = (cpu_micros(pid) - before) / (time.monotonic() - begun)
    begun, before = time.monotonic(), cpu_micros(pid)
    for _ in range(options.scrapes):
        scrape()
    elapsed = time.monotonic() - begun
    each = (cpu_micros(pid) - before - idle * elapsed) / options.scrapes / 1000
    print(f"{each:.2f} ms of the node's CPU per scrape ({idle / 10000:.2f} % of a core while idle)")
    print("nobody scrapes:        ", shown(pings(streams[0], 10)))
    for who, admin in [("another node is scraped:", OTHER_ADMIN), ("this node is scraped:   ", ADMIN)] * 3:
        child = os.fork()
        if child == 0:
            # Ten scrapes a second.
            until = time.monotonic() + 12
            while time.monotonic() < until:
                scrape(admin)
                time.sleep(0.1)
            os._exit(0)
        print(who, shown(pings(streams[0], 10)))
        os.waitpid(child, 0)


main()
