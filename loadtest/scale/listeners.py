"""Connections that take in what comes and count its bytes, in a process of their own.

They look every half millisecond and sleep between, so that whoever sends to them needs not wake anybody up: over
a network that would be another machine's work."""

import ctypes
import multiprocessing
import os
import signal
import socket
import time

import processes

NAP_SECONDS = 0.0005
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def subscribed_at_redis(port, channel):
    """A connection that has subscribed to a channel, as a node's has."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    stream.sendall(b"SUBSCRIBE %b\r\n" % channel)
    answer = b""
    while not answer.endswith(b":1\r\n"):
        answer += stream.recv(4096)
    return stream


def subscribed_to_many(port, channels):
    """The same for some channels, or none."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    for channel in channels:
        stream.sendall(b"SUBSCRIBE %b\r\n" % channel)
    answer = b""
    while answer.count(b"\nsubscribe\r") < len(channels):
        answer += stream.recv(1 << 16)
    # The count behind the last name.
    while channels and not answer.endswith(b":%d\r\n" % len(channels)):
        answer += stream.recv(1 << 16)
    return stream


def session_at_node(port, topic):
    """A WebSocket session of the plain dialect."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    upgrade(stream, f"/topics/{topic}")
    return stream


def upgrade(stream, path):
    """Makes a WebSocket of a connection; returns what came behind the answer."""
    stream.sendall((f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = stream.recv(4096)
        if not piece:
            raise ConnectionError("the node closed the connection")
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(head.decode(errors="replace"))
    return rest


class Listeners:
    """So many connections, made by `connect(port, name)`."""

    def __init__(self, count, connect, port, name):
        context = multiprocessing.get_context("fork")
        self.taken = context.Value(ctypes.c_uint64, 0, lock=False)
        self.ready = context.Event()
        self.process = context.Process(target=self._run, args=(count, connect, port, name), daemon=True)

    def __enter__(self):
        self.process.start()
        if not self.ready.wait(30):
            self.__exit__()
            raise TimeoutError("the listeners can't connect")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join(10)

    def wait_for(self, count, within=30):
        """Waits until so many bytes have come; more than those are a failure."""
        processes.until(lambda: self.taken.value >= count, within, f"not all of {count} bytes have come", pause=NAP_SECONDS)
        if self.taken.value > count:
            raise RuntimeError(f"{self.taken.value} bytes have come, expected were {count}")

    def _run(self, count, connect, port, name):
        # Whoever started us ends us.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        parent = os.getppid()
        streams = [connect(port, name) for _ in range(count)]
        for stream in streams:
            stream.setblocking(False)
        self.ready.set()
        room = bytearray(1 << 20)
        # An orphan ends by itself.
        while os.getppid() == parent:
            for stream in streams:
                try:
                    taken = stream.recv_into(room)
                except BlockingIOError:
                    continue
                if taken == 0:
                    return
                self.taken.value += taken
            time.sleep(NAP_SECONDS)
