"""What all that is measured have in common: it is started on some traffic, looked at twice, and stopped."""

import time
from dataclasses import dataclass

from machine import Failed
from traffic import Generator, memif

# Seconds in which caches are filled, before anything counts; and for which flows may take to become known.
WARM_UP, PATIENCE = 0.5, 30.0
# Packets in hand when a window begins are not those when it ends; beyond that, what came in must have gone out.
TOLERATED = 0.001
# Both counters are not read in the same instant: whoever reads them may be held up in between, but not each time.
ATTEMPTS = 3

ROUTER_MAC = "02:00:00:00:01:01"
NEXT_HOP, NEXT_HOP_MAC = "203.0.113.2", "02:00:00:00:00:09"
NEXT_HOP6 = "2001:db8:3::2"


@dataclass
class Sample:
    """CPU time of those who forward, in seconds, and packets since the start."""

    cpu: float
    received: int
    forwarded: int
    # Cycles in polls that found packets, and that found none: a live source may be slower than who is measured.
    busy: float = 1.0
    idle: float = 0.0


@dataclass
class Measured:
    """One window."""

    # CPU time of a packet, nanoseconds.
    nanos: float
    # Packets a second by the clock.
    rate: float
    # Part of the packets received that was not forwarded.
    lost: float
    # What else the subject tells.
    more: dict


class Subject:
    """`start`, `sample` and `close` are its own; `close` also ends what started in part."""

    # Makes live traffic.
    generator = None

    def __init__(self, bench, traffic, workers=1, devices=None):
        """`devices`: vdevs in and out, in place of those that the traffic comes from."""
        self.bench, self.traffic, self.workers, self.devices = bench, traffic, workers, devices

    def inputs(self):
        """Vdevs that packets come from and go to; starts the generator of live traffic."""
        bench = self.bench
        if self.devices:
            return self.devices
        if self.traffic.live:
            path = str(bench.folder / "in.sock")
            self.generator = Generator(bench.program, self.traffic, bench.machine.control, memif(0, path, "server"))
            return memif(0, path, "client"), "net_null0,no-rx=1"
        paths, _ = bench.files.get(self.traffic, self.workers)
        return ",".join(["net_pcap0", *(f"rx_pcap={path}" for path in paths), "infinite_rx=1"]), "net_null0,no-rx=1"

    def more(self):
        """What else is worth telling of the window that ends."""
        return {}

    def measure(self, seconds):
        """A window, behind a warm-up in which flows are made."""
        if self.generator:
            self.generator.wait_until_known()
        time.sleep(WARM_UP)
        self.wait_for_a_pass()
        for _ in range(ATTEMPTS):
            window = self.window(seconds)
            if window.lost <= TOLERATED:
                break
        return window

    def window(self, seconds):
        """What goes through from now on for so long."""
        began, before = time.monotonic(), self.sample()
        time.sleep(seconds)
        took, after = time.monotonic() - began, self.sample()
        forwarded, received = after.forwarded - before.forwarded, after.received - before.received
        if forwarded <= 0:
            raise Failed("no packets went through")
        lost = max(0.0, 1 - forwarded / received) if received > 0 else 0.0
        busy, idle = after.busy - before.busy, after.idle - before.idle
        used = busy / (busy + idle) if self.traffic.live and busy > 0 else 1.0
        return Measured((after.cpu - before.cpu) * used / forwarded * 1e9, forwarded / took, lost, self.more())

    def wait_for_a_pass(self):
        """Until each packet of the file went by once, so that each flow is known."""
        if self.generator or self.devices:
            return
        packets = self.bench.files.get(self.traffic, self.workers)[1]
        deadline = time.monotonic() + PATIENCE
        while self.sample().received < packets:
            if time.monotonic() > deadline:
                raise Failed(f"{packets} packets did not pass within {PATIENCE} s")
            time.sleep(0.1)

    def end(self):
        """Ends it, and whatever feeds it."""
        if self.generator:
            self.generator.close()
        self.close()
