"""A rollout of many pods, in steps of half a second: who moves when, and where to.

The Deployment's controller keeps maxSurge and maxUnavailable: a new pod is ready after `start_seconds`, available
`min_ready_seconds` later, and then an old one may go. That one goes on for `pause_seconds` without new clients, then
moves its sessions over `drain_seconds` at a constant pace, in random order (worker/leave.rs). Who is moved comes back
after 0.5 to 2 s, by the proxy's choice among the pods that are ready; a pod accepts so many connections a second, and
the rest waits at it. Sessions aren't followed one by one: each pod has a count of those that have moved once, twice … (`{moves: sessions}`)
"""

import dataclasses
import math
import random

from shares import Broken, add, binomial, fill, take

STEP = 0.5
RECONNECT = (0.5, 2.0)      # RECONNECT_MILLIS of worker/leave.rs, in whole steps
MOST_MOVES = 40             # of one session; more can't be


@dataclasses.dataclass(frozen=True)
class Plan:
    pods: int = 100
    sessions: int = 10_000      # of each pod
    surge: int = 1
    unavailable: int = 0
    choice: str = "least"       # least | random | robin
    start_seconds: float = 6
    min_ready_seconds: float = 30
    pause_seconds: float = 5
    drain_seconds: float = 30
    deadline_seconds: float = 50
    accepts_per_second: int = 5000
    limit: int = 0              # limits.sessions; 0: twice what a pod begins with
    seed: int = 1

    @property
    def most(self):
        return self.limit or 2 * self.sessions


class Pod:
    def __init__(self, is_new, made):
        self.is_new, self.made = is_new, made
        self.open, self.waiting = {}, {}
        self.count = self.queued = 0
        self.leaves = None          # when it was asked to
        self.pace = None            # sessions per step, once it moves them
        self.owed = 0.0


class Rollout:
    def __init__(self, plan, audiences=()):
        self.plan, self.random = plan, random.Random(plan.seed)
        self.now = 0.0
        self.total = plan.pods * plan.sessions
        self.pods = [Pod(False, -math.inf) for _ in range(plan.pods)]
        for pod in self.pods:
            pod.open, pod.count = {0: plan.sessions}, plan.sessions
        # Those on their way, by the step in which they knock.
        self.away = [{} for _ in range(round(RECONNECT[1] / STEP) + 1)]
        self.turn = 0
        self.moves = self.refused = 0
        self.connects, self.fullest_second, self.longest_queue, self.fullest = [], 0, 0, 0
        self.audiences = audiences
        self.reads = {audience: [] for audience in audiences}
        self.robin = 0

    def run(self, longest=6 * 3600):
        while not self.is_over():
            self.step()
            if self.now > longest:
                raise Broken("the rollout doesn't end")
        return self

    def is_over(self):
        return (all(pod.is_new for pod in self.pods) and len(self.pods) == self.plan.pods
                and not any(self.away) and not any(pod.queued for pod in self.pods)
                and self.now > max(pod.made for pod in self.pods) + self.plan.start_seconds + self.plan.min_ready_seconds)

    def is_ready(self, pod):
        return pod.leaves is None and self.now >= pod.made + self.plan.start_seconds

    def is_available(self, pod):
        return self.is_ready(pod) and (
            not pod.is_new or self.now >= pod.made + self.plan.start_seconds + self.plan.min_ready_seconds)

    def step(self):
        self.control()
        self.arrive()
        self.accept()
        self.move()
        self.pods = [pod for pod in self.pods if not self.is_gone(pod)]
        self.check()
        self.now += STEP

    def control(self):
        """What the Deployment's controller does."""
        staying = [pod for pod in self.pods if pod.leaves is None]
        missing = self.plan.pods - sum(pod.is_new for pod in staying)
        for _ in range(min(self.plan.pods + self.plan.surge - len(staying), missing)):
            self.pods.append(Pod(True, self.now))
        spare = sum(map(self.is_available, staying)) - (self.plan.pods - self.plan.unavailable)
        for pod in [pod for pod in staying if not pod.is_new][:max(spare, 0)]:
            pod.leaves = self.now

    def arrive(self):
        """The proxy sends those who knock now to pods that are ready."""
        knocking, self.away = self.away[0], self.away[1:] + [{}]
        ready = [pod for pod in self.pods if self.is_ready(pod)]
        count = sum(knocking.values())
        for pod, share in zip(ready, self.choose(ready, count)):
            if share:
                take(knocking, share, pod.waiting, self.random)
                pod.queued += share

    def choose(self, ready, count):
        if not count:
            return [0] * len(ready)
        if self.plan.choice == "least":
            return fill([pod.count + pod.queued for pod in ready], count)
        if self.plan.choice == "robin":
            shares = [count // len(ready)] * len(ready)
            for _ in range(count % len(ready)):
                shares[self.robin % len(ready)] += 1
                self.robin += 1
            return shares
        if count < 4 * len(ready):
            shares = [0] * len(ready)
            for index in self.random.choices(range(len(ready)), k=count):
                shares[index] += 1
            return shares
        shares, left = [], count
        for index in range(len(ready)):
            shares.append(binomial(self.random, left, 1 / (len(ready) - index)))
            left -= shares[-1]
        return shares

    def accept(self):
        """Pods take in what their pace and their limit allow; beyond the limit clients are told to come back."""
        self.connects.append(0)
        for reads in self.reads.values():
            reads.append(0.0)
        for pod in self.pods:
            if not pod.queued:
                continue
            share = min(pod.queued, int(self.plan.accepts_per_second * STEP))
            taken = min(share, self.plan.most - pod.count)
            for audience, reads in self.reads.items():
                reads[-1] += self.new_topics(audience, pod.count, pod.count + taken)
            take(pod.waiting, taken, pod.open, self.random)
            pod.count += taken
            if share > taken:
                refused = {}
                take(pod.waiting, share - taken, refused, self.random)
                self.send_away(refused)
                self.refused += share - taken
            pod.queued -= share
            self.connects[-1] += taken
            self.fullest_second = max(self.fullest_second, share / STEP)
            self.longest_queue = max(self.longest_queue, pod.queued)
            self.fullest = max(self.fullest, pod.count)

    def new_topics(self, audience, before, after):
        """Topics of which a pod had no session before, and has one then: it subscribes to these and reads their history
        once, whoever else comes. Expected, with the sessions of a topic anywhere; of topics that were dropped when their last
        session left before, nothing is known here."""
        topics = self.total / audience
        return topics * ((1 - before / self.total) ** audience - (1 - after / self.total) ** audience)

    def send_away(self, some):
        """They come back spread over the time that they are told."""
        low = round(RECONNECT[0] / STEP)
        slots = self.away[low:]
        for kind, count in some.items():
            for index, share in enumerate(fill([0] * len(slots), count)):
                if share:
                    add(slots[(index + self.turn) % len(slots)], kind, share)
            self.turn += 1

    def move(self):
        """Pods that leave move their sessions away."""
        for pod in self.pods:
            if pod.leaves is None or self.now < pod.leaves + self.plan.pause_seconds:
                continue
            if pod.pace is None:
                pod.pace = max(pod.count / self.plan.drain_seconds, 10) * STEP
            pod.owed += pod.pace
            count = min(int(pod.owed), pod.count)
            pod.owed -= count
            some = {}
            take(pod.open, count, some, self.random)
            pod.count -= count
            self.moves += count
            if max(some, default=0) >= MOST_MOVES:
                raise Broken(f"a session has moved {MOST_MOVES} times")
            self.send_away({kind + 1: count for kind, count in some.items()})

    def is_gone(self, pod):
        return pod.pace is not None and pod.count == 0 and pod.queued == 0

    def check(self):
        """What must hold after every step."""
        held = [some for pod in self.pods for some in (pod.open, pod.waiting)] + self.away
        there = sum(sum(some.values()) for some in held)
        if there != self.total:
            raise Broken(f"{self.total} sessions have become {there}")
        if any(count <= 0 for some in held for count in some.values()):
            raise Broken("fewer than no sessions")
        staying = [pod for pod in self.pods if pod.leaves is None]
        if len(staying) > self.plan.pods + self.plan.surge:
            raise Broken(f"{len(staying)} pods")
        if sum(map(self.is_available, staying)) < self.plan.pods - self.plan.unavailable:
            raise Broken("fewer pods are available than shall be")
        for pod in self.pods:
            if pod.count != sum(pod.open.values()) or pod.queued != sum(pod.waiting.values()):
                raise Broken("a pod's counts don't agree")
            if pod.count > self.plan.most:
                raise Broken(f"a pod has {pod.count} sessions")
            if pod.leaves is not None and self.now > pod.leaves + self.plan.deadline_seconds:
                raise Broken("a pod outlives its deadline")

    def result(self):
        moved = [sum(pod.open.get(kind, 0) for pod in self.pods) for kind in range(MOST_MOVES + 1)]
        if sum(kind * count for kind, count in enumerate(moved)) != self.moves:
            raise Broken("moves and what sessions have moved don't agree")
        seconds = by_second(self.connects)
        counts = sorted(pod.count for pod in self.pods)
        return {
            "seconds": self.now, "moves_per_session": self.moves / self.total,
            "most_moves": max(kind for kind, count in enumerate(moved) if count),
            "moved": [count / self.total for count in moved],
            "peak_connects": max(seconds), "peak_connects_of_a_pod": self.fullest_second,
            "longest_queue": self.longest_queue, "refused": self.refused,
            "fullest_ever": self.fullest / self.plan.sessions, "fullest": counts[-1] / self.plan.sessions,
            "emptiest": counts[0] / self.plan.sessions,
            "connects_over_time": seconds,
            "reads": {audience: {"all": sum(reads), "peak": max(by_second(reads))} for audience, reads in self.reads.items()},
        }


def by_second(steps):
    each = round(1 / STEP)
    return [sum(steps[at:at + each]) for at in range(0, len(steps), each)]
