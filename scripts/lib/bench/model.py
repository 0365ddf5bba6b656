"""What the measured cost of a packet says of more cores and faster links: the tables of docs/scale.md.

Workers share nothing that they write on the packet path, so the model is a product: cores × cycles a second ÷ cycles a packet.
Two workers are measured; how far they are from twice one is the model's error.
"""

from cases import ESTABLISHED, NOTRACK

CORES = (1, 2, 4, 8, 16, 32)
GIGABITS = (100, 200, 400)
# Bytes of a frame with FCS; on the wire, preamble and gap are 20 more.
FRAMES = {"64 bytes": 64, "IMIX": (7 * 64 + 4 * 594 + 1518) / 12, "1518 bytes": 1518}
WIRE = 20


def markdown(report):
    """Both tables; None where what they need was not measured."""
    kinds = costs(report)
    if not kinds:
        return None
    gigahertz = report.hertz / 1e9
    lines = [f"| million packets a second at {gigahertz:.2f} GHz | cycles | " + " | ".join(f"{n} core{'s' if n > 1 else ''}" for n in CORES) + " |"]
    lines.append("|---|---|" + "---|" * len(CORES))
    for name, cycles in kinds.items():
        lines.append(f"| {name} | {cycles:.0f} | " + " | ".join(f"{n * report.hertz / cycles / 1e6:.1f}" for n in CORES) + " |")
    lines += ["", "| cores for | " + " | ".join(f"{size} at {g} Gbit/s" for size in FRAMES for g in GIGABITS) + " |"]
    lines.append("|---|" + "---|" * (len(FRAMES) * len(GIGABITS)))
    packets = [g * 1e9 / 8 / (size + WIRE) for size in FRAMES.values() for g in GIGABITS]
    lines.append("| million packets a second | " + " | ".join(f"{rate / 1e6:.1f}" for rate in packets) + " |")
    for name, cycles in kinds.items():
        lines.append(f"| {name} | " + " | ".join(cores(rate * cycles / report.hertz) for rate in packets) + " |")
    return "\n".join([*lines, "", *check(report)])


def cores(number):
    whole = max(1, -(-number // 1))
    return f"{whole:.0f}" if whole <= 48 else f"({whole:.0f})"


def costs(report):
    """{what: median cycles a packet}, by the tables that have it."""
    found = {}
    for table in report.tables:
        if table.name == "flows":
            for row in (NOTRACK, ESTABLISHED):
                for column, case in zip(table.columns, table.rows.get(row, [])):
                    if case and case.traffic.flows >= 10_000 and (cycles := report.cycles(case)):
                        found[f"{row}, {column}"] = cycles
        if table.name == "new" and (case := table.rows.get("Sluice", [None])[0]) and (cycles := report.cycles(case)):
            found["Sluice, a new connection"] = cycles
    return found


def check(report):
    """Two workers as measured, against twice what one does."""
    table = next((table for table in report.tables if table.name == "workers"), None)
    for title, row in (table.rows if table else {}).items():
        one, two = (report.cycles(case) for case in row)
        if one and two:
            yield f"- {title}: two workers forward {2 * one / two:.2f} times what one does; the model says 2."
