"""The machine: its cores, its huge pages, how busy it is, and what CPU time a thread took."""

import os
import re
import subprocess
import time
from pathlib import Path

HUGE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


class Failed(Exception):
    """A measurement that cannot be had, with the reason; the others go on."""


class Machine:
    """Cores for who is measured and for all else, and huge pages for as long as the measurements take."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("bench: needs two cores, one of them for the worker alone")
        self.cores = cores
        # Who is measured has the last one to itself; two workers take the first as well.
        self.control, self.measured = cores[0], cores[-1]
        self.load_before = os.getloadavg()[0]
        self.huge = False

    def workers(self, count):
        """The cores of so many workers."""
        return [self.measured, self.control][:count]

    def reserve(self, megabytes):
        """Huge pages, if the kernel has that many; scripts/bench gives them back. All that is compared uses the same kind."""
        pages = megabytes // 2
        for _ in range(3):
            if int((HUGE / "free_hugepages").read_text()) >= pages:
                break
            Path("/proc/sys/vm/compact_memory").write_text("1")
            total, free = (int((HUGE / name).read_text()) for name in ("nr_hugepages", "free_hugepages"))
            (HUGE / "nr_hugepages").write_text(str(total + pages - free))
        self.huge = int((HUGE / "free_hugepages").read_text()) >= pages
        return self.huge

    def cycles_per_second(self):
        """The TSC's rate, as the kernel reckons it."""
        found = re.search(r"bogomips\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text(), re.IGNORECASE)
        return float(found[1]) / 2 * 1e6

    def describe(self):
        """For the line above the tables."""
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
        return {
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit,
            "cpu": cpu[1] if cpu else os.uname().machine,
            "cores": len(self.cores),
            "tsc_mhz": round(self.cycles_per_second() / 1e6),
            "kernel": os.uname().release,
            "huge_pages": self.huge,
            "load_before": self.load_before,
            "load_after": os.getloadavg()[0],
        }


def cpu_seconds(pid, thread):
    """CPU time of a process' threads whose name matches, all together; None for its only one."""
    total, seen = 0, False
    for task in Path(f"/proc/{pid}/task").iterdir():
        if thread is None or re.fullmatch(thread, (task / "comm").read_text().strip()):
            total += int((task / "schedstat").read_text().split()[0])
            seen = True
    if not seen:
        raise Failed(f"process {pid} has no thread {thread}")
    return total / 1e9


def stop(process):
    """Ends a process, and waits until it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(*command, **options):
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise Failed(f"{' '.join(str(word) for word in command[:6])} says: {said[-200:]}")
    return done.stdout
