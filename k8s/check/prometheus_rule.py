#!/usr/bin/env python3
"""Writes the PrometheusRule of components/monitoring from deploy/prometheus, or checks that it is up to date.

kustomize can't put a file into a custom resource, so it is a copy. Comments come along.

    k8s/check/prometheus_rule.py            writes it
    k8s/check/prometheus_rule.py --check    says whether it is what it would write
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = [ROOT / "deploy/prometheus" / name for name in ("umbel.rules.yml", "umbel.alerts.yml")]
TARGET = ROOT / "k8s/components/monitoring/prometheusrule.yaml"

HEAD = """\
# Written by `make manifests-write` from deploy/prometheus: change it there, where it is tested.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: umbel
  labels:
    app.kubernetes.io/name: umbel
spec:
  groups:
"""


def groups(text):
    """The lines below `groups:`."""
    _, found, below = text.partition("\ngroups:\n")
    if not found:
        raise SystemExit("prometheus_rule: a source has no line `groups:`")
    return below.strip("\n").splitlines()


def manifest():
    parts = []
    for source in SOURCES:
        name = source.relative_to(ROOT)
        lines = [f"  {line}".rstrip() for line in groups(source.read_text())]
        parts.append("\n".join([f"    # {name}", *lines]) + "\n")
    return HEAD + "\n".join(parts)


def is_up_to_date():
    return TARGET.exists() and TARGET.read_text() == manifest()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if is_up_to_date() else f"{TARGET.relative_to(ROOT)} isn't up to date: make manifests-write")
    TARGET.write_text(manifest())
