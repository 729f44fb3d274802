"""What sessions are there for: topics, their audiences, how often each has a message."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Group:
    """Topics that are alike."""
    topics: float
    audience: float     # sessions of each
    rate: float         # messages of each in a second


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    has_history: bool
    groups: object      # sessions -> [Group]

    @property
    def call(self):
        return "FCALL" if self.has_history else "PUBLISH"


def zipf(sessions, topics, rate):
    """Audiences by Zipf's law with exponent 1: the topic of rank k has sessions / (k × H(topics)) of them. Ranks from
    2^i to 2^(i+1) are taken together, with their mean."""
    total, groups, first = harmonic(topics), [], 1
    while first <= topics:
        last = min(2 * first - 1, topics)
        count = last - first + 1
        share = (harmonic(last) - harmonic(first - 1)) / total
        groups.append(Group(count, sessions * share / count, rate))
        first = last + 1
    return groups


def harmonic(n):
    """1 + 1/2 + … + 1/n."""
    if n < 100:
        return sum(1 / k for k in range(1, n + 1))
    return math.log(n) + 0.5772156649 + 1 / (2 * n) - 1 / (12 * n * n)


def hot(sessions):
    return [Group(1, sessions, 10)]


def own(sessions):
    return [Group(sessions, 1, 1 / 60)]


def rooms(sessions):
    return [Group(sessions / 100, 100, 1)]


def feeds(sessions):
    return zipf(sessions, max(sessions // 100, 1), 1 / 10)


WORKLOADS = [
    Workload("one topic for all, 10 messages/s", True, hot),
    Workload("a topic each, a message a minute, live", False, own),
    Workload("a topic each, a message a minute, history", True, own),
    Workload("rooms of 100, a message a second, live", False, rooms),
    Workload("rooms of 100, a message a second, history", True, rooms),
    Workload("feeds by Zipf, one per 100 sessions, a message in 10 s, history", True, feeds),
]
