"""Scripts: how a system's clients subscribe, and how a message is published to it."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

@dataclass(frozen=True)
class Answer:
    """What is sent when a frame comes that contains `on`, or that is just that."""

    on: bytes
    send: bytes
    exact: bool = False

    def suits(self, frame: bytes) -> bool:
        return frame == self.on if self.exact else self.on in frame


@dataclass(frozen=True)
class Publish:
    """How one message is published: by exactly one of `post`, `redis` and `tcp`."""

    post: str | None = None
    headers: list[str] = field(default_factory=list)
    lines: bool = False
    redis: str | None = None
    tcp: str | None = None
    open: str = ""
    expect: str = ""
    body: str = "{payload}"

    def __post_init__(self):
        if sum(way is not None for way in (self.post, self.redis, self.tcp)) != 1:
            raise ValueError("a script publishes by exactly one of post, redis and tcp")

    def channel(self, topic: str) -> bytes:
        """The Redis channel of a topic."""
        return (self.redis + topic).encode()

    def message(self, topic: str, payload: bytes) -> bytes:
        """One body, or what is written for one message on a raw connection."""
        text = self.body if self.tcp is None else self.tcp
        filled = text.replace("{topic}", topic).replace("{bytes}", str(len(payload)))
        return filled.encode().replace(b"{payload}", payload)


@dataclass(frozen=True)
class Script:
    """A script as its file says it."""

    path: str
    publish: Publish
    transport: str = "websocket"
    subprotocol: str = ""
    binary: bool = False
    stream: bool = False
    steps: list[dict[str, str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Script":
        """Reads a file; a key that no script has is a TypeError."""
        said = tomllib.loads(file.read_text())
        said["publish"] = Publish(**said["publish"])
        said["answers"] = [
            Answer(answer["on"].encode(), answer["send"].encode(), answer.get("exact", False))
            for answer in said.get("answers", [])
        ]
        return cls(**said)

    def request(self, host: str, topic: str) -> bytes:
        """What a session sends first."""
        lines = [f"GET {self.path.replace('{topic}', topic)} HTTP/1.1", f"Host: {host}"]
        if self.transport == "sse":
            lines += ["Accept: text/event-stream"]
        else:
            lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
            if self.subprotocol:
                lines += [f"Sec-WebSocket-Protocol: {self.subprotocol}"]
        return "\r\n".join([*lines, "", ""]).encode()
