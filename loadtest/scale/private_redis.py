"""A redis-server of our own on loopback, a client that counts its bytes, and what a process has run."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time

import processes


def pack(*words):
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


class Client:
    """One connection. `taken` is how many bytes it has read."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 16)
        self.taken = 0

    def close(self):
        self.file.close()
        self.socket.close()

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        self.taken += len(line)
        return line[:-2]

    def exactly(self, count):
        """So many bytes, whatever they are."""
        left = count
        while left:
            piece = self.file.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionError("Redis closed the connection")
            left -= len(piece)
            self.taken += len(piece)
            last = piece
        return last if count else b""

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self.exactly(int(rest) + 2)[:-2]
        return rest

    def send(self, packed):
        self.socket.sendall(packed)

    def call(self, *words):
        self.send(pack(*words))
        return self.reply()

    def pipeline(self, packed, count):
        self.send(packed)
        return [self.reply() for _ in range(count)]

    def section(self, name):
        """A part of INFO."""
        lines = self.call("INFO", name).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


class Server:
    """A redis-server that keeps nothing on disk, cuts no slow subscriber and has a core of its own, if there are two."""

    def __init__(self, library=None):
        self.library = library

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        (self.port,) = processes.free_ports(1)
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder,
                   "--client-output-buffer-limit", "pubsub 0 0 0", "--maxclients", "2000"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = process.pid
        self.stack.callback(processes.end, process)
        try:
            processes.pin(self.pid)
            processes.until(lambda: processes.answers(self.port), 10, "redis-server doesn't start")
            self.client = Client(self.port)
            self.stack.callback(self.client.close)
            if self.library:
                self.client.call("FUNCTION", "LOAD", self.library)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def seconds(self):
        return processes.seconds(self.pid)

    def idle(self, over=1.0):
        """What it runs in a second of doing nothing."""
        return processes.idle(self.pid, over)

    def memory(self):
        return int(self.client.section("memory")["used_memory"])

    def version(self):
        return self.client.section("server")["redis_version"]


class Spent:
    """What a server spends on what is done within: its CPU, less what it takes when idle, and the bytes that went to
    others than `client`."""

    def __init__(self, server, idle):
        self.server, self.client, self.rate = server, server.client, idle

    def __enter__(self):
        self.taken = self.client.taken
        self.output, self.input = self.traffic()
        self.begun, self.ran = time.monotonic(), self.server.seconds()
        return self

    def __exit__(self, *failure):
        self.elapsed = time.monotonic() - self.begun
        self.cpu = max(self.server.seconds() - self.ran - self.rate * self.elapsed, 0.0)
        if failure[0] is None:
            taken = self.client.taken - self.taken
            output, read = self.traffic()
            self.output, self.input = output - self.output - taken, read - self.input

    def traffic(self):
        stats = self.client.section("stats")
        return int(stats["total_net_output_bytes"]), int(stats["total_net_input_bytes"])
