"""Traffic, made by the example `traffic` of sluice-worker: files that a pcap device repeats, or live into a device."""

import json
import os
import subprocess
import threading
from dataclasses import dataclass
from queue import Empty, Queue

from machine import Failed, run, stop

# A pcap device holds the whole file in the pool, and its queues, rings and caches want some as well.
SPARE_BUFFERS = 65536


@dataclass(frozen=True)
class Traffic:
    """What is sent, as `traffic` is told it."""

    kind: str = "udp"
    flows: int = 10_000
    # Sent by a core of its own, as ten million flows must be, and new ones.
    live: bool = False
    # Each packet begins a flow.
    new: bool = False
    # Replies go to that address, as they do behind NAT.
    translated: str | None = None

    def words(self):
        words = ["flows", self.flows, "kind", self.kind]
        if self.new:
            words += ["only", "new"]
        if self.translated:
            words += ["translated", self.translated]
        return [str(word) for word in words]


class Files:
    """Traffic in files, made once and kept for all rounds."""

    def __init__(self, program, folder):
        self.program, self.folder, self.made = program, folder, {}

    def get(self, traffic, queues):
        """Paths for so many queues, and how many packets are in them all."""
        if (traffic, queues) not in self.made:
            name = f"{traffic.kind}-{traffic.flows}-{traffic.translated}-{queues}"
            paths = [self.folder / f"{name}.{number}.pcap" for number in range(queues)]
            counts = run(self.program, "file", *traffic.words(), *paths)
            self.made[traffic, queues] = (paths, sum(int(count) for count in counts.split()))
        return self.made[traffic, queues]

    def buffers(self, traffic, queues):
        """Packet buffers that a subject needs which reads them."""
        return self.get(traffic, queues)[1] + SPARE_BUFFERS if not traffic.live else SPARE_BUFFERS


class Generator:
    """Traffic sent live by a core of its own; its devices are there once it is made."""

    def __init__(self, program, traffic, core, to, back=None, queue=0, shrink=None, namespace=None):
        command = [program, "drive", *traffic.words(), "core", str(core), "to", to]
        command += ["from", back, "queue", str(queue)] if back else []
        command += ["shrink", str(shrink)] if shrink else []
        command = ["ip", "netns", "exec", namespace, *command] if namespace else command
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)
        self.lines = Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.line(60)

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self, timeout):
        try:
            line = self.lines.get(timeout=timeout)
        except Empty:
            raise Failed(f"traffic says nothing for {timeout} s") from None
        if line is None:
            raise Failed(f"traffic ended: {self.process.stderr.read()[-300:]}")
        return line

    def wait_until_known(self, timeout=120):
        """Until each flow had a packet each way."""
        self.line(timeout)

    def rate(self, packets):
        """So many packets a second from now on; 0: as many as are taken."""
        self.process.stdin.write(f"rate {packets:.0f}\n")

    def measure(self, seconds):
        """What was sent, came back, and how long that took, in microseconds."""
        self.process.stdin.write(f"measure {seconds}\n")
        return json.loads(self.line(seconds + 30))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            stop(self.process)


def memif(number, path, role):
    """The `vdev` of one end of a memif."""
    if role == "server" and os.path.exists(path):
        os.remove(path)
    return f"net_memif{number},role={role},id=0,socket={path},socket-abstract=no,bsize=2048"
