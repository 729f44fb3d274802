"""Starts a system and its Redis on given cores, waits until it is ready, and ends both."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .peer import ROOT, Peer, built, filled

READY_SECONDS = 30
END_SECONDS = 10
_PR_SET_PDEATHSIG = 1


def _ends_with_its_parent():
    """Runs in the child: should this program be killed, its children are asked to end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_ports(count: int) -> list[str]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def descendants(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


class Running:
    """A system that runs, as a context: leaving it ends all of its processes.

    Texts of a peer.toml and files of a peer may contain: @port@ (for clients), @second@ and @third@ (more ports),
    @redis@ (the port of its Redis), @dir@ (a directory of the run), @program@, @here@ (the peer's directory),
    @peers@ (where install.sh builds) and @root@ (the project).
    """

    def __init__(self, peer: Peer, core: int = 1, redis_core: int = 0):
        program = peer.program()
        if program is None:
            raise FileNotFoundError(f"{peer.name} is not installed")
        self.peer, self.core, self.redis_core = peer, core, redis_core
        self.dir = Path(tempfile.mkdtemp(prefix=f"peer-{peer.name}-"))
        port, second, third, redis = _free_ports(4)
        self.values = {"port": port, "second": second, "third": third, "redis": redis, "dir": str(self.dir)}
        self.values |= {"program": program, "here": str(peer.home), "peers": str(built()), "root": str(ROOT)}
        self.version = peer.version_of(program)
        self._children: list[subprocess.Popen] = []

    def __enter__(self) -> "Running":
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_error):
        self._end()

    @property
    def url(self) -> str:
        return filled(self.peer.url, self.values)

    @property
    def publish_url(self) -> str:
        return filled(self.peer.publish_url, self.values)

    @property
    def pids(self) -> list[int]:
        """All processes of the system, its Redis not among them."""
        return descendants(self._children[-1].pid)

    def told(self) -> dict:
        """What a caller needs to know, as JSON can have it."""
        return {
            "name": self.peer.name,
            "title": self.peer.title,
            "version": self.version,
            "fed_by": self.peer.fed_by,
            "settings": self.peer.settings,
            "url": self.url,
            "publish_url": self.publish_url,
            "script": str(self.peer.script_file),
            "pids": self.pids,
            "log": str(self.dir / "server.log"),
        }

    def _start(self):
        for name in self.peer.files:
            (self.dir / name).write_text(filled((self.peer.home / name).read_text(), self.values))
        if self.peer.redis:
            address = ["--bind", "127.0.0.1", "--port", self.values["redis"], "--dir", str(self.dir)]
            self._spawn(["redis-server", *address, "--save", "", "--appendonly", "no"], self.redis_core, {}, "redis.log")
            self._wait(self._children[-1], "Redis", lambda: self._takes_connections("redis"))
        command = [filled(word, self.values) for word in self.peer.command]
        environment = {name: filled(value, self.values) for name, value in self.peer.environment.items()}
        server = self._spawn(command, self.core, environment, "server.log")
        self._wait(server, self.peer.name, self._is_ready)

    def _spawn(self, command: list[str], core: int, environment: dict[str, str], log: str) -> subprocess.Popen:
        with (self.dir / log).open("w") as out:
            child = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.dir,
                env=os.environ | environment,
                preexec_fn=_ends_with_its_parent,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _wait(self, child: subprocess.Popen, name: str, is_ready):
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            if child.poll() is not None:
                raise RuntimeError(f"{name} ended with {child.returncode}:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not ready after {READY_SECONDS} s:\n{self._last_words()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        if not self.peer.ready:
            return self._takes_connections("port")
        try:
            urllib.request.urlopen(filled(self.peer.ready, self.values), timeout=2).close()
        except urllib.error.HTTPError as answer:
            return answer.code < 500
        except OSError:
            return False
        return True

    def _takes_connections(self, port: str) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self.values[port])), timeout=2).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        logs = (self.dir / name for name in ("redis.log", "server.log"))
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())

    def _end(self):
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                # The whole session: what it has started would stay.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
