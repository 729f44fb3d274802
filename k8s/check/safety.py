"""Rules about what pods may do, what they are made of, and what is no secret."""

import base64
import json
import re


def pods_may_do_little(build):
    for workload, pod in build.pods():
        name, spec = workload["metadata"]["name"], pod["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name}: it isn't said by number who it runs as"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: it gets a token of the API server"
        if spec.get("enableServiceLinks") is not False:
            yield f"{name}: Services' addresses are among its variables"
        for container in spec["containers"]:
            own = container.get("securityContext", {})
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: it keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False:
                yield f"{name}: it may write to its image, or become more"


def pods_say_what_they_need(build):
    for workload, pod in build.pods():
        for container in pod["spec"]["containers"]:
            name = workload["metadata"]["name"]
            requests = container.get("resources", {}).get("requests", {})
            limits = container.get("resources", {}).get("limits", {})
            if not requests.get("memory") or requests["memory"] != limits.get("memory"):
                yield f"{name}: its memory isn't limited to what it requests"
            if not requests.get("cpu") or "cpu" in limits:
                yield f"{name}: it is to request CPU and have no limit of it"


def images_stay_what_they_are(build):
    for workload, pod in build.pods():
        for container in pod["spec"]["containers"]:
            _, _, tag = container["image"].rpartition("/")[2].partition(":")
            if not tag or tag == "latest":
                yield f"{workload['metadata']['name']}: image {container['image']} may be another tomorrow"


def secrets_are_none(build):
    for secret in build.of("Secret"):
        for key, value in secret.get("data", {}).items():
            text = base64.b64decode(value).decode()
            password = re.search(r"//[^@/]*:([^@/]*)@", text)
            shown = password.group(1) if password else None if "://" in text else text
            if shown not in (None, "change-me", "not-a-secret-for-trying-things"):
                yield f"Secret {secret['metadata']['name']}: {key} looks like a real one"


def objects_fit(build):
    for one in build.objects:
        # What `kubectl apply` puts into an annotation, all of which may have 256 KiB together.
        size = len(json.dumps(one, separators=(",", ":")))
        if size > 250_000:
            yield f"{one['kind']} {one['metadata']['name']} has {size} bytes: kubectl apply can't make a note of it"


def objects_have_a_namespace(build):
    namespaces = {one["metadata"].get("namespace") for one in build.objects if one["kind"] != "Namespace"}
    made = {one["metadata"]["name"] for one in build.of("Namespace")}
    if len(namespaces | made) != 1 or None in namespaces:
        yield f"objects are in the namespaces {namespaces}, and {made or 'none'} is made"


RULES = (pods_may_do_little, pods_say_what_they_need, images_stay_what_they_are, secrets_are_none, objects_fit,
         objects_have_a_namespace)
