"""DPDK's own forwarder: what input and output alone cost. Every packet received is sent, nothing is looked at."""

import re
import subprocess
import threading
import time

from machine import Failed, cpu_seconds, stop
from subject import Sample, Subject

# Bytes that a buffer takes with its headers, and without huge pages, where testpmd's pool puts one into a page.
HUGE_BYTES, PAGE_BYTES = 2560, 4200


def memory(buffers, huge):
    """MiB for so many buffers."""
    return buffers * (HUGE_BYTES if huge else PAGE_BYTES) // (1 << 20) + 128


class Testpmd(Subject):
    """dpdk-testpmd in io mode."""

    process = None
    # Where it runs, if not here.
    namespace = None

    def start(self):
        way_in, way_out = self.inputs()
        machine, workers = self.bench.machine, self.workers
        buffers = self.bench.files.buffers(self.traffic, workers)
        kind = ["--in-memory"] if machine.huge else ["--no-huge", "--no-shconf"]
        cores = machine.workers(workers)
        # Who talks sits beside the others, on a number of its own, so that two workers can have both cores.
        places = ",".join([f"100@{machine.control}", *(f"{core}@{core}" for core in machine.workers(workers))])
        # Its output is wanted line by line.
        command = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        command += ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", places, "-m", str(memory(buffers, machine.huge)), *kind]
        command += ["--main-lcore=100", "--no-pci", "--no-telemetry", "--iova-mode=va", "--vdev", way_in, "--vdev", way_out]
        command += ["--", "-i", "--forward-mode=io", f"--nb-cores={workers}", f"--rxq={workers}", f"--txq={workers}"]
        command += ["--no-flush-rx", f"--total-num-mbufs={buffers}", "--mbuf-size=2176"]
        # Named differently from release to release.
        self.thread = "(rte|lcore|dpdk)-worker-?[0-9]+"
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.lines, self.seen = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()
        if self.traffic.live:
            self.ask("set record-core-cycles on", r"testpmd>")
        self.ask("start", r"io packet forwarding")

    def read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append(line)
                self.seen.notify()

    def ask(self, command, pattern):
        """Types a command, waits until the answer matches, and gives what was found."""
        with self.seen:
            self.lines.clear()
        gone = lambda: Failed(f"testpmd does not answer {command}: {''.join(self.lines[-8:])}")
        try:
            self.process.stdin.write(command + "\n")
        except BrokenPipeError:
            raise gone() from None
        deadline = time.monotonic() + 60
        with self.seen:
            while True:
                if found := re.search(pattern, "".join(self.lines), re.DOTALL):
                    return found
                if not self.seen.wait(deadline - time.monotonic()) or self.process.poll() is not None:
                    raise gone()

    def sample(self):
        if self.traffic.live:
            return self.busy()
        cpu = cpu_seconds(self.process.pid, self.thread)
        # In one answer, so that both are of the same moment.
        found = self.ask("show port stats all", r"port 0 .*RX-packets: (\d+).*port 1 .*TX-packets: (\d+)\s")
        return Sample(cpu, int(found[1]), int(found[2]))

    def busy(self):
        """By testpmd's own count of cycles, of polls that found packets: a live source may be slower than it is."""
        pattern = r"Accumulated.*?RX-packets: (\d+).*?TX-packets: (\d+).*?total cycles=(\d+)"
        found = self.ask("show fwd stats all", pattern)
        passed, busy = time.monotonic() * self.bench.machine.cycles_per_second(), int(found[3])
        cpu = cpu_seconds(self.process.pid, self.thread)
        return Sample(cpu, int(found[1]), int(found[2]), busy, passed - busy)

    def close(self):
        if self.process:
            stop(self.process)
