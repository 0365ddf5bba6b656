"""Kernel interfaces: a pair of veth on each side of a router, which is the kernel with nft, or sluiced on the same links.

All that the router does happens on one core: the threads of the kernel's NAPI that take packets in for it are pinned there.
Traffic is made, and what leaves is counted and thrown away, on another.
"""

import re
import subprocess
import time
from pathlib import Path

import policies
from machine import Failed, cpu_seconds, run
from sluiced import Sluiced
from subject import NEXT_HOP, NEXT_HOP_MAC, ROUTER_MAC, Sample, Subject
from traffic import SPARE_BUFFERS, Generator


class Links:
    """Two namespaces: of the world (`g0` sends, `s0` takes), and of the router (`g1`, `s1`)."""

    def __init__(self, bench):
        self.bench, self.pids = bench, []
        self.world, self.router = bench.namespace + "w", bench.namespace + "r"

    def open(self):
        for namespace in (self.world, self.router):
            run("ip", "netns", "add", namespace)
            self.inside(namespace, "ip", "link", "set", "lo", "up")
        for near, far, mac in (("g", "g1", ROUTER_MAC), ("s", "s1", "02:00:00:00:02:01")):
            run("ip", "-n", self.world, "link", "add", near + "0", "type", "veth", "peer", "name", far, "netns", self.router)
            run("ip", "-n", self.router, "link", "set", far, "address", mac)
        for namespace, link in ((self.world, "g0"), (self.world, "s0"), (self.router, "g1"), (self.router, "s1")):
            # No neighbour discovery among the packets; no offload that makes one of several.
            self.inside(namespace, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
            self.inside(namespace, "ethtool", "-K", link, "tx", "off", "tso", "off", "gso", "off")
            run("ip", "-n", namespace, "link", "set", link, "up")
        # What leaves is thrown away where it arrives, before any socket.
        sink = "table netdev sink { chain all { type filter hook ingress device s0 priority 0; drop; } }"
        self.inside(self.world, "nft", sink)
        machine = self.bench.machine
        self.thread(self.world, "s0", machine.control)
        self.pids = [self.thread(self.router, "g1", machine.measured)]

    def kernel_router(self):
        for text in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.netfilter.nf_conntrack_max=4000000"):
            self.inside(self.router, "sysctl", "-qw", text)
        self.inside(self.router, "ip", "addr", "add", "192.0.2.1/24", "dev", "g1")
        self.inside(self.router, "ip", "addr", "add", "203.0.113.1/24", "dev", "s1")
        self.inside(self.router, "ip", "neigh", "add", NEXT_HOP, "lladdr", NEXT_HOP_MAC, "dev", "s1", "nud", "permanent")
        for network in ("10.0.0.0/8", "198.18.0.0/15"):
            self.inside(self.router, "ip", "route", "add", network, "via", NEXT_HOP)

    def inside(self, namespace, *command, **options):
        return run("ip", "netns", "exec", namespace, *command, **options)

    def thread(self, namespace, link, core):
        """Has a thread of its own take packets in for a link, on that core; returns its number."""
        self.inside(namespace, "ethtool", "-K", link, "gro", "on")
        self.inside(namespace, "sh", "-c", f"echo 1 > /sys/class/net/{link}/threaded")
        for _ in range(50):
            for comm in Path("/proc").glob("[0-9]*/comm"):
                try:
                    name = comm.read_text().strip()
                except OSError:
                    continue
                pid = int(comm.parent.name)
                if re.fullmatch(rf"napi/{link}-\d+", name) and pid not in self.pids:
                    run("taskset", "-cp", core, pid)
                    return pid
            time.sleep(0.05)
        raise Failed(f"the kernel gives {link} no NAPI thread")

    def counted(self):
        """Packets that the router took in, and that left it."""
        count = lambda namespace, link: int(self.inside(namespace, "cat", f"/sys/class/net/{link}/statistics/rx_packets"))
        return count(self.router, "g1"), count(self.world, "s0")

    def generate(self, traffic):
        # No larger buffers than the frames need: all of the ring stays in the cache.
        to = "net_af_packet0,iface=g0,qpairs=1,framesz=2048,blocksz=16384,framecnt=512,qdisc_bypass=1"
        bench = self.bench
        return Generator(bench.program, traffic, bench.machine.control, to, namespace=self.world)

    def close(self):
        for namespace in (self.world, self.router):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


class Nftables(Subject):
    """The kernel's router: what its NAPI thread takes is what a packet costs from link to link."""

    def __init__(self, bench, traffic, mode, rules=0):
        super().__init__(bench, traffic)
        self.mode, self.rules, self.links = mode, rules, Links(bench)

    def start(self):
        self.links.open()
        self.links.kernel_router()
        if text := policies.nftables(self.mode, self.rules):
            self.links.inside(self.links.router, "nft", "-f", "-", input=text)
        self.generator = self.links.generate(self.traffic)

    def sample(self):
        received, forwarded = self.links.counted()
        return Sample(sum(cpu_seconds(pid, None) for pid in self.links.pids), received, forwarded)

    def close(self):
        self.links.close()


class SluiceOnLinks(Sluiced):
    """sluiced on the same links, by `kernel:` or `xdp:`."""

    def __init__(self, bench, traffic, mode, device):
        super().__init__(bench, traffic, mode)
        self.device, self.links = device, Links(bench)

    def start(self):
        self.links.open()
        self.namespace, self.pids = self.links.router, self.links.pids
        # What lives in the kernel gains nothing by huge pages.
        self.configure(f"{self.device}:g1", f"{self.device}:s1", SPARE_BUFFERS, "off")
        self.launch()
        self.generator = self.links.generate(self.traffic)

    def sample(self):
        sample = super().sample()
        received, forwarded = self.links.counted()
        return Sample(sample.cpu, received, forwarded, sample.busy, sample.idle)

    def close(self):
        super().close()
        self.links.close()
