#!/usr/bin/env python3
"""Many UDP flows at once: `flows.py serve PORT` echoes, `flows.py ask ADDRESS PORT FLOWS` sends on that many sockets.

Each flow asks again, up to five times, until it was answered twice: the second answer is of an established flow. Prints
`answered N of FLOWS`; exit code 1 if some were not.
"""
import selectors
import socket
import sys
import time

AT_ONCE = 100
TRIES = 5
PATIENCE = 2.0


def serve(port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as echo:
        echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        echo.bind(("::", port))
        while True:
            data, peer = echo.recvfrom(2048)
            echo.sendto(data, peer)


def ask(address, port, flows):
    """Flows that were answered twice, in batches that no queue on the way overflows with."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answered = 0
    for first in range(0, flows, AT_ONCE):
        answered += ask_some(family, (address, port), min(AT_ONCE, flows - first))
    return answered


def ask_some(family, to, flows):
    done = 0
    with selectors.DefaultSelector() as ready:
        left = {}
        for _ in range(flows):
            flow = socket.socket(family, socket.SOCK_DGRAM)
            flow.setblocking(False)
            flow.connect(to)
            ready.register(flow, selectors.EVENT_READ)
            left[flow] = 2
        for _ in range(TRIES):
            for flow in left:
                flow.send(b"flow")
            until = time.monotonic() + PATIENCE
            while left and time.monotonic() < until:
                for key, _ in ready.select(0.1):
                    flow = key.fileobj
                    flow.recv(2048)
                    left[flow] -= 1
                    if left[flow]:
                        flow.send(b"flow")
                    else:
                        done += 1
                        del left[flow]
                        ready.unregister(flow)
                        flow.close()
            if not left:
                break
        for flow in left:
            flow.close()
    return done


def main():
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    flows = int(sys.argv[4])
    answered = ask(sys.argv[2], int(sys.argv[3]), flows)
    print(f"answered {answered} of {flows}")
    return 0 if answered == flows else 1


sys.exit(main())
