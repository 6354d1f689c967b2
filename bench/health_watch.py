"""Asks for /health every few ms, from a process of its own, which no other load delays: `python -m bench.health_watch PORT`.

For each line on standard input it prints the slowest answer since the last one, in ms; one that is still awaited counts for as
long as it has been.
"""

from __future__ import annotations

import sys
import threading
import time
from http.client import HTTPConnection

EVERY = 0.005  # seconds


class Watch:
    """`slowest` is in seconds, `asked` the moment of the request that is under way."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.slowest = 0.0
        self.asked: float | None = None

    def run(self) -> None:
        """For ever."""
        while True:
            self.asked = time.perf_counter()
            self.connection.request("GET", "/health")
            answer = self.connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            self.slowest = max(self.slowest, time.perf_counter() - self.asked)
            self.asked = None
            time.sleep(EVERY)

    def told(self) -> float:
        """The slowest since the last time, in ms."""
        asked = self.asked
        waiting = 0.0 if asked is None else time.perf_counter() - asked
        slowest, self.slowest = max(self.slowest, waiting), 0.0
        return slowest * 1e3


def main(port: int) -> None:
    """The command: until standard input ends."""
    watch = Watch(port)
    threading.Thread(target=watch.run, daemon=True).start()
    for _ in sys.stdin:
        print(watch.told(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
