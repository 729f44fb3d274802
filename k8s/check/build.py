"""What is built and checked: each overlay, each component alone on the base, and what stands by itself.

All is built in a copy, where the production overlay's secrets are those of its example.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).parents[2]

# libyaml's, where it was compiled in: an order faster.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ALONE = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: umbel
resources: [../../k8s/base]
components: [../../k8s/components/{component}]
images: [{{name: umbel, newTag: "0"}}]
secretGenerator: [{{name: umbel, literals: ["broker-url=redis://redis:6379", admin-token=change-me]}}]
"""


class Build:
    """The objects of one kustomization."""

    def __init__(self, name, objects):
        self.name = name
        self.objects = objects

    def of(self, *kinds):
        return [one for one in self.objects if one["kind"] in kinds]

    def find(self, kind, name):
        return next((one for one in self.of(kind) if one["metadata"]["name"] == name), None)

    def pods(self):
        """Each workload with its pod template."""
        return [(one, one["spec"]["template"]) for one in self.of("Deployment", "StatefulSet", "DaemonSet")]

    def node(self):
        """The nodes' Deployment, if it has one."""
        return self.find("Deployment", "umbel")


@contextlib.contextmanager
def copy():
    """The manifests in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        for part in ("k8s", "deploy/grafana"):
            shutil.copytree(ROOT / part, here / part, ignore=shutil.ignore_patterns("secrets.env", "__pycache__"))
        for example in here.glob("k8s/overlays/*/secrets.env.example"):
            shutil.copy(example, example.with_suffix(""))
        yield here


def kustomizations(here):
    """Names and folders of all that is built."""
    for overlay in sorted((here / "k8s/overlays").iterdir()):
        yield f"overlays/{overlay.name}", overlay
    yield "prometheus-adapter", here / "k8s/prometheus-adapter"
    for component in sorted((here / "k8s/components").iterdir()):
        folder = here / "alone" / component.name
        folder.mkdir(parents=True)
        (folder / "kustomization.yaml").write_text(ALONE.format(component=component.name))
        yield f"base with {component.name}", folder


def build(name, folder):
    command = [os.environ.get("KUBECTL", "kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # A warning is of something that a coming version won't take.
    if done.returncode or done.stderr:
        raise SystemExit(f"{name} can't be built:\n{done.stderr}")
    return Build(name, [one for one in yaml.load_all(done.stdout, LOADER) if one])


def all_builds():
    with copy() as here:
        return [build(name, folder) for name, folder in kustomizations(here)]
