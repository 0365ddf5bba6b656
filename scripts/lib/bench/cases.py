"""What is measured: cases, and the tables that they stand in."""

from dataclasses import dataclass, field

import policies
from kernel import ForwarderOnLinks, Nftables, SluiceOnLinks
from openvswitch import MEMORY as OVS_MEMORY
from openvswitch import OpenVSwitch
from sluiced import Sluiced
from testpmd import Testpmd, memory
from traffic import Traffic

FLOWS = (1, 10_000, 100_000, 1_000_000, 10_000_000)
# From here on no file holds them: they are sent live, so both sides of the comparison are.
LIVE = 4_000_000
RULES = (10, 1_000, 10_000, 100_000)


def is_asked_for(options, subject, mode):
    """Whether `--subjects` and `--modes` leave it in."""
    return (not options.subjects or subject in options.subjects) and (not options.modes or mode in options.modes)


@dataclass(frozen=True)
class Case:
    """One subject on one kind of traffic."""

    # testpmd, sluice, ovs, nft, kernel or xdp.
    subject: str
    mode: str
    traffic: Traffic
    rules: int = 0
    workers: int = 1

    def subject_on(self, bench):
        """The subject, not started."""
        if self.subject == "testpmd":
            return Testpmd(bench, self.traffic, workers=self.workers)
        if self.subject == "sluice":
            return Sluiced(bench, self.traffic, self.mode, self.rules, workers=self.workers)
        if self.subject == "ovs":
            return OpenVSwitch(bench, self.traffic, self.mode)
        if self.subject == "nft":
            return Nftables(bench, self.traffic, self.mode, self.rules)
        if self.mode == "io":
            return ForwarderOnLinks(bench, self.traffic, self.subject)
        return SluiceOnLinks(bench, self.traffic, self.mode, self.subject)

    def huge_pages(self, bench):
        """MiB of huge pages that it wants."""
        if self.subject in ("nft", "kernel", "xdp"):
            return 0
        if self.subject == "ovs":
            return OVS_MEMORY
        return memory(bench.files.buffers(self.traffic, self.workers), True)


@dataclass
class Table:
    """Rows of cases by column; None where there is nothing to compare."""

    name: str
    title: str
    columns: list
    rows: dict = field(default_factory=dict)
    # Rows that tell what is above the first one's cost, the same column's.
    base: str | None = None
    # What a cell shows: cycles a packet, or packets a second.
    unit: str = "cycles"

    def cases(self):
        return [case for row in self.rows.values() for case in row if case]


IO = "I/O alone (testpmd)"
NOTRACK, ESTABLISHED = "Sluice, NOTRACK", "Sluice, established"
OVS_ROUTED, OVS_ESTABLISHED = "OVS-DPDK, no tracking", "OVS-DPDK, established"


def count(number):
    """10k, 1M."""
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1000}k" if number >= 1000 else str(number)


def by_flows(options):
    flows = options.flows or FLOWS
    traffic = [Traffic(flows=n, live=n >= LIVE) for n in flows]
    ovs = [load if 1 < load.flows <= 100_000 else None for load in traffic]
    # What I/O costs differs between files and a live source; so does what comes with it.
    table = Table("flows", "Flows", [f"{count(n)} flow{'s' if n > 1 else ''}" for n in flows], base=IO)
    table.rows[IO] = [Case("testpmd", "io", load) for load in traffic]
    table.rows[NOTRACK] = [Case("sluice", "notrack", load) for load in traffic]
    table.rows[ESTABLISHED] = [Case("sluice", "tracked", load) for load in traffic]
    table.rows[OVS_ROUTED] = [load and Case("ovs", "routed", load) for load in ovs]
    table.rows[OVS_ESTABLISHED] = [load and Case("ovs", "tracked", load) for load in ovs]
    return table


def by_kind(options):
    udp, nat = Traffic(), Traffic(translated=policies.TRANSLATED)
    kinds = {"UDP": udp, "TCP": Traffic("tcp"), "IMIX": Traffic("imix"), "IPv6": Traffic("udp6"), "UDP, source NAT": nat}
    table = Table("kinds", "Kinds of traffic, 10k flows", list(kinds), base=IO)
    table.rows[IO] = [Case("testpmd", "io", udp if load is nat else load) for load in kinds.values()]
    table.rows[NOTRACK] = [None if load is nat else Case("sluice", "notrack", load) for load in kinds.values()]
    table.rows[ESTABLISHED] = [Case("sluice", "nat" if load is nat else "tracked", load) for load in kinds.values()]
    table.rows[OVS_ESTABLISHED] = [Case("ovs", "tracked", load) if load in (udp, kinds["TCP"]) else None for load in kinds.values()]
    return table


def by_rules(options):
    few, new = Traffic(), Traffic(live=True, new=True)
    rules = options.rules or RULES
    table = Table("rules", "Rules that no packet is on, 10k flows", [f"{count(n)} rules" for n in rules])
    table.rows[NOTRACK] = [Case("sluice", "notrack", few, n) for n in rules]
    table.rows[ESTABLISHED] = [Case("sluice", "tracked", few, n) for n in rules]
    table.rows["Sluice, new connections"] = [Case("sluice", "tracked", new, n) for n in rules]
    table.rows["Linux nft, NOTRACK"] = [Case("nft", "notrack", Traffic(flows=1000, live=True), n) if n <= 1000 else None for n in rules]
    return table


def new_connections(options):
    udp, tcp = Traffic(live=True, new=True), Traffic("tcp", live=True, new=True)
    table = Table("new", "New connections, all of which run out", ["UDP", "TCP"], base="I/O alone (testpmd, memif)", unit="both")
    table.rows["I/O alone (testpmd, memif)"] = [Case("testpmd", "io", load) for load in (udp, tcp)]
    table.rows["Sluice"] = [Case("sluice", "tracked", load) for load in (udp, tcp)]
    table.rows["OVS-DPDK"] = [Case("ovs", "tracked", udp), None]
    return table


def by_workers(options):
    table = Table("workers", "Workers, 10k flows, each on a queue of its own", ["1 worker", "2 workers"], unit="both")
    table.rows[IO] = [Case("testpmd", "io", Traffic(), workers=n) for n in (1, 2)]
    table.rows[NOTRACK] = [Case("sluice", "notrack", Traffic(), workers=n) for n in (1, 2)]
    table.rows[ESTABLISHED] = [Case("sluice", "tracked", Traffic(), workers=n) for n in (1, 2)]
    return table


def on_links(options):
    load = Traffic(flows=1000, live=True)
    table = Table("links", "Kernel interfaces (veth), 1k flows", ["NOTRACK", "established"], unit="both")
    table.rows["Linux nft"] = [Case("nft", mode, load) for mode in ("notrack", "tracked")]
    table.rows["AF_PACKET alone (testpmd)"] = [Case("kernel", "io", load), None]
    table.rows["AF_XDP alone (testpmd)"] = [Case("xdp", "io", load), None]
    table.rows["Sluice, `kernel:`"] = [Case("kernel", mode, load) for mode in ("notrack", "tracked")]
    table.rows["Sluice, `xdp:`"] = [Case("xdp", mode, load) for mode in ("notrack", "tracked")]
    return table


TABLES = {
    "flows": by_flows,
    "kinds": by_kind,
    "rules": by_rules,
    "new": new_connections,
    "workers": by_workers,
    "links": on_links,
}
