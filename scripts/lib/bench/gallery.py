"""The pictures: which numbers of the tables they show."""

from latency import LOADS
from pictures import Line, chart


def draw(report, folder):
    """Writes flows.svg, rules.svg and latency.svg, as far as there is something to show."""
    folder.mkdir(exist_ok=True)
    for name, make in (("flows", flows), ("rules", rules), ("latency", latencies)):
        if picture := make(report):
            (folder / f"{name}.svg").write_text(picture)


def of_table(report, name, value):
    table = next((table for table in report.tables if table.name == name), None)
    if table is None:
        return None, []
    rows = {title: [value(case) if case else None for case in row] for title, row in table.rows.items()}
    return table, [Line(title, values, number) for number, (title, values) in enumerate(rows.items())]


def flows(report):
    rate = lambda case: (cycles := report.cycles(case)) and report.hertz / cycles / 1e6
    table, lines = of_table(report, "flows", rate)
    if table is None:
        return None
    columns = [column.split()[0] for column in table.columns]
    return chart("Throughput of one core by flows", "flows", "million packets of 64 bytes a second", columns, lines)


def rules(report):
    table, lines = of_table(report, "rules", report.cycles)
    if table is None:
        return None
    columns = [column.split()[0] for column in table.columns]
    return chart("Cost of a packet by rules", "rules", "cycles a packet", columns, lines)


def latencies(report):
    if not report.loads:
        return None
    lines = []
    for number, (name, latency) in enumerate(report.loads.items()):
        if latency.reason is None:
            lines.append(Line(f"{name}, median", [latency.loads[load]["p50"] for load in LOADS], number))
            lines.append(Line(f"{name}, 99.9 %", [latency.loads[load]["p999"] for load in LOADS], number, dashed=True))
    title = "There and back through one core, by load"
    return chart(title, "part of the most that it forwards", "microseconds", [f"{load} %" for load in LOADS], lines)
