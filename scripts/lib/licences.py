#!/usr/bin/env python3
"""Every dependency's licence must be one that a firewall shipped as a binary can live with. Works offline.

An expression is accepted if it can be met by licences of the list alone (AND: all, OR: any).
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCEPTED = {"MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "BSL-1.0", "0BSD", "CC0-1.0",
            "Unlicense", "Apache-2.0 WITH LLVM-exception"}


def accepted(expression):
    e = expression.replace("/", " OR ").replace(" WITH LLVM-exception", "_WITH")
    tokens = re.findall(r"\(|\)|[A-Za-z0-9.+_-]+", e)
    out = []
    for t in tokens:
        if t in "()":
            out.append(t)
        elif t in ("AND", "OR"):
            out.append(t.lower())
        else:
            out.append(str(t.replace("_WITH", " WITH LLVM-exception") in ACCEPTED))
    return bool(tokens) and eval(" ".join(out), {"__builtins__": {}})  # only True, False, and, or, ()


meta = json.loads(subprocess.run(
    ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path", str(ROOT / "Cargo.toml")],
    check=True, capture_output=True, text=True).stdout)
bad = [f"{p['name']} {p['version']}: {p['license'] or 'no licence named'}"
       for p in meta["packages"] if not accepted(p["license"] or "")]
print("\n".join(bad))
sys.exit(1 if bad else 0)
