"""The rollouts of 100 pods that are simulated, one per core at a time."""

import concurrent.futures
import itertools

from rollout import Plan, Rollout

PODS = 100
SESSIONS = (10_000, 100_000)
# maxSurge and maxUnavailable of k8s/base; 10 % and 100 %, of which k8s/operations.md speaks.
STEPS = ((1, 0), (10, 0), (100, 0))
CHOICES = ("least", "random")
# limits.sessions, by what a pod begins with; and once none, to see how far pods would fill.
LIMIT = 2
CASES = [*itertools.product(SESSIONS, STEPS, CHOICES, [LIMIT]), (SESSIONS[0], STEPS[0], "random", None)]


def rollouts(progress):
    """One for each of CASES. A simulation that contradicts itself is `rollout.Broken`."""
    progress(f"simulating rollouts of {PODS} pods, a minute or so")
    with concurrent.futures.ProcessPoolExecutor() as pool:
        return list(pool.map(one, *zip(*CASES)))


def one(sessions, step, choice, limit):
    surge, unavailable = step
    audiences = {"one": 1, "rooms of 100": 100, "all": PODS * sessions}
    plan = Plan(PODS, sessions, surge, unavailable, choice, limit=limit * sessions if limit else PODS * sessions)
    result = Rollout(plan, audiences.values()).run().result()
    reads = {name: result["reads"][audience] for name, audience in audiences.items()}
    return {"sessions": sessions, "surge": surge, "unavailable": unavailable, "choice": choice, "limit": limit} | result | {"reads": reads}
