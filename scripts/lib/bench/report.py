"""Tables of what was measured, as Markdown, and all of it as JSON."""

import json
import statistics
from dataclasses import asdict

import goals
from cases import count
from rounds import label
from subject import TOLERATED

START, END = "<!-- bench: written by scripts/bench -->", "<!-- end of bench -->"


class Report:
    """`results` of rounds.measure in the tables they belong to, and latencies; `hertz`: the TSC's rate."""

    def __init__(self, tables, results, loads, busy, hertz, machine, options):
        self.tables, self.results, self.hertz = tables, results, hertz
        self.loads, self.busy = loads, busy
        self.machine, self.options = machine, options

    def cycles(self, case):
        """Median of a case, or None."""
        result = self.results.get(case)
        return result.median(self.each) if result and result.good else None

    def each(self, window):
        return window.nanos * self.hertz / 1e9

    def markdown(self):
        return "\n\n".join([self.head(), *(self.table(table) for table in self.tables), *self.latencies(), *self.goals(), *self.skipped()])

    def head(self):
        about = self.machine
        huge = "huge pages" if about["huge_pages"] else "no huge pages"
        return (
            f"{about['date']}, {about['commit']}, {about['cpu']}, {about['cores']} cores, TSC {about['tsc_mhz']} MHz,"
            f" kernel {about['kernel']}, {huge}, {self.options.rounds} rounds of {self.options.seconds:g} s,"
            f" load of the machine {about['load_before']:.1f} before and {about['load_after']:.1f} after."
        )

    def table(self, table):
        lines = [f"| {table.title}: cycles a packet | " + " | ".join(table.columns) + " |"]
        lines.append("|---|" + "---|" * len(table.columns))
        for title, row in table.rows.items():
            lines.append(f"| {title} | " + " | ".join(self.cell(case) for case in row) + " |")
        if table.base in table.rows:  # with --subjects it may not be
            lines += self.net(table)
        if table.unit == "both":
            for title, row in table.rows.items():
                lines.append(f"| {title}, million packets a second and core | " + " | ".join(self.rate(case) for case in row) + " |")
        if table.name == "workers":
            for title, row in table.rows.items():
                lines.append(f"| {title}, two against one | | {self.speedup(row)} |")
            for title, row in table.rows.items():
                if any(map(self.handed_over, row)):
                    lines.append(f"| {title}, handed over | " + " | ".join(map(self.handed_over, row)) + " |")
        return "\n".join(lines)

    def cell(self, case):
        middle = self.cycles(case) if case else None
        if middle is None:
            return "" if case is None else "–"
        least, most = self.results[case].spread(self.each)
        return f"{middle:.0f} ({least:.0f}–{most:.0f})"

    def net(self, table):
        """Rows of what is above input and output alone."""
        for title, row in table.rows.items():
            if title == table.base:
                continue
            pairs = [(self.cycles(case) if case else None, self.cycles(base)) for case, base in zip(row, table.rows[table.base])]
            cells = [f"{mine - base:.0f}" if mine and base else "" for mine, base in pairs]
            if any(cells):
                yield f"| {title}, net of I/O | " + " | ".join(cells) + " |"

    def rate(self, case):
        """Packets that a core forwards in a second of its own time."""
        middle = self.cycles(case) if case else None
        return f"{self.hertz / middle / 1e6:.2f}" if middle else ""

    def handed_over(self, case):
        """The part of all packets that went from one worker to another."""
        result = self.results.get(case)
        parts = [window.more["handed_over"] for window in result.windows if "handed_over" in window.more] if result else []
        return f"{max(parts):.2%}" if parts else ""

    def speedup(self, row):
        one, two = (self.cycles(case) for case in row)
        return f"{2 * one / two:.2f} ×" if one and two else ""

    def latencies(self):
        """What a packet took there and back by load, and in the router's hands while it did something else."""
        good = {name: latency for name, latency in self.loads.items() if latency.reason is None}
        if good:
            loads = list(next(iter(good.values())).loads)
            head = ["There and back, 10k flows: µs, 50 / 99 / 99.9 %", "most, M/s", *(f"{load} % load" for load in loads)]
            rows = [[name, f"{latency.most / 1e6:.2f}", *map(micros, latency.loads.values())] for name, latency in good.items()]
            yield markdown_table(head, rows)
        if self.busy:
            head = [f"In the router's hands, {count(self.options.busy_flows)} flows, half load, while", "µs, 50 / 99 / 99.9 %", "seconds", "packets", "dropped", "polls over 200 µs"]
            counts = lambda values: [f"{values[key]:.0f}" for key in ("packets", "dropped", "polls_over_200us")]
            rows = [[name, micros(values), f"{values['seconds']:.1f}", *counts(values)] for name, values in self.busy.items()]
            yield markdown_table(head, rows)

    def goals(self):
        """The project's goals, as far as they were measured."""
        rows = list(goals.rows(self))
        return [markdown_table(["goal", "measured", "wanted", "reached"], rows)] if rows else []

    def skipped(self):
        """What is missing in the tables, and why."""
        reasons = [f"- {label(case)}: {result.reason}" for case, result in self.results.items() if not result.good]
        reasons += [f"- latency, {name}: {latency.reason}" for name, latency in self.loads.items() if latency.reason]
        return ["Not measured:\n\n" + "\n".join(reasons)] if reasons else []

    def json(self):
        """Every window of every case."""
        cases = []
        for case, result in self.results.items():
            windows = [asdict(window) for window in result.windows]
            entry = {**asdict(case), "reason": result.reason, "windows": windows}
            if result.windows:
                entry["cycles"] = statistics.median(self.each(window) for window in result.windows)
            cases.append(entry)
        loads = {name: asdict(latency) for name, latency in self.loads.items()}
        return {"machine": self.machine, "hertz": self.hertz, "cases": cases, "latency": loads, "latency_while": self.busy}


def markdown_table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def micros(values):
    """Three quantiles, and what was lost."""
    lost = values.get("lost", 0)
    return " / ".join(f"{values[key]:.3g}" for key in ("p50", "p99", "p999")) + (f", {lost:.1%} lost" if lost > TOLERATED else "")


def write(document, text):
    """Puts the tables between their marks."""
    before, rest = document.read_text().split(START)
    document.write_text(f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def save(path, data):
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
