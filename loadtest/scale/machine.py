"""Where and of what a measurement was made."""

import datetime
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


def described(umbel, redis_version, command):
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "unknown")
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 10
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": "vm" if "hypervisor" in cpu else platform.node(), "cpu": model, "cores": os.cpu_count(), "memory_mib": memory,
        "kernel": platform.release(), "load_before": os.getloadavg()[0],
        "congestion_control": pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "commit": said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"), "node": said(umbel, "--version"),
        "redis": redis_version, "python": platform.python_version(), "command": command,
    }


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
