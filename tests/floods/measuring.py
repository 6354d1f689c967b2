"""What a flood costs: the memory of the server, and how long another client waits for /health."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

from bench.http_load import request
from tests.floods.clients import Flood, Target

PAUSE = 0.01  # seconds between two questions
RECOVERY = 3.0  # seconds, at most, in which memory may come back


@dataclass(frozen=True, slots=True)
class Cost:
    """Growth of memory at its highest and what stays, in MB; the slowest /health in ms."""

    grown: float
    stays: float
    slowest: float


def ask(port: int, seconds: float) -> float:
    """The slowest /health for so long, in seconds, on one connection. Raises OSError if it is closed."""
    until, worst, raw = time.monotonic() + seconds, 0.0, request("GET", "/health")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        while (before := time.monotonic()) < until:
            client.sendall(raw)
            if b"200 OK" not in client.recv(65_536):
                raise OSError("no 200")
            worst = max(worst, time.monotonic() - before)
            time.sleep(PAUSE)
    return worst


async def measure(
    target: Target, process: psutil.Process, flood: Flood, seconds: float, clients: int
) -> Cost:
    """Floods the server with so many clients for so long."""

    def used() -> float:
        return process.memory_info().rss / 1e6

    before = most = used()
    command = [sys.executable, "-m", "tests.floods.measuring", str(target.port), str(seconds)]
    asking = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert asking.stdout is not None
    await asking.stdout.readline()  # it has begun
    until = time.monotonic() + seconds
    flooding = asyncio.gather(*(flood(target, until) for _ in range(clients)))
    while not flooding.done():
        most = max(most, used())
        await asyncio.sleep(0.05)
    await flooding
    slowest = float((await asking.stdout.read()) or "inf")
    await asking.wait()
    ended = time.monotonic()
    while used() - before > 1 and time.monotonic() - ended < RECOVERY:
        await asyncio.sleep(0.2)
    return Cost(most - before, used() - before, slowest * 1000)


if __name__ == "__main__":
    print("asking", flush=True)
    print(ask(int(sys.argv[1]), float(sys.argv[2])), flush=True)
