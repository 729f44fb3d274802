"""What Redis spends by itself: on messages, subscriptions, history. The nodes are connections of ours that subscribe."""

import random
import statistics

import fit
import processes
from listeners import Listeners, subscribed_at_redis, subscribed_to_many
from private_redis import Client, Server, Spent, pack

NODES = (1, 2, 4, 8, 16, 32, 64)
PAYLOADS = (128, 1024)
AT_HAND = (1, 64)
REPEATS = 3
CHANNEL = b"umbel:room.0000001"
# What a node says of a text, and how a topic's history is kept by default.
HISTORY = ("messages", 100, "seconds", 300, "keep", 86400, "fields", b"\x05\x01t")
TOPICS_PER_COMMAND = 512


def publish_command(kind, payload):
    text = b"x" * payload
    if kind == "PUBLISH":
        return pack("PUBLISH", CHANNEL, text)
    return pack("FCALL", "umbel_publish", 1, CHANNEL, text, *HISTORY)


def fan_out(server, idle, progress):
    """CPU and bytes of a message, by how many connections hear it."""
    seen = {}
    for repeat in range(REPEATS):
        for nodes in NODES:
            progress(f"messages to {nodes} connections, {repeat + 1} of {REPEATS}")
            with Listeners(nodes, subscribed_at_redis, server.port, CHANNEL) as listeners:
                for kind in ("PUBLISH", "FCALL umbel_publish"):
                    for payload in PAYLOADS:
                        for at_hand in AT_HAND:
                            key = (kind.split()[0], payload, at_hand, nodes)
                            seen.setdefault(key, []).append(send(server, idle, listeners, *key))
    rows = []
    for (kind, payload, at_hand, nodes), runs in seen.items():
        rows.append({"call": kind, "payload_bytes": payload, "at_hand": at_hand, "nodes": nodes,
                     "cpu_micros": statistics.median(cpu for cpu, _ in runs), "all_cpu_micros": [cpu for cpu, _ in runs],
                     "bytes_per_copy": statistics.median(size for _, size in runs)})
    return {"points": rows, "lines": lines(rows)}


def lines(rows):
    """CPU of a message = base + copy × nodes, by least squares."""
    found = []
    for kind, payload, at_hand in sorted({(row["call"], row["payload_bytes"], row["at_hand"]) for row in rows}):
        of = [row for row in rows if (row["call"], row["payload_bytes"], row["at_hand"]) == (kind, payload, at_hand)]
        base, copy, rest = fit.line([(row["nodes"], row["cpu_micros"]) for row in of])
        found.append({"call": kind, "payload_bytes": payload, "at_hand": at_hand, "base_micros": base, "copy_micros": copy,
                      "worst_residual_micros": rest, "bytes_per_copy": of[0]["bytes_per_copy"]})
    return found


def send(server, idle, listeners, kind, payload, at_hand, nodes):
    """Microseconds of Redis per message, and bytes per message and connection."""
    messages = 512 if at_hand == 1 else 2048
    command = publish_command(kind, payload)
    before = expected = listeners.taken.value
    with Spent(server, idle) as spent:
        for done in range(0, messages, at_hand):
            answers = server.client.pipeline(command * at_hand, at_hand)
            reached = {answer if kind == "PUBLISH" else answer[1] for answer in answers}
            if reached != {nodes}:
                raise RuntimeError(f"a message reached {reached} connections of {nodes}")
            expected += nodes * sum(copy_bytes(kind, payload, answer) for answer in answers)
            # Nobody falls behind by more than its socket holds.
            if (done // at_hand) % 16 == 15:
                listeners.wait_for(expected)
        listeners.wait_for(expected)
    if spent.output != expected - before:
        raise RuntimeError(f"Redis counts {spent.output} bytes, {expected - before} have come")
    return spent.cpu / messages * 1e6, (expected - before) / messages / nodes


def copy_bytes(kind, payload, answer):
    """What a subscriber gets of a message: of one with history with its header, which has the offset."""
    size = payload
    if kind == "FCALL":
        # Mark, epoch, offset, time, kind, end, each but the first and last with a tag and a length.
        size += 3 + 18 + 2 + len(answer[0].rpartition(b"-")[2]) + 18 + 3 + 1
    return len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n\r\n" % (len(CHANNEL), CHANNEL, size)) + size


def spread(server, idle, progress, topics=256, nodes=64, at_hand=64, messages=4096):
    """CPU of messages to topics that only some connections hear, for the model to be held against."""
    dice, found = random.Random(1), []
    for audience in (1, 8, 64):
        progress(f"messages to {topics} topics of {audience} sessions on {nodes} connections")
        heard = [sorted({dice.randrange(nodes) for _ in range(audience)}) for _ in range(topics)]
        subscribed = iter([[channel(number) for number in range(topics) if node in heard[number]] for node in range(nodes)])
        with Listeners(nodes, lambda port, _: subscribed_to_many(port, next(subscribed)), server.port, None) as listeners:
            runs = [to_some(server, idle, listeners, [dice.randrange(topics) for _ in range(messages)], heard, at_hand)
                    for _ in range(REPEATS)]
        found.append({"topics": topics, "nodes": nodes, "at_hand": at_hand, "hearing": statistics.mean(one for one, _ in runs),
                      "cpu_micros": statistics.median(cpu for _, cpu in runs), "all_cpu_micros": [cpu for _, cpu in runs]})
    return found


def to_some(server, idle, listeners, numbers, heard, at_hand):
    """How many connections hear a message on average, and microseconds of Redis for it."""
    payload, expected, copies = PAYLOADS[0], listeners.taken.value, 0
    with Spent(server, idle) as spent:
        for start in range(0, len(numbers), at_hand):
            now = numbers[start:start + at_hand]
            packed = b"".join(pack("PUBLISH", channel(number), b"x" * payload) for number in now)
            reached = server.client.pipeline(packed, len(now))
            if reached != [len(heard[number]) for number in now]:
                raise RuntimeError("a message reached others than have subscribed")
            copies += sum(reached)
        # Names are as long as that of the other measurement.
        listeners.wait_for(expected + copies * copy_bytes("PUBLISH", payload, None))
    return copies / len(numbers), spent.cpu / len(numbers) * 1e6


def channel(number):
    return b"umbel:user.%07d" % number


def subscribe_all(client, topics):
    """Subscribes a connection to so many channels as a node does, and reads all answers."""
    for start in range(0, topics, TOPICS_PER_COMMAND):
        numbers = range(start, min(start + TOPICS_PER_COMMAND, topics))
        names = [channel(number) for number in numbers]
        client.send(pack("SUBSCRIBE", *names))
        client.exactly(sum(len(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:%d\r\n" % (len(name), name, number + 1))
                           for name, number in zip(names, numbers)))


def subscriptions(topics, nodes, progress):
    """Memory, CPU and bytes of subscriptions: so many channels, at one connection after the other; then one is cut."""
    points = []
    with Server() as server:
        idle, empty = server.idle(0.5), server.memory()
        clients = []
        try:
            for nth in range(1, nodes + 1):
                progress(f"{topics} channels at {nth} connections")
                clients.append(Client(server.port))
                with Spent(server, idle) as spent:
                    subscribe_all(clients[-1], topics)
                points.append({"nodes": nth, "used_bytes": server.memory() - empty, "cpu_micros": spent.cpu / topics * 1e6,
                               "seconds": spent.elapsed, "output_bytes": spent.output / topics,
                               "input_bytes": spent.input / topics})
            base, pair, _ = fit.line([(point["nodes"], point["used_bytes"] / topics) for point in points])
            with Spent(server, idle) as cut:
                clients.pop().close()
                processes.until(lambda: server.client.call("PUBSUB", "NUMSUB", channel(0))[1] < nodes, 30,
                                "Redis doesn't notice that a connection has ended", pause=0.001)
        finally:
            for client in clients:
                client.close()
    return {"topics": topics, "points": points, "bytes_per_channel": base, "bytes_per_pair": pair,
            "cpu_micros_first": points[0]["cpu_micros"],
            "cpu_micros_next": statistics.median(point["cpu_micros"] for point in points[1:]),
            "cut_micros": cut.cpu / topics * 1e6}


def history(library, progress, topics=1000):
    """Memory of a topic with n messages, and what reading it costs."""
    memory = []
    with Server(library) as server:
        idle = server.idle(0.5)
        for payload in PAYLOADS:
            server.client.call("FLUSHALL")
            empty, kept = server.memory(), 0
            for messages in (1, 10, 100):
                progress(f"history of {messages} messages of {payload} bytes")
                command = [pack("FCALL", "umbel_publish", 1, channel(number), b"x" * payload, *HISTORY)
                           for number in range(topics)]
                for _ in range(messages - kept):
                    for start in range(0, topics, 200):
                        last = server.client.pipeline(b"".join(command[start:start + 200]), len(command[start:start + 200]))
                kept = messages
                memory.append({"payload_bytes": payload, "messages": messages,
                               "bytes_per_topic": (server.memory() - empty) / topics})
            if payload == PAYLOADS[0]:
                identity = last[-1][0]
                reads = [read(server, idle, name, topics, at_hand, place)
                         for name, place in (("check", identity), ("whole", b"all"))
                         for at_hand in (1, 100)]
    return {"topics": topics, "memory": memory, "reads": reads}


def read(server, idle, name, topics, at_hand, place):
    """A read of history: of a topic that has nothing new, or of all its messages."""
    count = topics if name == "whole" else 4 * topics
    # The place of the last topic; to ask for it at that topic is to ask what came behind it.
    words = ("FCALL", "umbel_read", 1, channel(topics - 1), place, 256, 1 << 18, 300, 86400)
    taken = server.client.taken
    with Spent(server, idle) as spent:
        for _ in range(0, count, at_hand):
            answers = server.client.pipeline(pack(*words) * at_hand, at_hand)
    messages = (len(answers[-1]) - 10) // 2
    if messages != (0 if name == "check" else 100):
        raise RuntimeError(f"a read that should {name} gave {messages} messages")
    return {"read": name, "at_hand": at_hand, "messages": messages, "cpu_micros": spent.cpu / count * 1e6,
            "output_bytes": (server.client.taken - taken) / count}
