"""Requests /health every few ms, from a process of its own, which no other load delays: `python -m bench.health_watch PORT`.

For each line on standard input it prints the slowest answer since the previous line, in ms; a request that is still waiting
counts with its time so far.
"""

from __future__ import annotations

import sys
import threading
import time
from http.client import HTTPConnection

EVERY = 0.005  # seconds


class Watch:
    """The requests and their slowest answer, in seconds. `sent_at` is the time of the request that is under way."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.slowest = 0.0
        self.sent_at: float | None = None

    def run(self) -> None:
        """Requests for ever."""
        while True:
            self.sent_at = time.perf_counter()
            self.connection.request("GET", "/health")
            answer = self.connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            self.slowest = max(self.slowest, time.perf_counter() - self.sent_at)
            self.sent_at = None
            time.sleep(EVERY)

    def take_slowest(self) -> float:
        """The slowest answer since the last call, in ms."""
        sent_at = self.sent_at
        waiting = 0.0 if sent_at is None else time.perf_counter() - sent_at
        slowest, self.slowest = max(self.slowest, waiting), 0.0
        return slowest * 1e3


def main(port: int) -> None:
    """The command: until standard input ends."""
    watch = Watch(port)
    threading.Thread(target=watch.run, daemon=True).start()
    for _ in sys.stdin:
        print(watch.take_slowest(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
