"""Measures the router beside its peers, see scripts/bench, which runs this in a network namespace of its own."""

import argparse
import sys
import time
from pathlib import Path

import gallery
import latency
import model
import report
import rounds
import summary
from cases import TABLES, is_asked_for
from machine import Machine
from traffic import Files

DOCUMENT, SCALE, README = Path("docs/PERFORMANCE.md"), Path("docs/scale.md"), Path("README.md")
DATA, PICTURES = Path("docs/bench/bench.json"), Path("docs/bench")
LATENCY = "latency"
# What three minutes hold: no table is left out, but its longest columns.
QUICK = {"rounds": 1, "seconds": 0.5, "flows": [10_000, 1_000_000], "rules": [10, 10_000], "busy_flows": 100_000}


class Bench:
    """What every subject is started with."""

    def __init__(self, options):
        self.options = options
        self.folder, self.namespace = Path(options.folder), options.namespace
        self.sluiced, self.sluice, self.program = (f"{options.programs}/{name}" for name in ("sluiced", "sluice", "examples/traffic"))
        self.machine = Machine()
        self.files = Files(self.program, self.folder)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Cycles per packet, beside testpmd, OVS-DPDK and nftables.")
    for hidden in ("--programs", "--folder", "--namespace"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    numbers = lambda text: [int(n) for n in text.split(",")]
    words = lambda text: text.split(",")
    every = [*TABLES, LATENCY]
    parser.add_argument("--quick", action="store_true", help="three minutes: one short round, fewer columns; writes nothing")
    parser.add_argument("--only", type=words, default=every, metavar="TABLE,…", help=", ".join(every))
    parser.add_argument("--subjects", type=words, metavar="NAME,…", help="testpmd, sluice, ovs, nft, kernel, xdp")
    parser.add_argument("--modes", type=words, metavar="NAME,…", help="io, notrack, tracked, nat, routed")
    parser.add_argument("--flows", type=numbers, metavar="N,…", help="1, 10000, 100000, 1000000, 10000000")
    parser.add_argument("--rules", type=numbers, metavar="N,…", help="10, 1000, 10000, 100000")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--minutes", type=float, default=15, help="no round begins that would not end within them")
    parser.add_argument("--busy-flows", type=int, metavar="N", help="while rules are applied and flows listed")
    parser.add_argument("--no-write", action="store_true", help="show the tables, leave docs/ alone")
    options = parser.parse_args()
    if unknown := set(options.only) - set(every):
        parser.error(f"no table is named {', '.join(unknown)}: there are {', '.join(every)}")
    for key, value in (QUICK if options.quick else {"rounds": 3, "seconds": 1.0, "busy_flows": 1_000_000}).items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    # What has but a part of the cases must not take the place of all.
    options.no_write |= options.quick or options.only != every or any((options.subjects, options.modes, options.flows, options.rules))
    return options


def chosen(options):
    """The tables, less what was not asked for."""
    tables = [make(options) for name, make in TABLES.items() if name in options.only]
    wanted = lambda case: case and is_asked_for(options, case.subject, case.mode)
    for table in tables:
        rows = {title: [case if wanted(case) else None for case in row] for title, row in table.rows.items()}
        table.rows = {title: row for title, row in rows.items() if any(row)}
    return [table for table in tables if table.rows]


def main():
    options = arguments()
    bench, began = Bench(options), time.monotonic()
    say = lambda line: print(f"{time.monotonic() - began:4.0f} s  {line}", flush=True)
    tables = chosen(options)
    cases = list(dict.fromkeys(case for table in tables for case in table.cases()))
    megabytes = max((case.huge_pages(bench) for case in cases), default=0)
    if not bench.machine.reserve(max(megabytes, latency.HUGE_PAGES) + 64):
        print("bench: not enough huge pages are to be had: all do without", file=sys.stderr)
    results, options.rounds = rounds.measure(bench, cases, options, say)
    hertz = bench.machine.cycles_per_second()
    for result in results.values():
        for window in result.windows:
            hertz = window.more.get("cycles_per_second", hertz)
    loads, busy = {}, {}
    if LATENCY in options.only:
        loads = latency.by_load(bench, options.seconds, say)
        if is_asked_for(options, "sluice", "tracked"):
            busy = latency.while_busy(bench, options.busy_flows, options.seconds, say)
    made = report.Report(tables, results, loads, busy, hertz, bench.machine.describe(), options)
    print("\n" + made.markdown())
    say("all done")
    if not options.no_write:
        PICTURES.mkdir(exist_ok=True)
        report.write(DOCUMENT, made.markdown())
        report.write(README, summary.markdown(made))
        if scale := model.markdown(made):
            report.write(SCALE, scale)
        report.save(DATA, made.json())
        gallery.draw(made, PICTURES)


if __name__ == "__main__":
    main()
