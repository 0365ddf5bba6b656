"""How long packets take: through the router and back to who sent them, by load; and in the router's own hands while it is
busy with something else."""

import threading
import time
from dataclasses import dataclass, field

import policies
from cases import is_asked_for
from machine import Failed
from openvswitch import MEMORY as HUGE_PAGES
from openvswitch import OpenVSwitch
from sluiced import Sluiced
from testpmd import Testpmd
from traffic import Generator, Traffic, memif

LOADS = (10, 50, 90)
SETTLE = 0.5
MANY_RULES = 100_000
APPLIED = "100k rules are applied, twice"


@dataclass
class Latency:
    """Of one subject: packets a second at most, and {load: microseconds by quantile}; or why not."""

    most: float = 0.0
    loads: dict = field(default_factory=dict)
    reason: str | None = None


def subjects(bench, traffic):
    """All that are asked for of what forwards from one memif to another."""
    paths = [str(bench.folder / name) for name in ("in.sock", "out.sock")]
    ends = lambda role: [memif(number, path, role) for number, path in enumerate(paths)]
    clients = ends("client")
    makers = {
        ("I/O alone (testpmd)", "testpmd", "io"): lambda: Testpmd(bench, traffic, devices=clients),
        ("Sluice, NOTRACK", "sluice", "notrack"): lambda: Sluiced(bench, traffic, "notrack", devices=clients),
        ("Sluice, established", "sluice", "tracked"): lambda: Sluiced(bench, traffic, "tracked", devices=clients),
        ("OVS-DPDK, established", "ovs", "tracked"): lambda: OpenVSwitch(bench, traffic, "tracked", devices=clients),
    }
    asked = {name: make for (name, *which), make in makers.items() if is_asked_for(bench.options, *which)}
    return asked, lambda: ends("server")


def by_load(bench, seconds, say):
    """{subject: Latency} from memif to memif, 10k flows, one core."""
    traffic = Traffic(live=True)
    makers, servers = subjects(bench, traffic)
    found = {}
    for name, make in makers.items():
        subject, latency = make(), Latency()
        try:
            to, back = servers()
            # OVS keeps its first queue for what is not its polling thread.
            queue = 1 if isinstance(subject, OpenVSwitch) else 0
            subject.generator = Generator(bench.program, traffic, bench.machine.control, to, back, queue)
            subject.start()
            one(subject.generator, latency, seconds)
        except Failed as failed:
            latency.reason = str(failed)
        finally:
            subject.end()
        found[name] = latency
        say(f"latency: {name}: {latency.reason or latency.loads}")
    return found


def one(generator, latency, seconds):
    generator.wait_until_known()
    time.sleep(SETTLE)
    window = generator.measure(seconds)
    latency.most = window["back"] / window["seconds"]
    for load in LOADS:
        generator.rate(latency.most * load / 100)
        time.sleep(SETTLE)
        window = generator.measure(seconds)
        lost = 1 - window["back"] / max(window["sent"], 1)
        latency.loads[load] = {key: window[key] for key in ("p50", "p99", "p999", "longest")} | {"lost": max(lost, 0)}


def while_busy(bench, flows, seconds, say):
    """{what the router does besides: quantiles}, of that many flows at half of its most, as its own histogram has it."""
    traffic = Traffic(flows=flows, live=True)
    found = {}
    subject = Sluiced(bench, traffic, "tracked")
    try:
        subject.start()
        subject.generator.wait_until_known()
        time.sleep(SETTLE)
        window = subject.generator.measure(seconds)
        subject.generator.rate(window["sent"] / window["seconds"] / 2)
        found["nothing"] = observe(subject, lambda: time.sleep(seconds))
        files = [subject.folder / f"rules{n}.yaml" for n in (0, 1)]
        for number, path in enumerate(files):
            path.write_text(policies.sluice("tracked", MANY_RULES - number))
        found[APPLIED] = observe(subject, lambda: [subject.cli("apply", path) for path in files])
        found["all flows are listed"] = observe(subject, lambda: subject.cli("conntrack", "list"))
    except Failed as failed:
        say(f"latency while busy: {failed}")
    finally:
        subject.end()
    try:
        found["all flows but a thousand run out"] = expire(bench, traffic)
    except Failed as failed:
        say(f"latency while flows run out: {failed}")
    for name, values in found.items():
        say(f"latency: {name}: {values}")
    return found


def expire(bench, traffic):
    """Flows of which all but a thousand are never heard of again."""
    subject = Sluiced(bench, traffic, "tracked", settings={"timeouts": {"udp": 5, "udp_stream": 5}})
    try:
        path = str(bench.folder / "in.sock")
        subject.devices = (memif(0, path, "client"), "net_null0,no-rx=1")
        subject.generator = Generator(bench.program, traffic, bench.machine.control, memif(0, path, "server"), shrink=1000)
        subject.start()
        subject.generator.wait_until_known()
        window = subject.generator.measure(0.5)
        subject.generator.rate(window["sent"] / window["seconds"] / 2)

        def until_gone():
            deadline = time.monotonic() + 60
            while subject.metrics()["sluice_conntrack_entries"] > 2000:
                if time.monotonic() > deadline:
                    raise Failed("they did not run out within a minute")
                time.sleep(0.2)

        return observe(subject, until_gone)
    finally:
        subject.end()


def observe(subject, act):
    """What the router's histograms say of the time that `act` takes."""
    before = subject.metrics()
    began = time.monotonic()
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    took, after = time.monotonic() - began, subject.metrics()
    grown = lambda name: {key[1]: after[key] - before[key] for key in after if isinstance(key, tuple) and key[0] == name}
    latency, polls = grown("sluice_worker_latency_seconds_bucket"), grown("sluice_worker_poll_seconds_bucket")
    delta = lambda name: after.get(name, 0) - before.get(name, 0)
    values = {name: quantile(latency, part) for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    within = max((bound for bound in polls if bound < 2.5e-4), default=0)
    return values | {
        "seconds": took,
        "packets": delta("sluice_forwarded_packets_total"),
        "dropped": delta("sluice_drops_total"),
        "polls_over_200us": max(polls.values(), default=0) - polls.get(within, 0),
    }


def quantile(buckets, part):
    """Microseconds; between two bounds as if all were spread evenly there."""
    total, below, lower = max(buckets.values(), default=0), 0, 0.0
    for bound in sorted(buckets):
        if buckets[bound] >= total * part and total:
            share = (total * part - below) / max(buckets[bound] - below, 1)
            upper = bound if bound != float("inf") else lower
            return (lower + (upper - lower) * share) * 1e6
        below, lower = buckets[bound], bound
    return float("nan")
