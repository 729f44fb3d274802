"""What a node spends on messages, topics and coming back, and Redis on nodes that do nothing."""

import contextlib
import math
import statistics
import time

import fit
import processes
from listeners import Listeners, session_at_node
from node import Node, Session
from private_redis import Server, Spent, pack

SUBSCRIBERS = (1, 2, 4, 16, 64, 256)
PAYLOAD = 128
REPEATS = 3
# A text frame of that payload.
FRAME_BYTES = PAYLOAD + 4
MESSAGES = 400
FLEET = (2, 8, 16)
# Calls by which a node compares quiet topics, and how many topics each takes at most.
COMPARES = 'umbel_broker_reads_total{kind="compare"}'
COMPARED_AT_ONCE = 128


def fan_out(umbel, library, progress):
    """CPU of the node for a message that so many of its sessions hear, one message at hand; and what reaches a node
    that has nobody for it."""
    seen = {}
    with Server(library) as server, Node(umbel, server.port, pinned=True) as node, Node(umbel, server.port) as other:
        idle = processes.idle(node.pid, 2)
        for repeat in range(REPEATS):
            for subscribers in SUBSCRIBERS:
                progress(f"a message to {subscribers} sessions, {repeat + 1} of {REPEATS}")
                topic = f"room.{repeat}-{subscribers}"
                with Listeners(subscribers, session_at_node, node.http, topic) as sessions:
                    seen.setdefault(subscribers, []).append(one_by_one(server, node, idle, sessions, subscribers, topic))
        points = [{"subscribers": count, "cpu_micros": statistics.median(runs), "all_cpu_micros": runs}
                  for count, runs in seen.items()]
        base, delivery, rest = fit.line([(one["subscribers"], one["cpu_micros"]) for one in points])
        return {"payload_bytes": PAYLOAD, "points": points, "base_micros": base, "delivery_micros": delivery,
                "worst_residual_micros": rest, "elsewhere": elsewhere(server, node, other, progress)}


def one_by_one(server, node, idle, sessions, subscribers, topic):
    """Microseconds of the node per message."""
    command = pack("PUBLISH", f"umbel:{topic}", b"x" * PAYLOAD)
    begun, ran = time.monotonic(), node.seconds()
    for number in range(1, MESSAGES + 1):
        server.client.pipeline(command, 1)
        sessions.wait_for(number * subscribers * FRAME_BYTES)
    elapsed = time.monotonic() - begun
    return (node.seconds() - ran - idle * elapsed) / MESSAGES * 1e6


def elsewhere(server, node, other, progress, messages=20_000):
    """What a node takes in of messages to a topic that only another has sessions of."""
    progress("messages that another node's sessions hear")
    name = "umbel_broker_messages_total"
    with Listeners(1, session_at_node, other.http, "elsewhere") as sessions:
        before, there = node.metric(name), other.metric(name)
        command = pack("PUBLISH", "umbel:elsewhere", b"x" * PAYLOAD)
        for _ in range(0, messages, 100):
            server.client.pipeline(command * 100, 100)
        sessions.wait_for(messages * FRAME_BYTES)
        return {"messages": messages, "taken_in_there": other.metric(name) - there, "taken_in_here": node.metric(name) - before}


def topics(umbel, library, count, kind, progress):
    """A node with so many topics of one session, with history (`kept`, a message each) or without (`live`): memory, and its
    link cut, until Redis has all of them again. Meanwhile nothing is asked for only because it is quiet."""
    names = [f"{kind}.{number:07}" for number in range(count)]
    with Server(library) as server, Node(umbel, server.port, check_seconds=600) as node:
        progress(f"a node with {count} topics, {kind}")
        if kind == "kept":
            publish_to_each(server, names)
        empty, session = node.resident(), Session(node)
        try:
            begun, ran = time.monotonic(), node.seconds()
            session.subscribe(names)
            first = {"seconds": time.monotonic() - begun, "node_cpu_micros": (node.seconds() - ran) / count * 1e6,
                     "node_bytes_per_topic": (node.resident() - empty) / count}
            another = Session(node)
            before = node.resident()
            another.subscribe(names)
            first["node_bytes_per_further_subscription"] = (node.resident() - before) / count
            another.close()
            with session.listening():
                return {"topics": count, "kind": kind, **first, **come_back(server, node, count)}
        finally:
            session.close()


def publish_to_each(server, names):
    """Gives each topic a history of one message."""
    for start in range(0, len(names), 200):
        commands = [pack("FCALL", "umbel_publish", 1, f"umbel:{name}", b"x" * PAYLOAD) for name in names[start:start + 200]]
        server.client.pipeline(b"".join(commands), len(commands))


def come_back(server, node, count):
    """Cuts the connection that subscribes; until all is subscribed again."""
    def subscribed():
        lines = server.client.call("CLIENT", "LIST", "TYPE", "pubsub").decode().splitlines()
        return sum(int(word[4:]) for line in lines for word in line.split() if word.startswith("sub="))
    whole = subscribed()
    if whole < count:
        raise RuntimeError(f"Redis knows {whole} subscriptions of {count}")
    reads = node.metric("umbel_broker_reads_total")
    ran = node.seconds()
    with Spent(server, 0.0) as spent:
        server.client.call("CLIENT", "KILL", "TYPE", "pubsub")
        processes.until(lambda: subscribed() < whole, 10, "the link isn't cut", pause=0.002)
        processes.until(lambda: subscribed() == whole, 60, "the node doesn't come back", pause=0.005)
        # Histories are asked for behind the subscriptions, until the node's count stands still.
        at_rest(node)
    return {"back_seconds": spent.elapsed, "back_redis_micros": spent.cpu / count * 1e6,
            "back_node_micros": (node.seconds() - ran) / count * 1e6, "back_output_bytes": spent.output / count,
            "back_input_bytes": spent.input / count,
            "back_reads": node.metric("umbel_broker_reads_total") - reads}


def at_rest(node, within=60):
    """Waits until the node has asked for nothing for half a second."""
    deadline, seen = time.monotonic() + within, None
    while seen != (seen := node.metric("umbel_broker_reads_total")):
        if time.monotonic() > deadline:
            raise TimeoutError("the node goes on asking")
        time.sleep(0.5)


def nothing_to_do(umbel, library, progress):
    """What Redis spends in a second on nodes without sessions, and what each of those does."""
    points = []
    with Server(library) as server, contextlib.ExitStack() as stack:
        alone, nodes = server.idle(2), []
        for count in FLEET:
            progress(f"{count} nodes that do nothing")
            while len(nodes) < count:
                nodes.append(stack.enter_context(Node(umbel, server.port)))
            time.sleep(2)
            ran = [node.seconds() for node in nodes]
            with Spent(server, alone) as spent:
                time.sleep(4)
            each = [(node.seconds() - before) / spent.elapsed * 1e6 for node, before in zip(nodes, ran)]
            points.append({"nodes": count, "redis_micros_per_second": spent.cpu / spent.elapsed * 1e6,
                           "node_micros_per_second": statistics.median(each),
                           "output_bytes_per_second": spent.output / spent.elapsed})
    base, per_node, _ = fit.line([(one["nodes"], one["redis_micros_per_second"]) for one in points])
    return {"points": points, "base_micros": base, "redis_micros_per_node_second": per_node}


def quiet_history(umbel, library, count, progress, over=20):
    """What Redis and a node spend on so many quiet topics with history, each of which has one message."""
    names = [f"kept.{number:07}" for number in range(count)]
    with Server(library) as server, Node(umbel, server.port) as node:
        progress(f"{count} quiet topics with history")
        publish_to_each(server, names)
        alone, ours = server.idle(1), processes.idle(node.pid, 2)
        session = Session(node)
        try:
            session.subscribe(names)
            at_rest(node)
            # Two of the node's looks at what is quiet.
            calls, ran = node.metric(COMPARES), node.seconds()
            with session.listening(), Spent(server, alone) as spent:
                time.sleep(over)
            calls = node.metric(COMPARES) - calls
            checks = round(calls / math.ceil(count / COMPARED_AT_ONCE)) * count
            if not checks:
                raise RuntimeError("no quiet topic was compared")
            return {"topics": count, "seconds": spent.elapsed, "checks": checks,
                    "redis_micros_per_check": spent.cpu / checks * 1e6,
                    "node_micros_per_check": (node.seconds() - ran - ours * spent.elapsed) / checks * 1e6,
                    "output_bytes_per_check": spent.output / checks}
        finally:
            session.close()
