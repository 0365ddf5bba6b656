#!/usr/bin/env python3
"""Which crate may use which, where unsafe may stand, and how long a file may get.

The arrows are written down once, here; `cargo metadata` tells what is true. Prints each violation, exit code 1 if any.
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# crate: the project's crates that it may use. What is not listed may use none.
ALLOWED = {
    "sluice-dpdk-sys": [],
    "sluice-rte": ["sluice-dpdk-sys"],
    "sluice-wire": [],
    "sluice-engine": ["sluice-wire"],
    "sluice-worker": ["sluice-engine", "sluice-rte", "sluice-wire"],
    "sluice-config": ["sluice-wire"],
    "sluice-compiler": ["sluice-api", "sluice-config", "sluice-engine", "sluice-wire"],
    "sluice-import": ["sluice-compiler", "sluice-config", "sluice-wire"],
    "sluice-api": [],
    "sluice-certificates": [],
    "sluice-control": ["sluice-api", "sluice-certificates", "sluice-compiler", "sluice-config", "sluice-engine", "sluice-wire"],
    "sluiced": ["sluice-config", "sluice-control", "sluice-engine", "sluice-worker", "sluice-wire"],
    "sluice": ["sluice-api", "sluice-certificates", "sluice-compiler", "sluice-config", "sluice-engine", "sluice-import", "sluice-wire"],
    # Tests may look at everything that needs no DPDK.
    "sluice-tests": ["sluice-api", "sluice-compiler", "sluice-config", "sluice-engine", "sluice-import", "sluice-wire"],
}
# Crates that the engine and the wire layer must never pull in, however deep: they are tested without them.
PURE = ["sluice-wire", "sluice-engine", "sluice-config", "sluice-compiler", "sluice-import", "sluice"]
UNSAFE_HOME = ("dataplane/dpdk-sys/", "dataplane/rte/", "dataplane/engine/src/arch.rs")
MAX_LINES = 800


def arrows():
    meta = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path", str(ROOT / "Cargo.toml")],
        check=True, capture_output=True, text=True).stdout)
    ids = set(meta["workspace_members"])
    ours = {p["name"]: p for p in meta["packages"] if p["id"] in ids}
    for name, package in ours.items():
        if name not in ALLOWED:
            yield f"{name}: not in the table of arrows in {pathlib.Path(__file__).name}"
            continue
        for dep in package["dependencies"]:
            if dep["name"] in ours and dep["kind"] != "dev" and dep["name"] not in ALLOWED[name]:
                yield f"{name} may not use {dep['name']}"
    deps = {n["id"]: [d["pkg"] for d in n["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
            for n in meta["resolve"]["nodes"]}
    by_id = {p["id"]: p["name"] for p in meta["packages"]}
    for name in PURE:
        if name not in ours:
            continue
        seen, stack = set(), [ours[name]["id"]]
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack += deps[i]
        if "sluice-dpdk-sys" in {by_id[i] for i in seen}:
            yield f"{name} links DPDK"


def sources():
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split()
    for f in files:
        path = ROOT / f
        if not path.exists():
            continue
        text = path.read_text()
        if not f.startswith(UNSAFE_HOME):
            for n, line in enumerate(text.splitlines(), 1):
                code = line.split("//")[0]
                if re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", code):
                    yield f"{f}:{n}: unsafe outside {', '.join(UNSAFE_HOME)}"
        lines = text.split("#[cfg(test)]\nmod ")[0].count("\n")
        if lines > MAX_LINES and "/tests" not in f:
            yield f"{f}: {lines} lines without tests, {MAX_LINES} at the most"
        if not text.lstrip().startswith(("//!", "#!")):
            yield f"{f}: does not open with //!"


problems = list(arrows()) + list(sources())
print("\n".join(problems))
sys.exit(1 if problems else 0)
