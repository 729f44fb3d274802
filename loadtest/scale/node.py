"""A real node on loopback: its start and end, its metrics, and a session of the JSON dialect."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
import urllib.request

import listeners
import processes

SETTINGS = """
[[topics]]
match = "kept.*"
subscribe = "anyone"
history = { messages = 100, seconds = 300 }

[[topics]]
match = "**"
subscribe = "anyone"
"""


class Node:
    """A node of one worker, on the Redis at a port. `pinned` has it on the core that is kept free for what is measured;
    every `check_seconds` it asks for the quiet ones of its topics with history."""

    def __init__(self, umbel, redis_port, pinned=False, check_seconds=10):
        self.umbel, self.redis_port, self.pinned, self.check_seconds = umbel, redis_port, pinned, check_seconds

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        settings = self.stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        settings.write(SETTINGS)
        settings.flush()
        self.http, self.admin = processes.free_ports(2)
        command = [self.umbel, "serve", "--config", settings.name, "--workers", "1", "--listen", f"127.0.0.1:{self.http}",
                   "--admin", f"127.0.0.1:{self.admin}", "--broker", f"redis://127.0.0.1:{self.redis_port}"]
        # One session has all the topics, and is told of a gap in each at once.
        environment = dict(os.environ, UMBEL_LIMITS__TOPICS_PER_SESSION="0", UMBEL_LIMITS__BEHIND_BYTES="0",
                           UMBEL_BROKER__CHECK_SECONDS=str(self.check_seconds))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = process.pid
        # It leaves at once when interrupted, and is killed if it doesn't.
        self.stack.callback(interrupt, process)
        try:
            if self.pinned:
                processes.pin(self.pid)
            processes.until(self.is_ready, 20, f"{self.umbel} doesn't become ready")
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def is_ready(self):
        with contextlib.suppress(OSError):
            return self.admin_page("/readyz") is not None
        return False

    def admin_page(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        """The sum of a metric's series."""
        lines = (line for line in self.admin_page("/metrics").splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def seconds(self):
        return processes.seconds(self.pid)

    def resident(self):
        return processes.resident(self.pid)


def interrupt(process):
    process.send_signal(2)
    processes.end(process)


class Session:
    """A session of the JSON dialect, which can hold many topics."""

    def __init__(self, node):
        self.stream = socket.create_connection(("127.0.0.1", node.http), timeout=30)
        self.rest = listeners.upgrade(self.stream, "/ws")

    def close(self):
        self.stream.close()

    @contextlib.contextmanager
    def listening(self):
        """Takes in what comes meanwhile."""
        ended, closed = threading.Event(), threading.Event()

        def take_in():
            self.stream.settimeout(0.1)
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    if not self.stream.recv(1 << 20):
                        closed.set()
                        return

        thread = threading.Thread(target=take_in, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(10)
        if closed.is_set():
            raise ConnectionError("the node ended the session")

    def subscribe(self, topics, at_once=256):
        """Subscribes to topics and waits until each is confirmed."""
        for start in range(0, len(topics), at_once):
            names = topics[start:start + at_once]
            command = {"id": 1, "op": "subscribe", "topics": [{"topic": name} for name in names]}
            self.stream.sendall(client_frame(json.dumps(command).encode()))
            left, seen = len(names), self.rest
            while True:
                left -= seen.count(b'"op":"subscribed"')
                if left <= 0:
                    break
                # What may be the beginning of the next mark is looked at again.
                tail = seen[-16:] if not seen.endswith(b"}") else b""
                piece = self.stream.recv(1 << 16)
                if not piece:
                    raise ConnectionError("the node ended the session")
                seen = tail + piece
            self.rest = b""


def client_frame(text):
    """A text frame, masked with nought."""
    size = len(text)
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x81, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, size)
    return head + b"\0\0\0\0" + text
