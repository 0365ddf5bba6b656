"""Measures cases in rounds, all of them in each, so that what the machine does besides meets all alike."""

import statistics
import time
from dataclasses import dataclass, field

from machine import Failed
from subject import TOLERATED


@dataclass
class Result:
    """All windows of a case, or why there is none."""

    windows: list = field(default_factory=list)
    reason: str | None = None

    @property
    def good(self):
        return bool(self.windows) and self.reason is None

    def median(self, of):
        return statistics.median(of(window) for window in self.windows)

    def spread(self, of):
        values = [of(window) for window in self.windows]
        return min(values), max(values)


def measure(bench, cases, options, say):
    """{case: Result}, and how many rounds there were; a case that failed once is not tried again."""
    results = {case: Result() for case in cases}
    began = time.monotonic()
    for number in range(options.rounds):
        spent = time.monotonic() - began
        if number and spent * (number + 1) / number > options.minutes * 60:
            say(f"no time is left for round {number + 1}")
            return results, number
        for case, result in results.items():
            if result.reason is None:
                start = time.monotonic()
                once(bench, case, result, options.seconds)
                what = result.reason or f"{result.windows[-1].nanos:.1f} ns, {result.windows[-1].rate / 1e6:.2f} M/s"
                say(f"round {number + 1}: {label(case)}: {what} ({time.monotonic() - start:.0f} s)")
    return results, options.rounds


def once(bench, case, result, seconds):
    """One window; what did not forward every packet is not compared."""
    subject = case.subject_on(bench)
    try:
        subject.start()
        window = subject.measure(seconds)
        if window.lost > TOLERATED:
            result.reason = f"lost {window.lost:.1%} of the packets"
        result.windows.append(window)
    except Failed as failed:
        result.reason = str(failed)
    finally:
        subject.end()


def label(case):
    """A case in one line."""
    load = case.traffic
    words = [case.subject, case.mode, load.kind, "new" if load.new else f"{load.flows} flows"]
    words += [f"{case.rules} rules"] if case.rules else []
    words += [f"{case.workers} workers"] if case.workers > 1 else []
    return " ".join(words + (["live"] if load.live and not load.new else []))
