"""The router."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request

import policies
from machine import Failed, cpu_seconds, run, stop
from subject import NEXT_HOP, NEXT_HOP6, NEXT_HOP_MAC, ROUTER_MAC, Sample, Subject

METRICS = "127.0.0.1:9843"


class Sluiced(Subject):
    """sluiced, with a policy; `settings`: more of `conntrack:`."""

    process = None
    # Where it runs, if not here.
    namespace = None

    def __init__(self, bench, traffic, mode, rules=0, settings=None, **others):
        super().__init__(bench, traffic, **others)
        self.mode, self.rules, self.settings = mode, rules, settings or {}
        self.folder = bench.folder / f"sluiced-{time.monotonic_ns()}"

    def configure(self, way_in, way_out, buffers, hugepages):
        """Writes both files; devices are what `device:` takes."""
        self.folder.mkdir()
        (self.folder / "policy.yaml").write_text(policies.sluice(self.mode, self.rules))
        conntrack = {"max": max(self.traffic.flows * 5 // 4, 1 << 21), **self.settings}
        if self.traffic.new:
            # They run out as fast as they come.
            conntrack = {"max": 8 << 20, "timeouts": {"udp": 1, "udp_stream": 1, "tcp_syn_sent": 1}}
        elif self.traffic.live:
            # Chance leaves a flow of many alone for long.
            conntrack["timeouts"] = {"udp": 600, "udp_stream": 600, **conntrack.get("timeouts", {})}
        mac = "" if self.namespace else f', mac: "{ROUTER_MAC}"'
        (self.folder / "sluice.yaml").write_text(f"""
workers: {{cores: {self.bench.machine.workers(self.workers)}, idle: poll}}
memory: {{hugepages: {hugepages}, mbufs: {buffers}}}
interfaces:
  bench0: {{device: "{way_in}", addresses: [192.0.2.1/24, "2001:db8:4::1/64"]{mac}}}
  bench1: {{device: "{way_out}", addresses: [203.0.113.1/24, "2001:db8:3::1/64"]}}
routes:
  - {{to: 10.0.0.0/8, via: {NEXT_HOP}}}
  - {{to: 198.18.0.0/15, via: {NEXT_HOP}}}
  - {{to: "2001:db8:1::/48", via: "{NEXT_HOP6}"}}
  - {{to: "2001:db8:2::/48", via: "{NEXT_HOP6}"}}
neighbours: [{{address: {NEXT_HOP}, mac: "{NEXT_HOP_MAC}"}}, {{address: "{NEXT_HOP6}", mac: "{NEXT_HOP_MAC}"}}]
conntrack: {json.dumps(conntrack)}
control: {{api: {self.folder}/api.sock, metrics: "{METRICS}"}}
policy: {self.folder}/policy.yaml
state: {self.folder}/state
""")

    def start(self):
        bench = self.bench
        way_in, way_out = self.inputs()
        hugepages = "required" if bench.machine.huge else "off"
        buffers = bench.files.buffers(self.traffic, self.workers)
        self.configure(f"vdev:{way_in}", f"vdev:{way_out}", buffers, hugepages)
        self.launch()

    def launch(self):
        """Starts it, and waits until it is ready."""
        command = [self.bench.sluiced, "--config", str(self.folder / "sluice.yaml")]
        command = ["ip", "netns", "exec", self.namespace, *command] if self.namespace else command
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = []
        for line in self.process.stderr:
            log.append(line)
            if re.search(r"\bready$", line.rstrip()):
                break
        else:
            raise Failed("sluiced did not start: " + "".join(log)[-400:])
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def metrics(self):
        """Every metric, summed over its labels but `le`: {name: value}, {(name, le): value} of histograms."""
        if self.namespace:
            command = ["ip", "netns", "exec", self.namespace, "curl", "-s", f"http://{METRICS}/metrics"]
            text = run(*command)
        else:
            text = urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=20).read().decode()
        sums = {}
        for line in text.splitlines():
            if found := re.match(r"(sluice_\w+)(\{.*\})? (\S+)", line):
                bound = re.search(r'[{,]le="([^"]+)"', found[2] or "")
                key = (found[1], float(bound[1])) if bound else found[1]
                sums[key] = sums.get(key, 0) + float(found[3])
        return sums

    def sample(self):
        cpu = cpu_seconds(self.process.pid, r"worker-\d+")
        self.now = self.metrics()
        drops = self.now.get("sluice_drops_total", 0)
        forwarded = self.now["sluice_forwarded_packets_total"]
        # What was dropped, answered or lost by the device is missing in what was forwarded.
        received = forwarded + drops + self.now.get("sluice_answered_packets_total", 0)
        cycles = [self.now[f"sluice_worker_{kind}_cycles_total"] for kind in ("busy", "idle")]
        return Sample(cpu, int(received), int(forwarded), *cycles)

    def more(self):
        now = self.now
        packets = now["sluice_worker_packets_total"]
        return {
            "handed_over": now["sluice_worker_handed_over_packets_total"] / packets,
            "entries": now["sluice_conntrack_entries"],
            "cycles_per_second": now["sluice_cycles_per_second"],
            "longest_poll": now["sluice_worker_longest_poll_seconds"],
        }

    def cli(self, *words):
        """The command line tool; returns what it printed."""
        return run(self.bench.sluice, "--socket", self.folder / "api.sock", *words)

    def close(self):
        if self.process:
            stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)
