#!/usr/bin/env python3
"""Measures cycles per packet, see scripts/bench, which runs this in a network namespace of its own.

Cycles are the worker thread's CPU time by the kernel's scheduler times the TSC's rate: that stands other load on the
machine better than wall time. Packets are those that left. Both are read at the start and the end of a window, after
a warm-up in which flows are made.
"""

import argparse
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROUTER_MAC = bytes.fromhex("020000000101")
NEXT_HOP = "203.0.113.2"
METRICS = "127.0.0.1:9843"
SPARE_BUFFERS = 65536
# Without huge pages testpmd's pool puts one buffer into a page.
BUFFER_BYTES = 4200
WARM_UP = 1.0
START, END = "<!-- bench: written by scripts/bench -->", "<!-- end of bench -->"

NOTRACK = """raw: {prerouting: [{action: notrack}]}
filter: {forward: {policy: drop, rules: [{ct: untracked, action: accept}]}}
"""
TRACKED = """filter:
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {ct: invalid, action: drop}
      - {src: 10.0.0.0/8, ct: new, action: accept}
"""


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(src, dst, sport, dport):
    """A UDP packet of 60 bytes (64 with FCS), with true checksums."""
    payload = bytes(18)
    udp_length = 8 + len(payload)
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + udp_length, 0, 0, 64, 17, 0, src, dst)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = struct.pack("!HHHH", sport, dport, udp_length, 0)
    pseudo = struct.pack("!IIBBH", src, dst, 0, 17, udp_length)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + payload) or 0xFFFF)
    return ROUTER_MAC + bytes.fromhex("020000000005") + b"\x08\x00" + ip + udp + payload


def write_pcap(path, flows):
    """A packet of each flow, then a reply of each, both in an order of chance; returns how many."""
    tuples = []
    for flow in range(flows):
        src = 0x0A000001 + flow * 7 % (1 << 24)
        dst = 0xC6120001 + flow * 13 % (1 << 17)
        tuples.append((src, dst, 1024 + flow % 60000, 53))
    there = [frame(*t) for t in tuples]
    back = [frame(dst, src, dport, sport) for src, dst, sport, dport in tuples]
    chance = random.Random(1)
    chance.shuffle(there)
    chance.shuffle(back)
    packets = there + back
    while len(packets) < 64:
        packets += packets
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            out.write(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
    return len(packets)


def cpu_seconds(pid, thread):
    """CPU time of a process' thread, by a pattern of its name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if re.fullmatch(thread, (task / "comm").read_text().strip()):
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    sys.exit(f"bench: process {pid} has no thread {thread}")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def window(sample, seconds):
    """Two samples of (CPU seconds, packets), and what lies between: CPU nanoseconds a packet."""
    time.sleep(WARM_UP)
    cpu, packets = sample()
    time.sleep(seconds)
    cpu_then, packets_then = sample()
    if packets_then == packets:
        sys.exit("bench: no packets went through")
    return (cpu_then - cpu) / (packets_then - packets) * 1e9


class Testpmd:
    """DPDK's own forwarder: every packet received is sent, nothing is looked at."""

    def __init__(self, bench, pcap, packets):
        buffers, megabytes = bench.memory(packets)
        memory = ["--in-memory"] if bench.hugepages(megabytes) else ["--no-huge", "--no-shconf"]
        control = next(c for c in sorted(os.sched_getaffinity(0)) if c != bench.core)
        # Its output is wanted line by line.
        command = ["stdbuf", "-oL", "dpdk-testpmd", "-l", f"{control},{bench.core}", "-m", str(megabytes), *memory]
        command += ["--no-pci", "--no-telemetry", "--iova-mode=va", "--vdev", f"net_pcap0,rx_pcap={pcap},infinite_rx=1"]
        command += ["--vdev", "net_null0,no-rx=1", "--", "-i", "--forward-mode=io", "--nb-cores=1", "--no-flush-rx"]
        command += [f"--total-num-mbufs={buffers}", "--mbuf-size=2176"]
        # Named differently from release to release.
        self.thread = f"(rte|lcore|dpdk)-worker-?{bench.core}"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        self.lines, self.seen = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append(line)
                self.seen.notify()

    def ask(self, command, pattern):
        """Types a command, and waits for a line of the answer."""
        with self.seen:
            self.lines.clear()
        try:
            self.process.stdin.write(command + "\n")
        except BrokenPipeError:
            sys.exit(f"bench: testpmd is gone: {''.join(self.lines[-20:])}")
        deadline = time.monotonic() + 60
        with self.seen:
            while True:
                for line in self.lines:
                    if found := re.search(pattern, line):
                        return found
                if not self.seen.wait(deadline - time.monotonic()) or self.process.poll() is not None:
                    sys.exit(f"bench: testpmd does not answer {command}:\n{''.join(self.lines[-20:])}")

    def sample(self):
        packets = int(self.ask("show port stats 1", r"TX-packets: (\d+)")[1])
        return cpu_seconds(self.process.pid, self.thread), packets

    def measure(self, seconds):
        self.ask("start", r"io packet forwarding")
        return window(self.sample, seconds)

    def close(self):
        stop(self.process)


class Sluiced:
    """The router, with a policy."""

    def __init__(self, bench, pcap, packets, policy):
        buffers, megabytes = bench.memory(packets)
        folder = bench.folder
        (folder / "policy.yaml").write_text(policy)
        hugepages = "required" if bench.hugepages(megabytes) else "off"
        mac = ":".join(f"{byte:02x}" for byte in ROUTER_MAC)
        (folder / "sluice.yaml").write_text(f"""
workers: {{cores: [{bench.core}], idle: poll}}
memory: {{hugepages: {hugepages}, mbufs: {buffers}}}
interfaces:
  bench0: {{device: "vdev:net_pcap0,rx_pcap={pcap},infinite_rx=1", addresses: [192.0.2.1/24], mac: "{mac}"}}
  bench1: {{device: "vdev:net_null0,no-rx=1", addresses: [203.0.113.1/24]}}
routes:
  - {{to: 10.0.0.0/8, via: {NEXT_HOP}}}
  - {{to: 198.18.0.0/15, via: {NEXT_HOP}}}
neighbours: [{{address: {NEXT_HOP}, mac: "02:00:00:00:00:09"}}]
conntrack: {{max: 2097152}}
control: {{api: {folder}/api.sock, metrics: "{METRICS}"}}
policy: {folder}/policy.yaml
state: {folder}/state-{time.monotonic_ns()}
""")
        self.process = subprocess.Popen(
            [bench.sluiced, "--config", str(folder / "sluice.yaml")], stderr=subprocess.PIPE, text=True
        )
        log = []
        for line in self.process.stderr:
            log.append(line)
            if re.search(r"\bready$", line.rstrip()):
                break
        else:
            sys.exit("bench: sluiced did not start:\n" + "".join(log))
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.tsc = None

    def metrics(self):
        text = urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=10).read().decode()
        sums = {}
        for line in text.splitlines():
            if found := re.match(r"(sluice_\w+)(?:\{.*\})? (\S+)", line):
                sums[found[1]] = sums.get(found[1], 0) + float(found[2])
        return sums

    def sample(self):
        return cpu_seconds(self.process.pid, "worker-0"), self.metrics()["sluice_forwarded_packets_total"]

    def measure(self, seconds):
        nanos = window(self.sample, seconds)
        self.tsc = self.metrics()["sluice_cycles_per_second"]
        return nanos

    def close(self):
        stop(self.process)


class Bench:
    def __init__(self, options):
        self.folder = Path(options.folder)
        self.sluiced = options.sluiced
        self.core = options.core
        self.rates = []

    def memory(self, packets):
        buffers = packets + SPARE_BUFFERS
        return buffers, buffers * BUFFER_BYTES // (1 << 20) + 128

    def hugepages(self, megabytes):
        free = 0
        for size in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
            kilobytes = int(size.name.removeprefix("hugepages-").removesuffix("kB"))
            free += kilobytes * int((size / "free_hugepages").read_text()) // 1024
        return free >= megabytes

    def run(self, subject, seconds):
        try:
            nanos = subject.measure(seconds)
        finally:
            subject.close()
        if getattr(subject, "tsc", None):
            self.rates.append(subject.tsc)
        return nanos


def table(options, nanos, rate, huge, load):
    """The Markdown between the marks."""
    cell = lambda values: f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"
    cycles = {key: [n * rate / 1e9 for n in values] for key, values in nanos.items()}
    cpu = next(line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    count = lambda flows: f"{flows // 1000}k flows" if flows >= 1000 else f"{flows} flow{'s' if flows > 1 else ''}"
    lines = [
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, {cpu}, TSC {rate / 1e6:.0f} MHz, kernel {os.uname().release},"
        f" {'huge pages' if huge else 'no huge pages'}, {options.rounds} rounds of {options.seconds:g} s,"
        f" load of the machine {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} CPUs.",
        "",
        "| cycles per packet | " + " | ".join(count(flows) for flows in options.flows) + " |",
        "|---|" + "---|" * len(options.flows),
    ]
    for name in ("testpmd", "NOTRACK", "established"):
        title = {"testpmd": "I/O alone (dpdk-testpmd, io)"}.get(name, name)
        lines.append(f"| {title} | " + " | ".join(cell(cycles[name, flows]) for flows in options.flows) + " |")
    for name in ("NOTRACK", "established"):
        nets = [
            statistics.median(cycles[name, flows]) - statistics.median(cycles["testpmd", flows])
            for flows in options.flows
        ]
        lines.append(f"| {name}, net of I/O | " + " | ".join(f"{net:.0f}" for net in nets) + " |")
    return "\n".join(lines)


def write(document, text):
    path = Path(document)
    before, rest = path.read_text().split(START)
    path.write_text(f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluiced", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--document", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--flows", type=lambda text: [int(n) for n in text.split(",")], default=[1, 10_000, 100_000])
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--no-write", action="store_true", help="show the table, leave the document alone")
    return parser.parse_args()


def main():
    options = arguments()
    load = os.getloadavg()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench: needs two cores, one of them for the worker alone")
    bench = Bench(options)
    files = {}
    for flows in options.flows:
        path = bench.folder / f"{flows}.pcap"
        files[flows] = (path, write_pcap(path, flows))
    # All use the same kind of memory, so the largest decides.
    megabytes = max(bench.memory(packets)[1] for _, packets in files.values())
    huge = bench.hugepages(megabytes)
    bench.hugepages = lambda _: huge

    nanos = {(name, flows): [] for name in ("testpmd", "NOTRACK", "established") for flows in options.flows}
    for number in range(options.rounds):
        for flows, (path, packets) in files.items():
            subjects = {
                "testpmd": lambda: Testpmd(bench, path, packets),
                "NOTRACK": lambda: Sluiced(bench, path, packets, NOTRACK),
                "established": lambda: Sluiced(bench, path, packets, TRACKED),
            }
            for name, make in subjects.items():
                nanos[name, flows].append(bench.run(make(), options.seconds))
                print(f"round {number + 1}, {flows} flows, {name}: {nanos[name, flows][-1]:.1f} ns", flush=True)
    text = table(options, nanos, statistics.median(bench.rates), huge, load)
    print("\n" + text)
    if not options.no_write:
        write(options.document, text)


if __name__ == "__main__":
    main()
