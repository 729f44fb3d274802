"""Rules about names: whatever one object calls another by must be there."""


def matches(selector, labels):
    return selector and all(labels.get(key) == value for key, value in selector.items())


def selected(build, selector):
    """Pod templates that a selector of labels finds."""
    return [pod for _, pod in build.pods() if matches(selector, pod["metadata"]["labels"])]


def ports(pods):
    """Ports of pods by name and number."""
    found = set()
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                found |= {port["name"], port["containerPort"]}
    return found


def what_pods_use_exists(build):
    for workload, pod in build.pods():
        name, spec = workload["metadata"]["name"], pod["spec"]
        account = spec.get("serviceAccountName")
        if account and not build.find("ServiceAccount", account):
            yield f"{name}: there is no ServiceAccount {account}"
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for volume in spec.get("volumes", []):
            source = volume.get("configMap")
            if source and not build.find("ConfigMap", source["name"]):
                yield f"{name}: there is no ConfigMap {source['name']}"
        for container in spec["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            yield from (f"{name}: there is no volume {volume}" for volume in mounted - volumes)
            for variable in container.get("env", []):
                wanted = variable.get("valueFrom", {}).get("secretKeyRef")
                secret = wanted and build.find("Secret", wanted["name"])
                # A build without any Secret has it from a vault.
                if wanted and build.of("Secret") and (not secret or wanted["key"] not in secret["data"]):
                    yield f"{name}: there is no key {wanted['key']} in a Secret {wanted['name']}"
            for probe in (probe for kind, probe in container.items() if kind.endswith("Probe")):
                port = next((probe[way]["port"] for way in ("httpGet", "tcpSocket") if way in probe), None)
                if port and port not in ports([pod]):
                    yield f"{name}: a probe asks port {port}, which the container doesn't have"


def selectors_match(build):
    for workload, pod in build.pods():
        labels, name = pod["metadata"]["labels"], workload["metadata"]["name"]
        if not matches(workload["spec"]["selector"]["matchLabels"], labels):
            yield f"{name}: its selector doesn't match its pods"
        for spread in pod["spec"].get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"]["matchLabels"], labels):
                yield f"{name}: what it spreads isn't its pods"
    for service in build.of("Service"):
        pods, name = selected(build, service["spec"]["selector"]), service["metadata"]["name"]
        if not pods:
            yield f"Service {name} finds no pods"
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports(pods):
                yield f"Service {name}: its pods have no port {port['targetPort']}"
    for budget in build.of("PodDisruptionBudget"):
        if not selected(build, budget["spec"]["selector"]["matchLabels"]):
            yield f"PodDisruptionBudget {budget['metadata']['name']} finds no pods"
    for monitor in build.of("ServiceMonitor"):
        services = [service for service in build.of("Service")
                    if matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])]
        named = {port["name"] for service in services for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in named:
                yield f"ServiceMonitor {monitor['metadata']['name']}: no Service has a port {endpoint['port']}"


def clients_come_in_by_a_service(build):
    """And by none that has the admin listener."""
    backends = [("Ingress", path["backend"]["service"]["name"], path["backend"]["service"]["port"].get("name"))
                for ingress in build.of("Ingress") for rule in ingress["spec"]["rules"]
                for path in rule["http"]["paths"]]
    backends += [("HTTPRoute", backend["name"], backend["port"])
                 for route in build.of("HTTPRoute") for rule in route["spec"]["rules"]
                 for backend in rule["backendRefs"]]
    for kind, name, port in backends:
        service = build.find("Service", name)
        if not service:
            yield f"{kind}: there is no Service {name}"
            continue
        if not any(port in (one["name"], one["port"]) for one in service["spec"]["ports"]):
            yield f"{kind}: Service {name} has no port {port}"
        if any(one["targetPort"] in ("admin", 9464) for one in service["spec"]["ports"]):
            yield f"{kind}: Service {name} has the admin listener"
    for ingress in build.of("Ingress"):
        hosts = {rule.get("host") for rule in ingress["spec"]["rules"]}
        if hosts - {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}:
            yield "Ingress: a host has no certificate"


def policies_let_services_work(build):
    for policy in build.of("NetworkPolicy"):
        pods = selected(build, policy["spec"]["podSelector"]["matchLabels"])
        if not pods:
            yield f"NetworkPolicy {policy['metadata']['name']} finds no pods"
        allowed = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        yield from (f"NetworkPolicy: the pods have no port {port}" for port in allowed - ports(pods))
        for service in build.of("Service"):
            wanted = {port["targetPort"] for port in service["spec"]["ports"]}
            if selected(build, service["spec"]["selector"]) == pods and wanted - allowed:
                yield f"NetworkPolicy: Service {service['metadata']['name']} is shut off"
        out = {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])}
        if not {53, 6379} <= out:
            yield "NetworkPolicy: nodes reach neither names nor Redis"
        for rule in policy["spec"]["egress"]:
            for to in rule.get("to", []):
                if not selected(build, to.get("podSelector", {}).get("matchLabels")):
                    yield "NetworkPolicy: what it allows to reach isn't there"


RULES = (what_pods_use_exists, selectors_match, clients_come_in_by_a_service, policies_let_services_work)
