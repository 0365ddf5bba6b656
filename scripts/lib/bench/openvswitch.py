"""Open vSwitch on DPDK, as Debian ships it: routed by flows, or with its own connection tracking in user space."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import policies
from machine import Failed, cpu_seconds, run, stop
from subject import NEXT_HOP_MAC, ROUTER_MAC, Sample, Subject

VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# What it takes of huge pages, MiB; its pool holds at most 262,144 packets.
MEMORY, MOST_PACKETS = 1500, 262_144 - 40_000


class OpenVSwitch(Subject):
    """A vswitchd with a database of its own in a folder of its own; nothing of a running one is touched."""

    def __init__(self, bench, traffic, mode, **others):
        super().__init__(bench, traffic, **others)
        self.mode, self.processes = mode, []
        self.folder = bench.folder / f"ovs-{time.monotonic_ns()}"
        folder = str(self.folder)
        self.environment = {**os.environ, "OVS_RUNDIR": folder, "OVS_LOGDIR": folder, "OVS_DBDIR": folder}
        self.database = f"unix:{folder}/db.sock"

    def start(self):
        bench, folder = self.bench, self.folder
        if not Path(VSWITCHD).exists():
            raise Failed("openvswitch-switch-dpdk is not installed")
        if not bench.machine.huge:
            raise Failed("OVS-DPDK needs huge pages")
        if not self.traffic.live and bench.files.get(self.traffic, 1)[1] > MOST_PACKETS:
            raise Failed(f"the pool of OVS holds no file of more than {MOST_PACKETS} packets")
        way_in, way_out = self.inputs()
        folder.mkdir()
        run("ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA)
        self.launch("ovsdb-server", f"{folder}/conf.db", f"--remote=p{self.database}", f"--unixctl={folder}/db.ctl")
        machine = bench.machine
        self.vsctl("--no-wait", "init")
        self.vsctl(
            "--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
            f"other_config:pmd-cpu-mask={1 << machine.measured:#x}", f"other_config:dpdk-lcore-mask={1 << machine.control:#x}",
            f"other_config:dpdk-socket-mem={MEMORY}", "other_config:dpdk-extra=--no-pci --iova-mode=va --in-memory",
        )
        self.vswitchd = self.launch(VSWITCHD, self.database, f"--unixctl={folder}/vs.ctl")
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for name, vdev in (("p0", way_in), ("p1", way_out)):
            self.vsctl("add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk", f'options:dpdk-devargs="{vdev}"')
            if error := self.vsctl("get", "Interface", name, "error").strip(' "[]\n'):
                raise Failed(f"OVS says of {vdev}: {error}")
        (self.folder / "flows").write_text("\n".join(policies.openflow(self.mode, "p1", (ROUTER_MAC, NEXT_HOP_MAC))))
        self.ofctl("--names", "replace-flows", "br0", f"{folder}/flows")

    def launch(self, *command):
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(command, env=self.environment, stdout=nothing, stderr=nothing)
        self.processes.insert(0, process)
        deadline = time.monotonic() + 20
        control = next(word.split("=")[1] for word in command if word.startswith("--unixctl"))
        while not os.path.exists(control):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{command[0]} did not start")
            time.sleep(0.05)
        return process

    def vsctl(self, *words):
        return run("ovs-vsctl", f"--db={self.database}", "--timeout=20", *words, env=self.environment)

    def ofctl(self, *words):
        return run("ovs-ofctl", "-O", "OpenFlow14", *words, env=self.environment)

    def sample(self):
        cpu = cpu_seconds(self.vswitchd.pid, "pmd-.*")
        ports = self.ofctl("--names", "dump-ports", "br0")
        count = lambda port, way: int(re.search(rf"port\s+\"?{port}\"?:.*?{way} pkts=(\d+)", ports, re.DOTALL)[1])
        said = run("ovs-appctl", "-t", f"{self.folder}/vs.ctl", "dpif-netdev/pmd-stats-show", env=self.environment)
        cycles = [sum(map(int, re.findall(rf"{kind} cycles: (\d+)", said))) for kind in ("processing", "idle")]
        return Sample(cpu, count("p0", "rx"), count("p1", "tx"), *cycles)

    def close(self):
        for process in self.processes:
            stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)
