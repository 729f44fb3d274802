"""The results of a comparison, as a table and as JSON."""

import shlex
import statistics
from dataclasses import dataclass, field

from .peer import Peer
from .tool import Figures, plain

# What a system is compared with: that fed in the same way.
OURS, OURS_WITH_REDIS = "umbel", "umbel-redis"


@dataclass
class Row:
    """One system: its figures by messages at hand and round. A round without any has none."""

    peer: Peer
    version: str
    rounds: dict[int, dict[int, Figures]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def rates(self, at_hand: int) -> dict[int, float]:
        """Deliveries per core-second, by round."""
        found = self.rounds.get(at_hand, {})
        return {number: figures.deliveries_per_core_second for number, figures in found.items()}

    def notes(self) -> list[str]:
        """What went wrong, each once."""
        problems = [
            f"{at_hand} at hand: {problem}"
            for at_hand, found in self.rounds.items()
            for figures in found.values()
            for problem in figures.problems
        ]
        known = [text for text in (self.peer.unproven, self.peer.unordered) if text]
        return known + list(dict.fromkeys(problems + self.failures))


def rival(row: Row, rows: dict[str, Row]) -> Row | None:
    """The row of ours that a row is compared with."""
    name = OURS_WITH_REDIS if row.peer.redis else OURS
    return rows.get(name) if name != row.peer.name else None


def ratio(row: Row, rows: dict[str, Row], at_hand: int) -> float | None:
    """How much more ours delivers in the same core time: the median over the rounds that both have."""
    ours = rival(row, rows)
    if ours is None:
        return None
    theirs, mine = row.rates(at_hand), ours.rates(at_hand)
    common = [mine[number] / theirs[number] for number in theirs if number in mine]
    return statistics.median(common) if common else None


def _rate(row: Row, at_hand: int) -> str:
    rates = list(row.rates(at_hand).values())
    return f"{statistics.median(rates):,.0f}".replace(",", " ") if rates else "–"


def _ratio(row: Row, rows: dict[str, Row], at_hand: int) -> str:
    found = ratio(row, rows, at_hand)
    return "" if found is None else f"{found:.2f}"


def _memory(row: Row) -> str:
    sizes = [f.rss_bytes for found in row.rounds.values() for f in found.values() if f.rss_bytes]
    return f"{statistics.median(sizes) / 2**20:.0f}" if sizes else "–"


def markdown(rows: dict[str, Row], about: dict) -> str:
    """The table with what one must know to read it."""
    machine, hands = about["machine"], about["at_hand"]
    lines = [
        "# Umbel beside other systems",
        "",
        f"- Date: {machine.get('date', '')}, commit {machine.get('commit', '')}",
        f"- Machine: {machine.get('name', '')}, {machine.get('cpu', '')}, {machine.get('cores', '')} cores, "
        f"{machine.get('memory_mib', '')} MiB, Linux {machine.get('kernel', '')}, "
        f"TCP {machine.get('congestion_control', '')}",
        f"- Work: one topic, {about['sessions']} subscribers, messages of 128 bytes; so many as are at hand are published "
        f"at once, the next when all have all of them; {about['seconds']:g} s",
        f"- Servers on core {about['core']} alone, load and Redis on core {about['load_core']}; {about['rounds']} rounds, "
        "in each every system anew and in another order; figures are medians",
        f"- Command: `{shlex.join(about['command'])}`",
        "",
        "Deliveries per second of the server's core, softirq included; then how many times as many Umbel delivers, which "
        "is fed in the same way (its own broker, or Redis). Settings are in `loadtest/peers/README.md`.",
        "",
        "| system | version | fed by | " + " | ".join(f"{n} at hand" for n in hands) + " | "
        + " | ".join(f"Umbel ×, {n}" for n in hands) + " | RSS MiB |",
        "|---|---|---|" + "---|" * (2 * len(hands) + 1),
    ]
    for row in rows.values():
        cells = [row.peer.title, row.version, row.peer.fed_by]
        cells += [_rate(row, n) for n in hands] + [_ratio(row, rows, n) for n in hands] + [_memory(row)]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {row.peer.title}: {note}" for row in rows.values() for note in row.notes()]
    if notes:
        lines += ["", "What went otherwise:", "", *notes]
    settings = [f"- {row.peer.title}: {', '.join(row.peer.settings)}" for row in rows.values()]
    return "\n".join([*lines, "", "Settings:", "", *settings, ""])


def json_ready(rows: dict[str, Row], about: dict) -> dict:
    """Everything, as JSON can have it."""
    systems = {
        name: {
            "title": row.peer.title,
            "version": row.version,
            "fed_by": row.peer.fed_by,
            "settings": row.peer.settings,
            "notes": row.notes(),
            "ratio": {n: ratio(row, rows, n) for n in about["at_hand"]},
            "rounds": {
                n: {number: plain(figures) for number, figures in found.items()} for n, found in row.rounds.items()
            },
        }
        for name, row in rows.items()
    }
    return {**about, "systems": systems}
