"""The results of a comparison, as a table and as JSON."""

import shlex
import statistics
from dataclasses import asdict

from .judging import OURS
from .row import Row, Work
from .tool import plain


def _rate(work: Work) -> str:
    rate = work.deliveries_per_core_second
    return f"{rate.median:,.0f}".replace(",", " ") if rate else "–"


def _memory(row: Row) -> str:
    sizes = [f.rss_bytes for found in row.rounds.values() for f in found.values() if f.rss_bytes]
    return f"{statistics.median(sizes) / 2**20:.0f}" if sizes else "–"


def _head(about: dict) -> list[str]:
    machine = about["machine"]
    return [
        "# Umbel beside other systems",
        "",
        f"- Date: {machine.get('date', '')}, commit {machine.get('commit', '')}",
        f"- Machine: {machine.get('name', '')}, {machine.get('cpu', '')}, {machine.get('cores', '')} cores, "
        f"{machine.get('memory_mib', '')} MiB, Linux {machine.get('kernel', '')}, "
        f"TCP {machine.get('congestion_control', '')}",
        f"- Work: one topic, {about['sessions']} subscribers, messages of 128 bytes; so many as are at hand are published "
        f"at once, the next when all have all of them; {about['seconds']:g} s",
        f"- Servers on core {about['core']} alone, load and Redis on core {about['load_core']}; {about['rounds']} rounds, "
        f"in each every system anew, in an order shuffled with seed {about['seed']}",
        f"- Command: `{shlex.join(about['command'])}`",
    ]


def _figures(rows: dict[str, Row], hands: list[int]) -> list[str]:
    lines = [
        "Deliveries per second of the server's core, softirq included; then how many times as many Umbel delivers, which "
        "is fed in the same way. Figures are medians over the rounds in which every message came once, ratios those of "
        "rounds that both have. Settings are in `loadtest/peers/README.md`.",
        "",
        "| system | version | fed by | " + " | ".join(f"{n} at hand" for n in hands) + " | compared with | "
        + " | ".join(f"Umbel ×, {n}" for n in hands) + " | RSS MiB |",
        "|---|---|---|" + "---|" * (2 * len(hands) + 2),
    ]
    for row in rows.values():
        works = [row.work(rows, n) for n in hands]
        cells = [row.peer.title, row.version, row.peer.fed_by, *map(_rate, works), works[0].against or ""]
        cells += [f"{work.ratio.median:.2f}" if work.ratio else "" for work in works]
        lines.append(f"| {' | '.join([*cells, _memory(row)])} |")
    return lines


def _targets(rows: dict[str, Row], hands: list[int]) -> list[str]:
    lines = []
    for row in rows.values():
        for work in (row.work(rows, n) for n in hands):
            if work.target is not None:
                cells = [row.peer.title, f"{work.at_hand}", f"at least {work.target:g}"]
                cells += [str(work.ratio or "not measured"), str(work.floor or ""), f"{work.rounds}", work.verdict]
                lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return ["Nothing was judged."]
    return [
        "What Umbel aims at. It's reached when the median ratio is; missed when that of three quarters of the rounds "
        "isn't; else the rounds don't decide it. The bare loop writes preframed bytes, once per subscriber and batch, and "
        "does nothing else: where its ratio is below the target, the kernel's part alone is too much to reach it.",
        "",
        "| system | at hand | target | Umbel × (quartiles) | bare loop × (quartiles) | rounds | verdict |",
        "|---|---|---|---|---|---|---|",
        *lines,
    ]


def markdown(rows: dict[str, Row], about: dict) -> str:
    """The table with what one must know to read it."""
    hands = about["at_hand"]
    lines = [*_head(about), "", *_figures(rows, hands), "", *_targets(rows, hands)]
    notes = [f"- {row.peer.title}: {note}" for row in rows.values() for note in row.notes()]
    if notes:
        lines += ["", "To know besides:", "", *notes]
    settings = [f"- {row.peer.title}: {', '.join(row.peer.settings)}" for row in rows.values()]
    return "\n".join([*lines, "", "Settings:", "", *settings, ""])


def json_ready(rows: dict[str, Row], about: dict) -> dict:
    """Everything, as JSON can have it; `umbel-loadtest report` reads it."""
    systems = {
        name: {
            "title": row.peer.title,
            "version": row.version,
            "fed_by": row.peer.fed_by,
            "ours": name in OURS,
            "settings": row.peer.settings,
            "notes": row.notes(),
            "went_wrong": row.went_wrong(),
            "works": [asdict(row.work(rows, n)) for n in about["at_hand"]],
            "rounds": {
                n: {number: plain(figures) for number, figures in found.items()} for n, found in row.rounds.items()
            },
        }
        for name, row in rows.items()
    }
    return {**about, "systems": systems}
