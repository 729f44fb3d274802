"""The load tool as a program: the one place that knows its command line and its results' fields."""

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from .peer import HERE
from .running import Running

SCENARIO = HERE / "fan-out.toml"
# Beyond warm-up and window: opening the sessions, and what the tool itself waits for.
EXTRA_SECONDS = 120


@dataclass(frozen=True)
class Load:
    """What is done to each system."""

    tool: str
    core: int
    sessions: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """What one run came to; `problems` is empty when every message came once and in order.

    A run is `whole` when every message came once, in whichever order.
    """

    deliveries: int
    core_seconds: float
    deliveries_per_core_second: float
    rss_bytes: int | None
    whole: bool
    problems: list[str]
    machine: dict


def measure(load: Load, running: Running, at_hand: int) -> Figures:
    """One run against a system. A tool that fails is a RuntimeError with its last words."""
    out = running.dir / f"fan-out-{at_hand}.json"
    command = [load.tool, "run", str(SCENARIO), "--load-core", str(load.core), "--url", running.url]
    command += ["--script", str(running.peer.script_file), "--out", str(out), *_publishing(running.publish_url)]
    for pid in running.pids:
        command += ["--pid", str(pid)]
    changes = {"sessions.count": load.sessions, "pace.closed.at_hand": at_hand, "window.seconds": load.seconds}
    for key, value in changes.items():
        command += ["--set", f"{key}={value}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=load.seconds + EXTRA_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the load tool didn't end within {load.seconds + EXTRA_SECONDS:.0f} s") from None
    # A run that missed something ends with an error too, but has a result, which says what.
    if not out.exists():
        raise RuntimeError(f"the load tool ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return _read(out)


def _publishing(url: str) -> list[str]:
    """The flags for where messages go; the script says by which protocol, so that for raw TCP any scheme will do."""
    if url.startswith("redis://"):
        return ["--redis", url]
    return ["--publish-url", url.replace("tcp://", "http://", 1)]


def _read(out: Path) -> Figures:
    result = json.loads(out.read_text())
    cost, integrity = result["cost"], result["messages"]["integrity"]
    problems = list(result["problems"])
    problems += [f"{integrity[what]} {what}" for what in ("lost", "doubled", "reordered", "garbled") if integrity[what]]
    deliveries, seconds = result["messages"]["deliveries"], cost["server_core_seconds"]
    if not deliveries or not seconds:
        raise RuntimeError(f"nothing was measured: {deliveries} deliveries, {seconds} s of the server's core")
    whole = not any(integrity[what] for what in ("lost", "doubled", "garbled"))
    rate = deliveries / seconds
    return Figures(deliveries, seconds, rate, cost.get("rss_bytes"), whole, problems, result["machine"])


def plain(figures: Figures) -> dict:
    """The figures without the machine, which is the same for all."""
    return {key: value for key, value in asdict(figures).items() if key != "machine"}
