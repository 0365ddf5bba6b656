"""The project's goals for speed, and what was measured of each."""

from cases import Case
from latency import APPLIED
from traffic import Traffic

UDP, MANY, MOST = Traffic(), Traffic(flows=1_000_000), Traffic(flows=10_000_000, live=True)
NEW, NEW_TCP, LINKS = Traffic(live=True, new=True), Traffic("tcp", live=True, new=True), Traffic(flows=1000, live=True)


def rows(report):
    """(goal, what was measured, what is wanted, whether it is reached), of what was measured."""
    cycles = report.cycles
    sluice = lambda mode, traffic, rules=0, workers=1: cycles(Case("sluice", mode, traffic, rules, workers))
    io = lambda traffic: cycles(Case("testpmd", "io", traffic))
    net = lambda mode, traffic, rules=0: minus(sluice(mode, traffic, rules), io(traffic))
    per_second = lambda traffic: over(report.hertz / 1e6, sluice("tracked", traffic))
    faster = lambda device: over(cycles(Case("nft", "tracked", LINKS)), cycles(Case(device, "tracked", LINKS)))
    most = [
        ("P1: established, 10k flows, net cycles", net("tracked", UDP), 60),
        ("P2: NOTRACK, net cycles", net("notrack", UDP), 35),
        ("P2: NOTRACK, 10k rules, net cycles", net("notrack", UDP, 10_000), 130),
        ("P3: established, 1M flows, net cycles", net("tracked", MANY), 110),
        ("P3: established, 10M flows, net of 1M", over(net("tracked", MOST), net("tracked", MANY)), 1.3),
        ("P4: established, 100k rules against 10", over(sluice("tracked", UDP, 100_000), sluice("tracked", UDP, 10)), 1.05),
        ("P4: first packets, 100k rules against 10", over(sluice("tracked", NEW, 100_000), sluice("tracked", NEW, 10)), 1.5),
    ]
    if applied := report.busy.get(APPLIED):
        most.append(("P7: polls over 200 µs while 100k rules are applied", applied["polls_over_200us"], 0))
        most.append(("P7: packets dropped meanwhile", applied["dropped"], 0))
    least = [
        ("P5: new connections, UDP, million a second", per_second(NEW), 4),
        ("P5: new connections, TCP, million a second", per_second(NEW_TCP), 4),
        ("P6: two workers, established, against one", over(2 * (sluice("tracked", UDP) or 0), sluice("tracked", UDP, workers=2)), 1.95),
        ("P9: `xdp:` against nft, established", faster("xdp"), 1.4),
        ("P9: `kernel:` against nft, established", faster("kernel"), 0.8),
    ]
    for text, value, limit in most:
        if value is not None:
            yield [text, f"{value:.3g}", f"≤ {limit}", "yes" if value <= limit else "no"]
    for text, value, limit in least:
        if value is not None:
            yield [text, f"{value:.3g}", f"≥ {limit}", "yes" if value >= limit else "no"]


def minus(whole, part):
    return whole - part if whole and part else None


def over(one, other):
    return one / other if one and other else None
