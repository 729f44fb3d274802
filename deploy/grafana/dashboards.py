#!/usr/bin/env python3
"""Writes umbel-fleet.json and umbel-node.json; with --check it says whether they are as it would write them."""

import json
import pathlib
import sys

sys.dont_write_bytecode = True

from fleet import fleet  # noqa: E402
from node import node  # noqa: E402

HERE = pathlib.Path(__file__).parent


def main():
    stale = []
    for made in (fleet(), node()):
        path = HERE / f"{made['uid']}.json"
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what dashboards.py writes; run make dashboards")


if __name__ == "__main__":
    main()
