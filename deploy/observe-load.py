#!/usr/bin/env python3
"""A gentle, mixed load for deploy/observe.sh, of Python's own library alone: sessions of each transport that come and
go, publishers by HTTP and by session, resumes, polls, and now and then a reader that is too slow.

usage: observe-load.py PORT...    the nodes' HTTP ports on loopback; lasts until it is ended
"""

import asyncio
import itertools
import json
import math
import random
import socket
import sys
import time

PORTS = [int(port) for port in sys.argv[1:]]
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
SSE = "Accept: text/event-stream\r\n"


def day():
    """A day of two minutes: from 0.4 at night to 1 at noon."""
    return 0.7 + 0.3 * math.sin(time.time() / 120 * 2 * math.pi)


async def opened(port, path, headers, narrow=False):
    line = socket.socket()
    line.setblocking(False)
    if narrow:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=line, limit=1024 if narrow else 1 << 20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    await writer.drain()
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def forever(what, *arguments):
    """Again and again: nodes leave, and clients come back."""
    while True:
        try:
            await what(*arguments)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        await asyncio.sleep(random.uniform(0.2, 1.5))


async def stay(reader, writer, seconds, pause=0.0, most=1 << 16):
    """Reads until then, or until the stream ends; gives the last id of an SSE stream."""
    last, end = None, time.time() + seconds
    while (left := end - time.time()) > 0:
        try:
            read = await asyncio.wait_for(reader.read(most), left)
        except asyncio.TimeoutError:
            break
        if not read:
            break
        for line in read.split(b"\n"):
            if line.startswith(b"id: "):
                last = line[4:].decode(errors="replace").strip()
        await asyncio.sleep(pause)
    writer.close()
    return last


async def listener(port, path, headers):
    await stay(*await opened(port, path, headers), random.uniform(20, 200))


async def returning(port, path):
    """A page whose network breaks: it comes back where it was, seldom with a place that nobody knows any more."""
    last = None
    for _ in range(4):
        headers = SSE + (f"Last-Event-ID: {last}\r\n" if last else "")
        last = await stay(*await opened(port, path, headers), random.uniform(5, 20)) or last
        await asyncio.sleep(random.uniform(0.5, 3))
    if random.random() < 1 / 12:
        await stay(*await opened(port, path + "?after=00000000deadbeef-7", SSE), 2)


async def slow(port):
    """Takes little in for a while, as on a bad line."""
    await asyncio.sleep(random.uniform(20, 50))
    path = random.choice(["/topics/prices.eur", "/topics/game.7.state"])
    await stay(*await opened(port, path, SSE, narrow=True), random.uniform(8, 16), pause=0.5, most=512)


async def request(port, method, path, body=b"", kind="application/json"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.read()
    writer.close()


async def publish(port, topic, per_second, size):
    for number in itertools.count():
        body = json.dumps({"n": number, "filling": "x" * random.randint(size // 2, size)}).encode()
        await request(port, "POST", f"/topics/{topic}", body)
        await asyncio.sleep(random.expovariate(per_second * day()))


async def speak(port, topic):
    """A player: publishes over its own session and reads what others do."""
    reader, writer = await opened(port, f"/topics/{topic}?echo=false", WEBSOCKET)
    reading = asyncio.ensure_future(stay(reader, writer, 60))
    while not reading.done():
        payload = json.dumps({"move": random.randint(0, 9)}).encode()
        mask = b"\x37\xfa\x21\x3d"
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        writer.write(bytes([0x81, 0x80 | len(payload)]) + mask + masked)
        await asyncio.sleep(random.expovariate(1.5))


async def poll(port):
    await request(port, "GET", random.choice(["/topics/chat.1?after=0&limit=20", "/topics/chat.9?wait=5"]))


async def mistakes(port):
    await asyncio.sleep(random.uniform(3, 8))
    await request(port, "POST", "/topics/nobody.may", b"{}")


async def main():
    tasks = []
    for port in PORTS:
        for number in range(70):
            path = ["/topics/chat.1", "/topics/prices.eur", "/topics/game.7.state", "/topics/chat.1,chat.2"][number % 4]
            # Frames over several topics are for those that don't send.
            headers = SSE if number % 4 == 3 or number % 3 == 0 else WEBSOCKET
            tasks.append(forever(listener, port, path, headers))
        tasks += [forever(returning, port, "/topics/chat.2") for _ in range(6)]
        tasks.append(forever(slow, port))
        tasks += [forever(speak, port, "game.7.state") for _ in range(3)]
        tasks += [
            forever(publish, port, "chat.1", 4, 400),
            forever(publish, port, "chat.2", 2, 400),
            forever(publish, port, "prices.eur", 10, 3000),
            forever(publish, port, "game.7.state", 6, 6000),
            forever(poll, port),
            forever(mistakes, port),
        ]
    await asyncio.gather(*tasks)


asyncio.run(main())
