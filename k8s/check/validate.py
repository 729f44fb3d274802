#!/usr/bin/env python3
"""Builds every overlay and component, and checks what comes out: against the schemas of three versions of Kubernetes,
and against what schemas can't say. `make manifests` runs it.

KUBECTL and UMBEL name the programs. With --custom custom resources are checked as well, against schemas in that folder.
"""

import argparse
import collections
import pathlib
import sys

import build
import custom
import names
import operation
import safety
import schemas
import self_test

RULES = names.RULES + operation.RULES + safety.RULES


def problems(one):
    """All that is wrong with a build: where, and what."""
    for item in one.objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        if not schemas.is_custom(item):
            yield from ((where, problem) for problem in schemas.problems(item))
        elif custom.SCHEMAS:
            yield from ((where, problem) for problem in custom.problems(item))
    for rule in RULES:
        yield from ((rule.__name__, problem) for problem in rule(one))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--custom", type=pathlib.Path, help="a folder with the schemas of custom resources")
    options = arguments.parse_args()
    if options.custom:
        custom.load(options.custom)

    builds = build.all_builds()
    failed, counts = 0, collections.Counter()
    for one in builds:
        for where, problem in problems(one):
            print(f"{one.name}: {where}: {problem}", file=sys.stderr)
            failed += 1
        counts.update("custom" if schemas.is_custom(item) else "core" for item in one.objects)
    failed += self_test.run({one.name: one for one in builds}, problems)
    unchecked = "" if custom.SCHEMAS else " against nothing but these rules"
    print(f"{len(builds)} builds, {counts['core']} objects against Kubernetes {', '.join(schemas.VERSIONS)}, "
          f"{counts['custom']} custom resources{unchecked}, {len(RULES)} rules: {failed} problems")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
