"""The table of README.md: what a core does, beside its peers, each line with the command that measures it again."""

from cases import Case
from policies import TRANSLATED
from traffic import Traffic

MANY = Traffic(flows=1_000_000)
NEW = Traffic(live=True, new=True)

# What, of Sluice; beside it; and the command.
UDP, UDP6, NAT = Traffic(), Traffic("udp6"), Traffic(translated=TRANSLATED)
OVS, ROUTED, OVS_NEW = Case("ovs", "tracked", UDP), Case("ovs", "routed", UDP), Case("ovs", "tracked", NEW)
LINES = [
    ("established, 10k flows", Case("sluice", "tracked", UDP), {"OVS-DPDK": OVS}, "--only flows --flows 10000"),
    ("established, 1M flows", Case("sluice", "tracked", MANY), {}, "--only flows --flows 1000000"),
    ("NOTRACK, 10k flows", Case("sluice", "notrack", UDP), {"OVS-DPDK, no tracking": ROUTED}, "--only flows --flows 10000"),
    ("NOTRACK, 10,000 rules", Case("sluice", "notrack", UDP, 10_000), {}, "--only rules --rules 10000"),
    ("established, 100,000 rules", Case("sluice", "tracked", UDP, 100_000), {}, "--only rules --rules 100000"),
    ("source NAT, established", Case("sluice", "nat", NAT), {}, "--only kinds"),
    ("IPv6, established", Case("sluice", "tracked", UDP6), {}, "--only kinds"),
    ("new connections", Case("sluice", "tracked", NEW), {"OVS-DPDK": OVS_NEW}, "--only new"),
]


def markdown(report):
    """The table, of what was measured."""
    lines = ["| one core, packets of 64 bytes | cycles a packet | million a second | beside it | `scripts/bench` |", "|---|---|---|---|---|"]
    for what, case, peers, command in LINES:
        cycles = report.cycles(case)
        if cycles is None:
            continue
        beside = [f"{name}: {rate(report, peer)} ({report.cycles(peer) / cycles:.1f} ×)" for name, peer in peers.items() if report.cycles(peer)]
        lines.append(f"| {what} | {cycles:.0f} | {rate(report, case)} | {', '.join(beside)} | `{command}` |")
    about = report.machine
    return "\n".join(lines) + f"\n\n{about['cpu']}, {about['tsc_mhz']} MHz, {about['date']}, {about['commit']}; input and output are in it."


def rate(report, case):
    """Million packets that a core forwards in a second of its own time."""
    return f"{report.hertz / report.cycles(case) / 1e6:.2f}"
