#!/usr/bin/env python3
"""Checks the dashboards against Grafana's own types (PyPI: grafana-foundation-sdk, written by Grafana from its schemas).

Each file is read into these types and written again: a key that is lost is one that Grafana doesn't know at this
place, as a misspelt option or one of an older panel would be. Values of enumerations are checked too. What this
can't see: keys and values within free-form parts (overrides, transformations, mappings), whether an expression is
good PromQL (crates/umbel-e2e/tests/observe.rs asks Prometheus), and how it looks.
"""

import enum
import json
import pathlib
import sys
import types
import typing

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = pathlib.Path(__file__).parent

# What the types leave to data sources: how Prometheus makes annotations, and a variable's query as text.
OF_PROMETHEUS = {"expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime", "definition"}


def lost(before, after, path=""):
    """Where `after` lacks or changes something of `before`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            elif value not in (None, [], {}) and key not in OF_PROMETHEUS:
                yield f"{path}.{key} is lost"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, pair in enumerate(zip(before, after)):
            yield from lost(*pair, f"{path}[{at}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def enumerations(hint):
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield hint
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from enumerations(part)


def not_among(value, path=""):
    """Where a value isn't of the enumeration that its field has."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from not_among(part, f"{path}.{key}")
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from not_among(part, f"{path}[{at}]")
    elif hasattr(value, "from_json"):
        hints = typing.get_type_hints(type(value).__init__)
        for name, part in vars(value).items():
            allowed = [e for found in enumerations(hints.get(name)) for e in found]
            if allowed and part is not None and part not in [*allowed, *(e.value for e in allowed)]:
                yield f"{path}.{name}: {part!r} is none of {[e.value for e in allowed]}"
            yield from not_among(part, f"{path}.{name}")


def main():
    plugins.register_default_plugins()
    wrong = []
    for path in sorted(HERE.glob("umbel-*.json")):
        before = json.loads(path.read_text())
        read = Dashboard.from_json(before)
        after = json.loads(JSONEncoder().encode(read))
        wrong += [f"{path.name}{where}" for where in [*lost(before, after), *not_among(read)]]
        print(f"{path.name}: {len(before['panels'])} panels and rows")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
