"""Processes that are measured: what they have run, what they hold, and their end."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time


def seconds(pid):
    """Seconds that all threads of a process ran, by the scheduler's account, exact to a nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def idle(pid, over):
    """What a process runs in a second of its idle time."""
    begun, ran = time.monotonic(), seconds(pid)
    time.sleep(over)
    return (seconds(pid) - ran) / (time.monotonic() - begun)


def resident(pid):
    """Bytes of RSS."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def pin(pid):
    """Gives a process the last core, where there are two: the load keeps off it."""
    if os.cpu_count() > 1:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), {os.cpu_count() - 1})


def keep_off():
    """Has this process, and those that it starts, leave the last core to what is measured."""
    count = os.cpu_count()
    if count > 1:
        os.sched_setaffinity(0, set(range(count - 1)))


def keep_off_no_more():
    os.sched_setaffinity(0, set(range(os.cpu_count())))


def free_ports(count):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def until(condition, within, failure, pause=0.02):
    """Waits for a condition; more than `within` seconds are a failure."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(pause)


def end(process, within=10):
    """Ends a process that we started."""
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
