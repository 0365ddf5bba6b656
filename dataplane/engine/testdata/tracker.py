#!/usr/bin/env python3
"""Scenarios recorded from the kernel -> the text that dataplane/engine/src/conntrack/replay.rs reads.

usage: tracker.py SCENARIO-DIRECTORY... > tracker.txt
"""
import json, os, sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("ORACLE", os.path.join(HERE, "../../../tests/conformance")))
from oracle import pkt as P
from oracle.runner import vary

PATTERN = P.payload_bytes({"len": 2000})    # written as +LENGTH
SKIP = ('"snat"', '"dnat"', "masquerade", "redirect", '"helper"', "ct_mark_set", '"slice"', '"frag"', '"frame"', '"reload"')


def entry(e):
    def t(x):
        if "sport" in x or "dport" in x:
            l4 = "%d %d 0" % (x.get("sport", 0), x.get("dport", 0))
        elif "srckey" in x:
            l4 = "%s %s 0" % (x["srckey"], x["dstkey"])
        elif "type" in x:
            l4 = "%d %d *" % (x["type"], x["code"])
        else:
            l4 = "* * *"
        return "%s %s %s" % (x["src"], x["dst"], l4)
    o, r = e["orig"], e["reply"]
    inverse = "sport" in o and r == {"src": o["dst"], "dst": o["src"], "sport": o["dport"], "dport": o["sport"]}
    return "  entry %s %s %d %s%s %s %s" % (
        e["proto"], e.get("state") or "-", e["timeout"], "A" if e.get("assured") else "-",
        "U" if e.get("unreplied") else "-", t(o), "inverse" if inverse else t(r))


def packet(raw, hook, state):
    n = next(n for n in range(len(raw), -1, -1) if raw.endswith(PATTERN[:n]))
    text = raw.hex() if n < 16 else "%s+%d" % (raw[:-n].hex(), n)
    print("  %s %s %s" % (hook, state, text))


def convert(sc):
    text = json.dumps(sc["ruleset"]) + json.dumps(sc["steps"])
    if any(s in text for s in SKIP) or not sc.get("deterministic", True) or sc.get("no_ct"):
        return 0
    print("scenario %s" % sc["id"])
    for k, v in sc.get("params", {}).items():
        print("  param %s %s" % (k, int(v)))
    for st, ob in zip(sc["steps"], sc["expect"]):
        if st.get("wait"):
            print("  wait %d" % st["wait"])
        for k, v in st.get("params", {}).items():
            print("  param %s %s" % (k, int(v)))
        states = ob.get("ctstate", {})
        if "send" in st:
            raw = P.build(st["send"])
            state = next(iter(states), "-")
            if state == "-" and "conntrack_max" not in sc.get("params", {}):
                raw = None    # IP dropped it, and the tracker never saw it
            if raw and not (state == "untracked" and "notrack" in text and "icmp6" not in st["send"]):
                packet(raw, "in", state)
            for o in ob.get("out", []):
                if o["kind"] == "answered" and "hex" in o:
                    rst = "R" in o["pkt"].get("tcp", {}).get("flags", "")
                    packet(bytes.fromhex(o["hex"]), "reset" if rst else "out", "-")
        elif "burst" in st:
            b = st["burst"]
            for i in range(b["count"]):
                packet(P.build(vary(b["pkt"], b.get("vary", {}), i)), "in", next(iter(states), "-") if len(states) == 1 else "-")
        elif st.get("op") == "flush_conntrack":
            print("  flush")
        elif "op" in st:
            print("  unknown %s" % st["op"])
        for e in ob.get("ct", []):
            print(entry(e))
        print("  end" if "ct" in ob else "  count %d" % ob.get("ct_count", 0))
    return 1


n = 0
for top in sys.argv[1:]:
    for d, _, fs in sorted(os.walk(top)):
        for f in sorted(fs):
            if f.endswith(".json"):
                n += convert(json.load(open(os.path.join(d, f))))
print("%d scenarios" % n, file=sys.stderr)
