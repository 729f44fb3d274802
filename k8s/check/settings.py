"""What a node of a build would start with, as `umbel check-config` says: the file of the ConfigMap and the variables of the
Deployment over it.
"""

import base64
import math
import os
import pathlib
import subprocess
import tempfile
import tomllib

UMBEL = os.environ.get("UMBEL", str(pathlib.Path(__file__).parents[2] / "target/debug/umbel"))


# What an example has for a token: too short for a node to take, so that nobody runs with it. Here it stands for one.
PLACEHOLDER = "change-me"


class Refused(Exception):
    """What the node said."""


# What a build without any Secret, which has it from a vault, is tried with.
STAND_INS = {"broker-url": "redis://redis:6379", "admin-token": 32 * "0"}


def secret_value(build, name, key):
    if not build.of("Secret") and key in STAND_INS:
        return STAND_INS[key]
    secret = build.find("Secret", name)
    if secret is None or key not in secret.get("data", {}):
        raise Refused(f"there is no key {key} in a Secret {name}")
    value = base64.b64decode(secret["data"][key]).decode()
    return 32 * "0" if value == PLACEHOLDER else value


def cores(quantity):
    """A quantity of CPU as the downward API gives it: whole cores, rounded up."""
    text = str(quantity)
    return math.ceil(float(text[:-1]) / 1000 if text.endswith("m") else float(text))


def environment(build, pod):
    """The variables of the node's container, as the kubelet would give them."""
    container = pod["spec"]["containers"][0]
    values = {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = secret_value(build, source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        elif source.get("resourceFieldRef", {}).get("resource") == "requests.cpu":
            value = str(cores(container["resources"]["requests"]["cpu"]))
        elif source.get("fieldRef", {}).get("fieldPath") == "metadata.name":
            value = "umbel-0"
        else:
            value = variable["value"]
        values[variable["name"]] = value
    return values


def effective(build):
    """The settings that a node of this build has; raises Refused with what it says if it wouldn't start."""
    pod = build.node()["spec"]["template"]
    variables = environment(build, pod)
    (name,) = (volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume)
    settings = build.find("ConfigMap", name)
    if settings is None:
        raise Refused(f"there is no ConfigMap {name}")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(settings["data"]["umbel.toml"])
        file.flush()
        done = subprocess.run([UMBEL, "check-config", "--config", file.name], capture_output=True, text=True,
                              env=variables, timeout=30)
        if done.returncode:
            raise Refused(done.stderr.replace(file.name, "umbel.toml").strip())
    return tomllib.loads(done.stdout)
