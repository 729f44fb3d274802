#!/usr/bin/env python3
"""What an idle session takes of a control group's memory: of the process and of the kernel, whose part is charged to a
container as well. Needs root, memory control groups of version 1 or 2, and 20 000 descriptors.

    loadtest/session_memory.py target/release/umbel websocket|sse
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time

COUNTS = (10_000, 18_000)
TOPICS = 50
# What was just opened is still being tidied up.
SETTLE_SECONDS = 5

UPGRADE = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")


@contextlib.contextmanager
def control_group():
    name = f"umbel-session-memory-{os.getpid()}"
    root = pathlib.Path("/sys/fs/cgroup")
    group = (root / "memory" if (root / "memory").is_dir() else root) / name
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def usage(group):
    """All that the group is charged, and the kernel's part of it."""
    if (group / "memory.current").exists():
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int((group / "memory.current").read_text()), int(stat["kernel"]) + int(stat["sock"])
    return tuple(int((group / f"memory.{which}usage_in_bytes").read_text()) for which in ("", "kmem."))


def resident(process):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def free_ports(count):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def connect(port):
    for _ in range(100):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port))
        time.sleep(0.1)
    sys.exit("session_memory: the node doesn't start")


def main():
    umbel, transport = sys.argv[1:]
    http, admin = free_ports(2)
    with control_group() as group:
        node = subprocess.Popen(
            [umbel, "--workers", "2", "--listen", f"127.0.0.1:{http}", "--admin", f"127.0.0.1:{admin}"],
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connect(http).close()
            time.sleep(SETTLE_SECONDS)
            before = (*usage(group), resident(node.pid))
            sessions = []
            for count in COUNTS:
                while len(sessions) < count:
                    session = connect(http)
                    upgrade = UPGRADE if transport == "websocket" else ""
                    session.sendall(f"GET /topics/t{len(sessions) % TOPICS} HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n".encode())
                    sessions.append(session)
                for session in sessions:
                    session.settimeout(10)
                    session.recv(4096, socket.MSG_PEEK)
                time.sleep(SETTLE_SECONDS)
                now = (*usage(group), resident(node.pid))
                each = [(after - start) / count for after, start in zip(now, before)]
                print(f"{count} {transport} sessions: {each[0]:.0f} B of the group each, of it {each[1]:.0f} the kernel's; "
                      f"{each[2]:.0f} B of RSS")
        finally:
            node.kill()
            node.wait()
            # The group can't go before its last process has.
            time.sleep(1)


if __name__ == "__main__":
    main()
