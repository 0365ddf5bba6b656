#!/usr/bin/env python3
"""Writes config/grafana/dashboards/*.json, or with --check says which differ from what would be written.

Needs the library of requirements.txt on the path: `scripts/dashboards` fetches it and runs this.
"""
import pathlib
import sys

from boards import ALL
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "dashboards"


def text(board):
    """A dashboard as Grafana reads it, its panels numbered so that links to them stay."""
    built = board.build()
    for number, panel in enumerate(built.panels, 1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def main():
    check = sys.argv[1:] == ["--check"]
    wanted = {FOLDER / f"{name}.json": text(make()) for name, make in ALL.items()}
    there = {path: path.read_text() for path in FOLDER.glob("*.json")}
    stale = sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))
    if check and stale:
        sys.exit(f"not what the source generates: {', '.join(path.name for path in stale)}; run scripts/dashboards")
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
        print(path)


main()
