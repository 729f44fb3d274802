"""Rules about how nodes live: with which settings they start, how they are asked and leave, how many there are."""

import re

import yaml

import prometheus_rule
import settings
import sizing

ROOT = prometheus_rule.ROOT


def container(build):
    return build.node()["spec"]["template"]["spec"]["containers"][0]


def quantity(value):
    """A whole number that Kubernetes may write with a suffix."""
    number, suffix = re.fullmatch(r"(\d+)(k|Ki|Mi|Gi|)", str(value)).groups()
    return int(number) * {"": 1, "k": 1000, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}[suffix]


def nodes_start_and_leave_in_time(build):
    if not build.node():
        return
    try:
        effective = settings.effective(build)
    except settings.Refused as refused:
        yield f"a node wouldn't start: {refused}"
        return
    pod = build.node()["spec"]["template"]["spec"]
    drain, grace = effective["drain"], pod["terminationGracePeriodSeconds"]
    if grace < drain["deadline_seconds"] + 5:
        yield f"SIGKILL comes after {grace} s, too soon after drain.deadline_seconds, {drain['deadline_seconds']}"
    # That it is 10 more than pause and drain the node asks for itself.
    if "preStop" in container(build).get("lifecycle", {}):
        yield "a preStop hook: the node makes its pause itself"
    requested = settings.cores(container(build)["resources"]["requests"]["cpu"])
    if effective["node"]["workers"] != requested:
        yield f"node.workers is {effective['node']['workers']}, and {requested} cores are requested"
    if effective["node"]["memory_mib"]:
        yield "node.memory_mib is set: it is to follow the limit of memory"
    memory = quantity(container(build)["resources"]["limits"]["memory"])
    idle = sizing.PROGRAM_BYTES + effective["limits"]["sessions"] * sizing.SESSION_BYTES
    if not 0 < idle < 0.75 * memory:
        yield f"limits.sessions would take {idle} bytes of {memory} when idle"
    for port in container(build)["ports"]:
        listens = effective["listen"][port["name"]]
        if listens != f"0.0.0.0:{port['containerPort']}":
            yield f"port {port['name']} is {port['containerPort']}, the node listens at {listens}"
    for target in session_targets(build):
        if target > effective["limits"]["sessions"] * 0.8:
            yield f"{target} sessions per node are aimed at, and limits.sessions is {effective['limits']['sessions']}"


def probes_ask_different_things(build):
    if not build.node():
        return
    paths = {kind: container(build).get(kind, {}).get("httpGet", {}).get("path")
             for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    if list(paths.values()) != ["/readyz?broker", "/readyz", "/livez"]:
        yield f"probes ask {paths}"


def session_targets(build):
    """Sessions per node that autoscalers aim at."""
    for scaler in build.of("HorizontalPodAutoscaler"):
        yield from (quantity(metric["pods"]["target"]["averageValue"])
                    for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods")
    for scaler in build.of("ScaledObject"):
        yield from (int(trigger["metadata"]["threshold"])
                    for trigger in scaler["spec"]["triggers"] if trigger["type"] == "prometheus")


def one_owner_of_the_number_of_nodes(build):
    scalers = build.of("HorizontalPodAutoscaler", "ScaledObject")
    if len(scalers) > 1:
        yield "two autoscalers"
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        deployment = build.find(target["kind"], target["name"])
        if not deployment:
            yield f"there is no {target['kind']} {target['name']} to scale"
        elif "replicas" in deployment["spec"]:
            yield f"{target['name']} is scaled, and each apply would set it back to {deployment['spec']['replicas']}"
        spec = scaler["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", scaler["spec"])
        down = spec.get("behavior", {}).get("scaleDown", {})
        pace = {(policy["type"], policy["value"]) for policy in down.get("policies", [])}
        if down.get("stabilizationWindowSeconds", 0) < 1800 or pace != {("Pods", 1)}:
            yield "nodes are taken away in haste"
    if not scalers and build.node() and build.node()["spec"].get("replicas", 1) < 2:
        yield "one node alone"


def what_is_measured_exists(build):
    """Metrics that autoscalers ask for, down to those that a node exports."""
    exported = set(re.findall(r"^\| `(\w+)`", (ROOT / "deploy/metrics.md").read_text(), re.M))
    recorded = set(re.findall(r"record: (\S+)", prometheus_rule.manifest()))
    adapter = yaml.safe_load((ROOT / "k8s/prometheus-adapter/config.yaml").read_text())
    made = {rule["name"]["as"]: rule["seriesQuery"].split("{")[0] for rule in adapter["rules"]}
    for scaler in build.of("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            name = metric.get("pods", {}).get("metric", {}).get("name")
            if name and made.get(name) not in exported:
                yield f"prometheus-adapter makes no {name} of what nodes export"
    for scaler in build.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            query = trigger["metadata"].get("query")
            name, cluster = re.fullmatch(r'sum\(([\w:]+)\{cluster="([^"]*)"\}\)', query).groups() if query else (None, None)
            if query and name not in recorded:
                yield f"{name} isn't recorded"
            if query and cluster != scaler["metadata"]["namespace"]:
                yield f"KEDA asks for the sessions of {cluster}, and the nodes are in {scaler['metadata']['namespace']}"


def alerts_are_the_tested_ones(build):
    for rule in build.of("PrometheusRule"):
        sources = [yaml.safe_load(source.read_text())["groups"] for source in prometheus_rule.SOURCES]
        if rule["spec"]["groups"] != sum(sources, []) or not prometheus_rule.is_up_to_date():
            yield "PrometheusRule isn't what deploy/prometheus has: make manifests-write"
    for monitor in build.of("ServiceMonitor"):
        labels = {relabeling["targetLabel"] for endpoint in monitor["spec"]["endpoints"]
                  for relabeling in endpoint["relabelings"]}
        services = [service for service in build.of("Service")
                    if service["metadata"]["labels"].get(monitor["spec"]["jobLabel"]) == "umbel"]
        if labels != {"instance", "cluster"} or not services:
            yield "rules and dashboards ask for job=\"umbel\", instance and cluster"


RULES = (nodes_start_and_leave_in_time, probes_ask_different_things, one_owner_of_the_number_of_nodes,
         what_is_measured_exists, alerts_are_the_tested_ones)
