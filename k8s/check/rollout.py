#!/usr/bin/env python3
"""The production overlay on a real control plane, with scheduler, kubelets and metrics played (players.py): whether its
rollouts, evictions, endpoints and autoscaler do as the manifests' comments say. Some seven minutes.
`make manifests-rollout` runs it.
"""

import json
import sys
import time

import build
import cluster
import players

DEPLOYMENT = "/apis/apps/v1/namespaces/umbel/deployments/umbel"


class Trial:
    def __init__(self, server, production):
        self.server, self.production = server, production
        self.players = players.Players(server)
        self.started = time.monotonic()
        self.failed = 0

    def holds(self, about, is_true, seen=""):
        self.failed += not is_true
        print(f"{time.monotonic() - self.started:5.0f} s  {'ok    ' if is_true else 'FAILED'}  {about} {seen}", flush=True)

    def becomes(self, about, condition, seconds):
        begun = time.monotonic()
        while not condition() and time.monotonic() - begun < seconds:
            time.sleep(0.3)
        self.holds(about, condition(), f"({time.monotonic() - begun:.0f} s)")

    def deployment(self):
        return self.server.request("GET", DEPLOYMENT)[1]

    def is_settled(self, nodes):
        """Whether there are so many nodes, all of them new, and long enough ready."""
        deployment = self.deployment()
        status = deployment.get("status", {})
        return status.get("observedGeneration") == deployment["metadata"]["generation"] and all(
            status.get(which) == nodes for which in ("replicas", "updatedReplicas", "availableReplicas"))

    def endpoints(self, service):
        """The pods that a Service sends to."""
        _, found = self.server.request("GET", f"/api/v1/namespaces/umbel/endpoints/{service}")
        return {address["targetRef"]["name"] for subset in found.get("subsets", [])
                for address in subset.get("addresses", [])}

    def evict(self, name):
        """The status of an eviction, as `kubectl drain` asks for it."""
        return self.server.request("POST", f"{players.PODS}/{name}/eviction", {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "umbel"}})[0]

    def is_replaced(self, name):
        self.becomes("three again", lambda: name not in self.players.ready and len(self.players.ready) == 3
                     and self.is_settled(3), 120)

    def begins(self):
        self.becomes("three nodes, from the autoscaler's least", lambda: self.is_settled(3), 180)

    def nodes_that_are_not_ready(self):
        first, second, third = self.players.ready
        self.players.unready.add(first)
        self.becomes("a node that isn't ready gets no clients", lambda: first not in self.endpoints("umbel"), 30)
        self.holds("Prometheus still finds it", first in self.endpoints("umbel-admin"))
        # The budget is counted anew a moment later.
        time.sleep(3)
        self.holds("meanwhile no other may be evicted", self.evict(third) == 429)
        self.players.unready.add(second)
        self.becomes("another isn't ready either", lambda: second not in self.endpoints("umbel"), 30)
        time.sleep(3)
        self.holds("they may be evicted all the same", self.evict(first) == 201)
        self.players.unready.clear()
        self.is_replaced(first)

    def machines_are_emptied(self):
        first, second, _ = self.players.ready
        self.holds("one may be evicted", self.evict(first) == 201)
        self.holds("the next may not yet", self.evict(second) == 429)
        self.becomes("a node that leaves gets no clients", lambda: first not in self.endpoints("umbel"), 30)
        self.holds("Prometheus still finds it", first in self.endpoints("umbel-admin"))
        self.is_replaced(first)
        self.becomes("and the next may", lambda: self.evict(second) == 201, 30)
        self.is_replaced(second)

    def another_umbel_toml(self):
        (name,) = (one["metadata"]["name"] for one in self.production.of("ConfigMap") if "umbel.toml" in one["data"])
        text = json.dumps(self.production.objects).replace(name, "umbel-another")
        self.players.watch_anew()
        begun = time.monotonic()
        self.server.apply(json.loads(text))
        self.becomes("another umbel.toml is a rollout", lambda: self.is_settled(3), 300)
        self.holds("at no time fewer than three were ready", self.players.fewest_ready == 3, self.players.fewest_ready)
        self.holds("nor were there more than four that stayed", self.players.most_staying == 4, self.players.most_staying)
        self.holds("half a minute for each at least", time.monotonic() - begun > 90)

    def an_image_that_does_not_start(self):
        self.players.broken_image = "registry.example.org/umbel:broken"
        self.players.watch_anew()
        self.server.kubectl("-n", "umbel", "set", "image", "deployment/umbel", f"umbel={self.players.broken_image}")
        self.becomes("a new image is tried", lambda: self.players.most_staying == 4, 30)
        time.sleep(60)
        self.holds("where it doesn't start nobody goes for it", self.players.fewest_ready == 3, self.players.fewest_ready)
        self.holds("and one pod is all that tries", self.players.most_staying == 4, self.players.most_staying)
        self.server.kubectl("-n", "umbel", "rollout", "undo", "deployment/umbel")
        self.becomes("undone", lambda: self.is_settled(3), 60)

    def sessions_come_and_go(self):
        def nodes():
            return self.deployment()["spec"]["replicas"]
        self.players.sessions = 400_000
        self.becomes("400 000 sessions: eight nodes", lambda: nodes() == 8, 240)
        self.becomes("all of them ready", lambda: len(self.players.ready) == 8, 60)
        self.server.apply(self.production.objects)
        self.players.sessions = 100_000
        time.sleep(90)
        self.holds("100 000 sessions a minute and a half later: still eight, and an apply changes nothing", nodes() == 8, nodes())
        self.players.millicores = 1900
        self.becomes("CPU alone makes more", lambda: nodes() > 8, 120)


def main():
    with cluster.Cluster() as server:
        server.define_custom_resources(sys.argv[1])
        server.start_controllers()
        production = next(one for one in build.all_builds() if one.name == "overlays/production")
        trial = Trial(server, production)
        trial.players.sessions = 100_000
        trial.players.begin()
        server.apply(production.objects)
        trial.begins()
        trial.nodes_that_are_not_ready()
        trial.machines_are_emptied()
        trial.another_umbel_toml()
        trial.an_image_that_does_not_start()
        trial.sessions_come_and_go()
    print(f"with {cluster.version()}: {trial.failed} failed")
    return trial.failed > 0


if __name__ == "__main__":
    sys.exit(main())
