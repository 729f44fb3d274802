"""Sessions that subscribe as a script says and check what they hear; and a publisher."""

import asyncio
import re
from urllib.parse import urlsplit

from . import wire
from .script import Script

PAYLOAD_BYTES = 128
_PAYLOAD = re.compile(rb"(\d{12}) x{%d}" % (PAYLOAD_BYTES - 13))


def payload(number: int) -> bytes:
    """The message of a number: digits, a blank, and letters up to the size."""
    return b"%012d " % number + b"x" * (PAYLOAD_BYTES - 13)


class Session(asyncio.Protocol):
    """One subscriber. `heard` is the number of messages without a gap, `reordered` of those that came before an earlier one;
    `failure` says what went wrong."""

    def __init__(self, script: Script, host: str, topic: str):
        self.script, self.host, self.topic = script, host, topic
        self.heard = self.reordered = 0
        self._ahead: set[int] = set()
        self.failure: str | None = None
        self.open = asyncio.get_running_loop().create_future()
        self.came = asyncio.Event()
        self._buffer, self._rest, self.step, self._upgraded = bytearray(), b"", 0, False
        self._chunked = False

    def connection_made(self, transport):
        self._transport = transport
        transport.write(self.script.request(self.host, self.topic))

    def connection_lost(self, _error):
        self.fail("the server closed the connection")

    def close(self):
        self.failure = self.failure or "closed"
        self._transport.abort()

    def fail(self, why: str):
        self.failure = self.failure or why
        if not self.open.done():
            self.open.set_exception(ConnectionError(self.failure))
        self.came.set()

    def data_received(self, data):
        self._buffer += data
        try:
            if self._upgraded or self._upgrade():
                self._body()
        except (ValueError, IndexError) as error:
            self.fail(f"nonsense: {error}")

    def _upgrade(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        status = int(head.split()[1])
        if status != (200 if self.script.transport == "sse" else 101):
            self.fail(f"refused with status {status}")
            return False
        self._upgraded, self._chunked = True, b"chunked" in head.lower()
        self._next_step()
        return True

    def _body(self):
        if self.script.transport != "sse":
            for kind, body in wire.frames(self._buffer):
                self._frame(kind, body)
        elif self._chunked:
            for chunk in wire.chunks(self._buffer):
                self._text(chunk, stream=True)
        else:
            self._text(bytes(self._buffer), stream=True)
            self._buffer.clear()

    def _frame(self, kind: int, body: bytes):
        if kind == wire.PING:
            self._transport.write(wire.masked(wire.PONG, body))
        elif kind == wire.CLOSE:
            code = int.from_bytes(body[:2], "big")
            self.fail(f"closed with {code} {body[2:].decode(errors='replace')}")
        elif kind != wire.PONG:
            self._text(body, self.script.stream)

    def _text(self, body: bytes, stream: bool):
        for answer in self.script.answers:
            if answer.suits(body):
                self._send(answer.send)
        if self.step < len(self.script.steps):
            wait = self.script.steps[self.step].get("wait", "")
            if self._fill(wait) in body:
                self.step += 1
                self._next_step()
        whole = self._rest + body if stream else body
        end = 0
        for found in _PAYLOAD.finditer(whole):
            end = found.end()
            self._message(int(found[1]))
        self._rest = whole[max(end, len(whole) - PAYLOAD_BYTES) :] if stream else b""

    def _message(self, number: int):
        if number < self.heard or number in self._ahead:
            self.fail(f"message {number} came twice")
        self._ahead.add(number)
        self.reordered += number != self.heard
        while self.heard in self._ahead:
            self._ahead.remove(self.heard)
            self.heard += 1
        self.came.set()

    def _next_step(self):
        """Sends steps up to one that waits for something."""
        while self.step < len(self.script.steps):
            step = self.script.steps[self.step]
            if "send" in step:
                self._send(self._fill(step["send"]))
            if "wait" in step:
                return
            self.step += 1
        if not self.open.done():
            self.open.set_result(None)

    def _fill(self, text: str) -> bytes:
        return text.replace("{topic}", self.topic).encode()

    def _send(self, body: bytes):
        kind = wire.BINARY if self.script.binary else wire.TEXT
        self._transport.write(wire.masked(kind, body))


class Publisher:
    """One connection that publishes as the script says; many messages are one write."""

    def __init__(self, script: Script, url: str):
        self.how, self.url = script.publish, urlsplit(url)

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection(self.url.hostname, self.url.port)
        if self.how.tcp is not None and self.how.open:
            self.writer.write(self.how.open.encode())

    async def publish(self, topic: str, messages: list[bytes]):
        """Sends all at once, and waits for the answers where there are any."""
        if self.how.redis is not None:
            channel = self.how.channel(topic)
            bodies = (self.how.message(topic, message) for message in messages)
            self.writer.write(b"".join(wire.resp(b"PUBLISH", channel, body) for body in bodies))
            for _ in messages:
                answer = await self.reader.readline()
                if not answer.startswith(b":") or answer == b":0\r\n":
                    raise ConnectionError(f"PUBLISH was answered with {answer!r}")
        elif self.how.tcp is not None:
            self.writer.write(b"".join(self.how.message(topic, message) for message in messages))
            await self._expect(len(messages))
        else:
            await self._post(topic, [self.how.message(topic, message) for message in messages])

    async def _expect(self, count: int):
        """Waits until the expected answer has come so often."""
        heard = b""
        while self.how.expect and heard.count(self.how.expect.encode()) < count:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the publisher's connection")
            heard += data
            if heard.startswith(b"-"):
                raise ConnectionError(f"a message was answered with {heard!r}")

    async def _post(self, topic: str, bodies: list[bytes]):
        if self.how.lines:
            bodies = [b"\n".join(bodies)]
        lines = [f"POST {self.how.post.replace('{topic}', topic)} HTTP/1.1", f"Host: {self.url.netloc}"]
        head = "\r\n".join([*lines, *self.how.headers, ""]).encode()
        self.writer.write(b"".join(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body) for body in bodies))
        buffer, answered = bytearray(), 0
        while answered < len(bodies):
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the publisher's connection")
            buffer += data
            codes = wire.responses(buffer)
            if any(code >= 300 for code in codes):
                raise ConnectionError(f"a POST was answered with {max(codes)}")
            answered += len(codes)

    def close(self):
        self.writer.close()
