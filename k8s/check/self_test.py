"""Manifests broken on purpose, each in one way: whatever doesn't notice is a check that can't fail."""

import base64
import copy
import sys

import custom

def path(*keys, to=None, remove=False):
    """A change: the value at these keys becomes another, or goes."""
    def change(one):
        for key in keys[:-1]:
            one = one[key]
        if remove:
            del one[keys[-1]]
        else:
            one[keys[-1]] = to
    return change


def variable(name, to):
    """A change: a variable of the node, by name."""
    def change(one):
        (place,) = [each for each in one["spec"]["template"]["spec"]["containers"][0]["env"] if each["name"] == name]
        place.clear()
        place.update({"name": name} | to)
    return change


def replaced(key, old, new):
    """A change: text within a ConfigMap."""
    def change(one):
        one["data"][key] = one["data"][key].replace(old, new)
    return change


PRODUCTION, EXAMPLE, KEDA = "overlays/production", "overlays/example", "base with autoscale-keda"
SPEC = ("spec", "template", "spec")
NODE = (*SPEC, "containers", 0)

# Which object of which build, part of what must be said once it is broken, and how it is broken.
CASES = [
    # Schemas.
    (PRODUCTION, "Deployment", "umbel", "Kubernetes 1.30", path(*SPEC, "terminationGracePeriod", to=60)),
    (PRODUCTION, "PodDisruptionBudget", "umbel", "Kubernetes 1.37", path("spec", "maxUnavailble", to=1)),
    (PRODUCTION, "HorizontalPodAutoscaler", "umbel", "Kubernetes 1.33", path("spec", "minReplicas", to="three")),
    (PRODUCTION, "Ingress", "umbel", "Couldn't find schema", path("apiVersion", to="networking.k8s.io/v1beta1")),
    # Names.
    (PRODUCTION, "ServiceAccount", "umbel", "no ServiceAccount", path("metadata", "name", to="other")),
    (PRODUCTION, "Deployment", "umbel", "no volume", path(*NODE, "volumeMounts", 0, "name", to="other")),
    (PRODUCTION, "Deployment", "umbel", "no key",
     variable("UMBEL_ADMIN__TOKEN", {"valueFrom": {"secretKeyRef": {"name": "umbel", "key": "token"}}})),
    (PRODUCTION, "Deployment", "umbel", "no ConfigMap", path(*SPEC, "volumes", 0, "configMap", "name", to="other")),
    (PRODUCTION, "Deployment", "umbel", "a probe asks", path(*NODE, "livenessProbe", "httpGet", "port", to="web")),
    (PRODUCTION, "Deployment", "umbel", "doesn't match", path("spec", "selector", "matchLabels", to={"a": "b"})),
    (PRODUCTION, "Deployment", "umbel", "what it spreads",
     path(*SPEC, "topologySpreadConstraints", 0, "labelSelector", "matchLabels", to={"a": "b"})),
    (PRODUCTION, "Service", "umbel", "finds no pods", path("spec", "selector", to={"a": "b"})),
    (PRODUCTION, "Service", "umbel", "have no port", path("spec", "ports", 0, "targetPort", to="web")),
    (PRODUCTION, "PodDisruptionBudget", "umbel", "finds no pods",
     path("spec", "selector", "matchLabels", to={"a": "b"})),
    (PRODUCTION, "ServiceMonitor", "umbel", "no Service has", path("spec", "endpoints", 0, "port", to="web")),
    (PRODUCTION, "Ingress", "umbel", "there is no Service",
     path("spec", "rules", 0, "http", "paths", 0, "backend", "service", "name", to="other")),
    (PRODUCTION, "Ingress", "umbel", "no certificate", path("spec", "rules", 0, "host", to="other.example.org")),
    (PRODUCTION, "Ingress", "umbel", "has the admin listener",
     path("spec", "rules", 0, "http", "paths", 0, "backend", "service", to={"name": "umbel-admin",
                                                                            "port": {"name": "admin"}})),
    (EXAMPLE, "HTTPRoute", "umbel", "has no port", path("spec", "rules", 0, "backendRefs", 0, "port", to=81)),
    (EXAMPLE, "NetworkPolicy", "umbel", "is shut off", path("spec", "ingress", 0, "ports", 0, "port", to="admin")),
    (EXAMPLE, "NetworkPolicy", "umbel", "isn't there",
     path("spec", "egress", 1, "to", 0, "podSelector", "matchLabels", to={"a": "b"})),
    (EXAMPLE, "NetworkPolicy", "umbel", "finds no pods", path("spec", "podSelector", "matchLabels", to={"a": "b"})),
    (EXAMPLE, "NetworkPolicy", "umbel", "have no port", path("spec", "ingress", 0, "ports", 0, "port", to="web")),
    (EXAMPLE, "NetworkPolicy", "umbel", "neither names nor Redis", path("spec", "egress", to=[])),
    # Operation.
    (PRODUCTION, "Deployment", "umbel", "SIGKILL comes", path(*SPEC, "terminationGracePeriodSeconds", to=50)),
    (PRODUCTION, "ConfigMap", "umbel", "wouldn't start",
     replaced("umbel.toml", "deadline_seconds = 50", "deadline_seconds = 44")),
    (PRODUCTION, "Deployment", "umbel", "wouldn't start", variable("UMBEL_LISTEN__HTTP", {"value": "0.0.0.0"})),
    (PRODUCTION, "Deployment", "umbel", "the node listens at", path(*NODE, "ports", 0, "containerPort", to=80)),
    (PRODUCTION, "Deployment", "umbel", "preStop", path(*NODE, "lifecycle", to={"preStop": {"sleep": {"seconds": 5}}})),
    (PRODUCTION, "Deployment", "umbel", "node.memory_mib is set",
     path(*NODE, "env", 0, to={"name": "UMBEL_NODE__MEMORY_MIB", "value": "512"})),
    (PRODUCTION, "Deployment", "umbel", "bytes of 536870912 when idle",
     path(*NODE, "resources", "limits", "memory", to="512Mi")),
    (PRODUCTION, "Deployment", "umbel", "2 cores are requested", variable("UMBEL_NODE__WORKERS", {"value": "4"})),
    (PRODUCTION, "Deployment", "umbel", "probes ask", path(*NODE, "livenessProbe", "httpGet", "path", to="/readyz")),
    (PRODUCTION, "Deployment", "umbel", "each apply would set it back", path("spec", "replicas", to=3)),
    ("overlays/dev", "Deployment", "umbel", "one node alone", path("spec", "replicas", to=1)),
    (PRODUCTION, "HorizontalPodAutoscaler", "umbel", "to scale", path("spec", "scaleTargetRef", "name", to="other")),
    (KEDA, "PodDisruptionBudget", "umbel", "two autoscalers",
     lambda one: one.update(kind="HorizontalPodAutoscaler",
                            spec={"scaleTargetRef": {"kind": "Deployment", "name": "umbel"}, "metrics": []})),
    (PRODUCTION, "HorizontalPodAutoscaler", "umbel", "in haste",
     path("spec", "behavior", "scaleDown", "stabilizationWindowSeconds", to=60)),
    (PRODUCTION, "HorizontalPodAutoscaler", "umbel", "makes no",
     path("spec", "metrics", 0, "pods", "metric", "name", to="other")),
    (PRODUCTION, "HorizontalPodAutoscaler", "umbel", "are aimed at",
     path("spec", "metrics", 0, "pods", "target", "averageValue", to="90k")),
    (KEDA, "ScaledObject", "umbel", "KEDA asks", path("metadata", "namespace", to="other")),
    (KEDA, "ScaledObject", "umbel", "isn't recorded",
     path("spec", "triggers", 0, "metadata", "query", to='sum(nothing{cluster="umbel"})')),
    (PRODUCTION, "PrometheusRule", "umbel", "isn't what deploy/prometheus has", path("spec", "groups", 0, "name", to="a")),
    (PRODUCTION, "ServiceMonitor", "umbel", "instance and cluster", path("spec", "endpoints", 0, "relabelings", to=[])),
    # Safety.
    (PRODUCTION, "Deployment", "umbel", "by number", path(*SPEC, "securityContext", "runAsUser", remove=True)),
    (PRODUCTION, "Deployment", "umbel", "no seccomp", path(*SPEC, "securityContext", "seccompProfile", remove=True)),
    (PRODUCTION, "Deployment", "umbel", "a token of the API", path(*SPEC, "automountServiceAccountToken", to=True)),
    (PRODUCTION, "Deployment", "umbel", "among its variables", path(*SPEC, "enableServiceLinks", remove=True)),
    ("overlays/dev", "Deployment", "redis", "keeps capabilities", path(*NODE, "securityContext", "capabilities", to={})),
    ("overlays/dev", "Deployment", "redis", "may write",
     path(*NODE, "securityContext", "readOnlyRootFilesystem", to=False)),
    (EXAMPLE, "Deployment", "ticker", "memory isn't limited", path(*NODE, "resources", "limits", "memory", to="1Gi")),
    (PRODUCTION, "Deployment", "umbel", "no limit of it", path(*NODE, "resources", "limits", "cpu", to="1")),
    (PRODUCTION, "Deployment", "umbel", "another tomorrow", path(*NODE, "image", to="umbel:latest")),
    ("overlays/dev", "Deployment", "redis", "another tomorrow", path(*NODE, "image", to="host:5000/redis")),
    (PRODUCTION, "ConfigMap", "umbel-dashboard-node", "has", path("data", "more", to="x" * 300_000)),
    (PRODUCTION, "Namespace", "umbel", "are in the namespaces", path("metadata", "name", to="other")),
    (PRODUCTION, "Service", "umbel", "are in the namespaces", path("metadata", "namespace", to="other")),
    (PRODUCTION, "Secret", "umbel", "looks like a real one",
     path("data", "broker-url", to=base64.b64encode(b"redis://u:a3f9@h:6379").decode())),
]

# What the schemas of custom resources must notice.
CUSTOM_CASES = [
    (PRODUCTION, "ServiceMonitor", "umbel", "intervall", path("spec", "endpoints", 0, "intervall", to="10s")),
    (PRODUCTION, "PrometheusRule", "umbel", "spec.groups.0.rules.0",
     path("spec", "groups", 0, "rules", 0, "exprs", to="1")),
    (KEDA, "ScaledObject", "umbel", "minReplicas", path("spec", "minReplicas", to=3)),
    (EXAMPLE, "HTTPRoute", "umbel", "timeouts.request", path("spec", "rules", 0, "timeouts", "request", to="never")),
]


def is_called(one, name):
    """Names of generated objects end in a hash."""
    return name in (one["metadata"]["name"], one["metadata"]["name"].rpartition("-")[0])


def run(builds, problems):
    """Breaks what was built, and gives how often nobody noticed."""
    missed = 0
    for name, kind, which, said, change in CASES + (CUSTOM_CASES if custom.SCHEMAS else []):
        broken = copy.copy(builds[name])
        broken.objects = copy.deepcopy(broken.objects)
        change(next(one for one in broken.of(kind) if is_called(one, which)))
        found = [f"{where}: {problem}" for where, problem in problems(broken)]
        if not any(said in problem for problem in found):
            print(f"self-test: {kind} {which} of {name}, broken: nobody says `{said}` but {found}", file=sys.stderr)
            missed += 1
    return missed
