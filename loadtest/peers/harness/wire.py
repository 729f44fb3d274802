"""The least of WebSocket, chunked bodies and RESP that a check needs."""

import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def masked(kind: int, body: bytes) -> bytes:
    """One frame of a client. Its mask is zero, so that the body stays as it is."""
    if len(body) < 126:
        head = struct.pack("!BB", 0x80 | kind, 0x80 | len(body))
    else:
        head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, len(body))
    return head + bytes(4) + body


def frames(buffer: bytearray):
    """Takes the whole frames of a server out of the buffer: (opcode, body) of each."""
    at = 0
    while len(buffer) - at >= 2:
        kind, length, start = buffer[at] & 15, buffer[at + 1] & 127, at + 2
        wide = {126: 2, 127: 8}.get(length, 0)
        if wide:
            if len(buffer) < start + wide:
                break
            length = int.from_bytes(buffer[start : start + wide], "big")
            start += wide
        if len(buffer) < start + length:
            break
        yield kind, bytes(buffer[start : start + length])
        at = start + length
    del buffer[:at]


def chunks(buffer: bytearray):
    """Takes the whole chunks of a body out of the buffer."""
    while (end := buffer.find(b"\r\n")) >= 0:
        length = int(bytes(buffer[:end]).split(b";")[0], 16)
        if len(buffer) < end + 2 + length + 2:
            return
        yield bytes(buffer[end + 2 : end + 2 + length])
        del buffer[: end + 2 + length + 2]


def responses(buffer: bytearray) -> list[int]:
    """Takes the whole HTTP responses out of the buffer: their status codes."""
    codes = []
    while (end := buffer.find(b"\r\n\r\n")) >= 0:
        head = bytes(buffer[:end]).lower()
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"transfer-encoding":
                raise ValueError("an answer to a publisher is chunked: only Content-Length is understood")
            if name == b"content-length":
                length = int(value)
        if len(buffer) < end + 4 + length:
            break
        codes.append(int(head.split()[1]))
        del buffer[: end + 4 + length]
    return codes


def resp(*words: bytes) -> bytes:
    """One command of Redis."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
