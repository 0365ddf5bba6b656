"""Kernel interfaces: a pair of veth on each side of a router, which is the kernel with nft, or sluiced on the same links.

All that the router does happens on one core: the threads of the kernel's NAPI that take packets in for it are pinned there.
Traffic is made, and what leaves is counted and thrown away, on another.
"""

import re
import subprocess
import time
from pathlib import Path

import policies
from machine import Failed, cpu_seconds, run, stop
from sluiced import Sluiced
from subject import NEXT_HOP, NEXT_HOP_MAC, ROUTER_MAC, TOLERATED, WARM_UP, Sample, Subject
from testpmd import Testpmd
from traffic import SPARE_BUFFERS, Generator


# Seconds from a change of rate until it shows.
SETTLE = 0.1


class Links:
    """Two namespaces: of the world (`g0` sends, `s0` takes), and of the router (`g1`, `s1`)."""

    def __init__(self, bench):
        self.bench = bench
        # A process in each, by which the counters of its links can be read at once.
        self.holders = {}
        self.world, self.router = bench.namespace + "w", bench.namespace + "r"

    def open(self):
        for namespace in (self.world, self.router):
            run("ip", "netns", "add", namespace)
            self.inside(namespace, "ip", "link", "set", "lo", "up")
            self.holders[namespace] = subprocess.Popen(["ip", "netns", "exec", namespace, "sleep", "infinity"])
        for near, far, mac in (("g", "g1", ROUTER_MAC), ("s", "s1", "02:00:00:00:02:01")):
            run("ip", "-n", self.world, "link", "add", near + "0", "type", "veth", "peer", "name", far, "netns", self.router)
            run("ip", "-n", self.router, "link", "set", far, "address", mac)
        for namespace, link in ((self.world, "g0"), (self.world, "s0"), (self.router, "g1"), (self.router, "s1")):
            # No neighbour discovery among the packets; no offload that makes one of several.
            self.inside(namespace, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
            self.inside(namespace, "ethtool", "-K", link, "tx", "off", "tso", "off", "gso", "off")
            run("ip", "-n", namespace, "link", "set", link, "up")
        # What leaves is thrown away where it arrives, before any socket.
        sink = "table netdev sink {\nchain discard {\ntype filter hook ingress device s0 priority 0\ndrop\n}\n}\n"
        self.inside(self.world, "nft", "-f", "-", input=sink)
        self.thread(self.world, "s0", self.bench.machine.control)

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

    def thread(self, namespace, link, core, gro=True, shared=True):
        """Has a thread of its own take packets in for a link, on that core; returns its number. Without GRO (or XDP) veth has none.

        On a core that is `shared` it comes first, as an interrupt would: who polls leaves it no time else.
        """
        if gro:
            self.inside(namespace, "ethtool", "-K", link, "gro", "on")
        self.inside(namespace, "sh", "-c", f"echo 1 > /sys/class/net/{link}/threaded")
        for _ in range(50):
            for comm in Path("/proc").glob("[0-9]*/comm"):
                try:
                    name = comm.read_text().strip()
                except OSError:
                    continue
                pid = int(comm.parent.name)
                if re.fullmatch(rf"napi/{link}-\d+", name):
                    run("taskset", "-cp", core, pid)
                    if shared:
                        run("chrt", "-f", "-p", 1, pid)
                    return pid
            time.sleep(0.05)
        raise Failed(f"the kernel gives {link} no NAPI thread")

    def settle(self, device):
        """Has the kernel do its part for who opened that kind of device on the core of who polls it."""
        core = self.bench.machine.measured
        if device == "xdp":
            self.thread(self.router, "g1", core, gro=False)
        else:
            self.inside(self.router, "sh", "-c", f"echo {1 << core:x} > /sys/class/net/g1/queues/rx-0/rps_cpus")

    def sample(self):
        """Of who polls for ever: with what the kernel does for him, he takes all of a core."""
        return Sample(time.monotonic(), *self.counted())

    def counted(self):
        """Packets offered to the router, and that left it; what the sink had no time to take left it as well."""
        return self.sent(self.world, "g0"), self.sent(self.router, "s1")

    def sent(self, namespace, link):
        """Packets sent by a link, those included that its peer refused."""
        lines = Path(f"/proc/{self.holders[namespace].pid}/net/dev").read_text().splitlines()
        fields = next(line.split(":")[1].split() for line in lines if line.strip().startswith(link + ":"))
        return int(fields[9]) + int(fields[11])

    def generate(self, traffic):
        # No larger buffers than the frames need: all of the ring stays in the cache.
        to = "net_af_packet0,iface=g0,qpairs=1,framesz=2048,blocksz=16384,framecnt=512,qdisc_bypass=1"
        bench = self.bench
        return Generator(bench.program, traffic, bench.machine.control, to, namespace=self.world)

    def close(self):
        for holder in self.holders.values():
            stop(holder)
        for namespace in (self.world, self.router):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


class OnLinks(Subject):
    """Nothing slows a sender down that is too fast for a router on kernel interfaces: so the rate is sought at which all arrives."""

    # Halvings of the range that the rate is sought in.
    STEPS = 7

    def measure(self, seconds):
        self.generator.wait_until_known()
        time.sleep(WARM_UP)
        sent = self.generator.measure(seconds / 2)
        low, high = 0.0, sent["sent"] / sent["seconds"]
        rate, best = high, None
        for _ in range(self.STEPS):
            self.generator.rate(rate)
            time.sleep(SETTLE)
            # Twice: a virtual machine that pauses loses packets at any rate.
            window = self.all_arrives(seconds / 2) or self.all_arrives(seconds / 2)
            if window:
                low, best = rate, window
            else:
                high = rate
            if low == high:
                break
            rate = (low + high) / 2
        if best is None:
            raise Failed(f"at {high / 1e3:.0f} thousand packets a second it still loses some")
        return best

    def all_arrives(self, seconds):
        """A window in which nothing was lost, or None."""
        try:
            window = self.window(seconds)
        except Failed:
            return None
        return window if window.lost <= TOLERATED else None


class Nftables(OnLinks):
    """The kernel's router: what its NAPI thread takes is what a packet costs from link to link."""

    def __init__(self, bench, traffic, mode, rules=0):
        super().__init__(bench, traffic)
        self.mode, self.rules, self.links = mode, rules, Links(bench)

    def start(self):
        self.links.open()
        self.links.kernel_router()
        self.pid = self.links.thread(self.links.router, "g1", self.bench.machine.measured, shared=False)
        if text := policies.nftables(self.mode, self.rules):
            self.links.inside(self.links.router, "nft", "-f", "-", input=text)
        self.generator = self.links.generate(self.traffic)

    def sample(self):
        received, forwarded = self.links.counted()
        return Sample(cpu_seconds(self.pid, None), received, forwarded)

    def close(self):
        self.links.close()


class ForwarderOnLinks(OnLinks, Testpmd):
    """testpmd on the same links: what AF_PACKET and AF_XDP cost by themselves."""

    DEVICES = {
        "kernel": "net_af_packet{},iface={},qpairs=1,framesz=2048,blocksz=16384,framecnt=4096,qdisc_bypass=1",
        "xdp": "net_af_xdp{},iface={},start_queue=0,queue_count=1",
    }

    def __init__(self, bench, traffic, device):
        self.device, self.links = device, Links(bench)
        devices = [self.DEVICES[device].format(number, link) for number, link in enumerate(("g1", "s1"))]
        super().__init__(bench, traffic, devices=devices)

    def start(self):
        self.links.open()
        self.namespace = self.links.router
        super().start()
        self.links.settle(self.device)
        self.generator = self.links.generate(self.traffic)

    def sample(self):
        return self.links.sample()

    def close(self):
        super().close()
        self.links.close()


class SluiceOnLinks(OnLinks, Sluiced):
    """sluiced on the same links, by `kernel:` or `xdp:`."""

    def __init__(self, bench, traffic, mode, device):
        super().__init__(bench, traffic, mode)
        self.device, self.links = device, Links(bench)

    def start(self):
        self.links.open()
        self.namespace = self.links.router
        # What lives in the kernel gains nothing by huge pages.
        self.configure(f"{self.device}:g1", f"{self.device}:s1", SPARE_BUFFERS, "off")
        self.launch()
        self.links.settle(self.device)
        self.generator = self.links.generate(self.traffic)

    def sample(self):
        return self.links.sample()

    def more(self):
        return {}

    def close(self):
        super().close()
        self.links.close()
