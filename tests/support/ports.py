"""Ports of the loopback address for programs that can't be told to take one by themselves, or must come back where they were."""

from __future__ import annotations

import os
import random
import re
import socket
from typing import Final

# Below those that the kernel gives to connections: while a server is away, a client that connects to it again and again could be
# given the very port, and reach itself.
FIRST: Final = 20_000
EACH: Final = 1_000  # for each of the processes that run tests at the same time
_given: set[int] = set()


def free_port() -> int:
    """One that nobody listens at, and that no test of this run has been given before."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % 12
    while True:
        port = FIRST + worker * EACH + random.randrange(EACH)
        if port in _given:
            continue
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
