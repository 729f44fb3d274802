"""One system's measurements, and how they compare with Umbel's."""

from dataclasses import dataclass, field

from .judging import Spread, beside, floor, target, verdict
from .peer import Peer
from .tool import Figures


@dataclass(frozen=True)
class Work:
    """What came of one work, by the rounds in which every message came once."""

    at_hand: int
    deliveries_per_core_second: Spread | None
    # How many times as many Umbel delivers, by the rounds that both have, and how many those are.
    ratio: Spread | None
    rounds: int
    # How many times as many the bare loop delivers: more than that can't be aimed at.
    floor: Spread | None
    # The title of the Umbel that it's compared with.
    against: str | None
    target: float | None
    verdict: str


@dataclass
class Row:
    """One system: its figures by messages at hand and round. A round without any has none."""

    peer: Peer
    version: str
    rounds: dict[int, dict[int, Figures]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def rates(self, at_hand: int) -> dict[int, float]:
        """Deliveries per core-second by round. Work that wasn't done whole isn't compared."""
        found = self.rounds.get(at_hand, {})
        return {number: figures.deliveries_per_core_second for number, figures in found.items() if figures.whole}

    def went_wrong(self) -> list[str]:
        """Problems and failures, each once."""
        problems = [
            f"{at_hand} at hand: {problem}" + ("" if figures.whole else "; the round is left out")
            for at_hand, found in self.rounds.items()
            for figures in found.values()
            for problem in figures.problems
        ]
        return list(dict.fromkeys(problems + self.failures))

    def notes(self) -> list[str]:
        """What one must know of its figures: what is known before, then what went wrong."""
        unjudged = f"no verdict: {self.peer.unjudged}" if self.peer.unjudged else ""
        known = [text for text in (self.peer.unproven, self.peer.unordered, unjudged) if text]
        return known + self.went_wrong()

    def ratios(self, other: "Row | None", at_hand: int) -> list[float]:
        """How many times as many the other delivers, in each round that both have."""
        theirs = other.rates(at_hand) if other else {}
        return [theirs[number] / rate for number, rate in self.rates(at_hand).items() if number in theirs]

    def work(self, rows: "dict[str, Row]", at_hand: int) -> Work:
        """Its work beside that of the Umbel among `rows` that is fed alike."""
        ours, least = rows.get(beside(self.peer) or ""), target(self.peer, at_hand)
        ratios = self.ratios(ours, at_hand)
        return Work(
            at_hand,
            deliveries_per_core_second=Spread.of(self.rates(at_hand).values()),
            ratio=Spread.of(ratios),
            rounds=len(ratios),
            floor=Spread.of(self.ratios(rows.get(floor(self.peer) or ""), at_hand)),
            against=ours.peer.title if ours else None,
            target=least,
            verdict=verdict(least, Spread.of(ratios), bool(ours and ours.rates(at_hand))),
        )
