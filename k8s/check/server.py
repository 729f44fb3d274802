#!/usr/bin/env python3
"""Gives all manifests to a real API server, which knows what no schema says: its own validation, admission, the rules
within custom resources' definitions. Nothing runs. `make manifests-server` runs it.
"""

import copy
import json
import sys

import build
import cluster


def pod_of(workload, pod):
    labels, namespace = pod["metadata"]["labels"], workload["metadata"]["namespace"]
    return {"apiVersion": "v1", "kind": "Pod", "spec": copy.deepcopy(pod["spec"]),
            "metadata": {"name": workload["metadata"]["name"], "namespace": namespace, "labels": labels}}


def trials(server, one):
    """What the server says of a build: what it is about, whether that is right, and its words."""
    def create(item):
        return server.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(item))

    for namespace in {item["metadata"].get("namespace") for item in one.objects} - {None}:
        if not one.of("Namespace"):
            server.kubectl("create", "namespace", namespace)
    # As users do: what kubectl notes in an annotation counts too.
    taken, said = server.apply(one.objects)
    yield "apply", taken and "Warning" not in said, said
    changed, said = server.kubectl("diff", "-f", "-", stdin="\n".join(json.dumps(item) for item in one.objects))
    yield "a second apply would change nothing", changed, said[:2000]
    # Overlays have namespaces that enforce the strictest standard.
    for workload, pod in one.pods() if one.of("Namespace") else []:
        whole = pod_of(workload, pod)
        taken, said = create(whole)
        yield f"a pod of {workload['metadata']['name']}", taken, said
        del whole["spec"]["containers"][0]["securityContext"]["capabilities"]
        taken, said = create(whole)
        yield "the same with capabilities is refused", not taken and "PodSecurity" in said, said
    for item in copy.deepcopy(one.of("HTTPRoute")):
        item["metadata"]["name"] = "nonsense"
        item["spec"]["rules"][0]["timeouts"] |= {"request": "1s", "backendRequest": "2s"}
        taken, said = create(item)
        yield "a route whose timeouts contradict each other is refused", not taken and "request timeout" in said, said
    # Namespaces stay: nobody is there who would end them.
    rest = [item for item in one.objects if item["kind"] != "Namespace"]
    server.kubectl("delete", "--wait=false", "-f", "-", stdin="\n".join(json.dumps(item) for item in rest))


def main():
    failed = count = 0
    with cluster.Cluster() as server:
        server.define_custom_resources(sys.argv[1])
        for one in build.all_builds():
            for about, is_right, said in trials(server, one):
                count += 1
                if not is_right:
                    failed += 1
                    print(f"{one.name}: {about}: {said}", file=sys.stderr)
    print(f"{count} trials with {cluster.version()}: {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
