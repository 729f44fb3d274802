"""What Umbel aims at beside each system, and the verdict that the rounds allow."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .peer import Peer

# Umbel in the ways in which others are fed: by itself, by Redis, by Redis with what was posted to it.
OURS = ("umbel", "umbel-redis", "umbel-redis-post")
# The bare loop that does nothing but write preframed bytes: nobody who writes once per subscriber and batch is below it.
FLOORS = ("baseline", "baseline-redis")
# From so many messages at hand on, a system may join them.
MANY = 8
# How many times as many deliveries per core-second Umbel aims at.
OF_REDIS_FED, OF_NATS, OF_SINGLE = 5.0, 2.0, 1.0


@dataclass(frozen=True)
class Spread:
    """The middle of some figures and how far they spread."""

    lower_quartile: float
    median: float
    upper_quartile: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> "Spread | None":
        """Of these figures, if there are any; quartiles lie between neighbours."""
        figures = list(figures)
        if len(figures) < 2:
            return cls(*figures * 3) if figures else None
        return cls(*statistics.quantiles(figures, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower_quartile:.2f}–{self.upper_quartile:.2f})"


def beside(peer: Peer) -> str | None:
    """The name of the Umbel that a system is compared with: the one that is fed alike."""
    if peer.name in OURS:
        return None
    return peer.compared_with or ("umbel-redis" if peer.redis else "umbel")


def floor(peer: Peer) -> str | None:
    """The name of the bare loop that shows what is possible for a system with Umbel's targets."""
    if peer.name in (*OURS, *FLOORS):
        return None
    return FLOORS[peer.redis]


def target(peer: Peer, at_hand: int) -> float | None:
    """The least ratio that Umbel aims at, if there is one."""
    if peer.name in OURS or peer.unjudged:
        return None
    if at_hand == 1:
        return OF_SINGLE
    if at_hand < MANY:
        return None
    return OF_REDIS_FED if peer.redis else OF_NATS if peer.name == "nats" else None


def verdict(least: float | None, ratio: Spread | None, ours_measured: bool) -> str:
    """`reached` by the median, `missed` by three quarters of the rounds, else `undecided`; `unjudged` without a target.

    Without a ratio it's `missed` where Umbel has no round, and `undecided` where only the other has none.
    """
    if least is None:
        return "unjudged"
    if ratio is None:
        return "undecided" if ours_measured else "missed"
    if ratio.median >= least:
        return "reached"
    return "missed" if ratio.upper_quartile < least else "undecided"
