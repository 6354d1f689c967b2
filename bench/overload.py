"""Ten times the load that the server can bear: what is let in is answered soon, the rest is refused at once.

First the capacity, by clients that wait for each answer; then ten times as much, by one connection a request, by 1,000
kept connections, and by one user who wants it all while another asks for little. Meanwhile /health is asked from
another process. Recovery is the time from the last request until ten in a row are recorded within 100 ms each.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, Final

import httpx
import psutil

from bench.http_load import request
from bench.main_job import PASSWORD, Service
from bench.overload_load import Load, Seen
from bench.row import Row

TIMES: Final = 10
SECONDS: Final = 8.0
CLIENTS: Final = 64  # of the measuring of capacity
KEPT: Final = 1000
USERS: Final = 4
HEALTH_PAUSE: Final = 0.02
SMALL_RATE: Final = 20.0  # requests a second of the user who asks for little


def begin(load: Load) -> subprocess.Popen[str]:
    """Starts a process that sends the load."""
    command = [sys.executable, "-m", "bench.overload_load"]
    sending = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert sending.stdin is not None
    json.dump(dataclasses.asdict(load), sending.stdin)
    sending.stdin.close()
    return sending


def end(sending: subprocess.Popen[str]) -> Seen:
    """What it has seen."""
    assert sending.stdout is not None
    seen = Seen(**json.loads(sending.stdout.read()))
    assert sending.wait() == 0
    return seen


class Health(threading.Thread):
    """Asks for /health again and again: on a kept connection, and on a new one each time."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.address, self.took, self.over = url.partition("//")[2], [], threading.Event()
        self.failed = 0

    def run(self) -> None:
        """Until `over` is set."""
        kept = HTTPConnection(self.address, timeout=10)
        for number in itertools.count():
            if self.over.wait(HEALTH_PAUSE):
                return
            asking = kept if number % 2 else HTTPConnection(self.address, timeout=10)
            began = time.monotonic()
            try:
                asking.request("GET", "/health")
                answer = asking.getresponse()
                self.failed += answer.status != 200
                answer.read()
            except OSError:
                self.failed += 1
            self.took.append(time.monotonic() - began)
            if asking is not kept:
                asking.close()


class Memory(threading.Thread):
    """The most that the server occupies, in MB."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.process, self.most, self.over = psutil.Process(number), 0.0, threading.Event()

    def now(self) -> float:
        """What it occupies."""
        return self.process.memory_info().rss / 1e6

    def run(self) -> None:
        """Until `over` is set."""
        while not self.over.wait(0.05):
            self.most = max(self.most, self.now())


@contextmanager
def watched(service: Service) -> Iterator[tuple[Health, Memory]]:
    """/health and memory while it is entered."""
    health, memory = Health(service.url), Memory(service.process.pid)
    for each in (health, memory):
        each.start()
    try:
        yield health, memory
    finally:
        for each in (health, memory):
            each.over.set()
            each.join()


def share(took: list[float], part: float) -> float:
    """The value below which this part of them lies, in ms; infinite without any."""
    return sorted(took)[min(len(took) - 1, int(len(took) * part))] * 1000 if took else float("inf")


class Bench:
    """The runs against one server."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = int(service.url.rpartition(":")[2])
        self.tokens = [self._token(number) for number in range(USERS)]

    def _token(self, number: int) -> str:
        email = f"bench-{number}@example.com"
        command = [sys.executable, "-m", "api.cli", "user", "create", email, "--password", PASSWORD]
        subprocess.run(command, env=self.service.environment, check=True, stdout=subprocess.DEVNULL)
        sign_in = {"email": email, "password": PASSWORD}
        answer = httpx.post(
            f"{self.service.url}/api/v1/auth/login", json=sign_in, timeout=30, trust_env=False
        )
        return answer.raise_for_status().json()["token"]

    def posts(self, tokens: list[str], close: bool = False) -> list[str]:
        """A POST for each of these users."""
        body = b'{"amount":"12.50","currency":"EUR","description":"one of many"}'
        made = [request("POST", "/api/v1/transactions", body, token).decode() for token in tokens]
        return (
            [each.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1) for each in made] if close else made
        )

    def capacity(self) -> float:
        """Requests a second that are recorded when no more than CLIENTS are under way."""
        load = Load(self.port, self.posts(self.tokens), 1e9, SECONDS / 2, CLIENTS)
        end(begin(load))  # warm
        seen = end(begin(load))
        return len(seen.answers["201"]) / seen.seconds

    def flood(self, what: str, load: Load) -> list[Row]:
        """One line of the table, as rows."""
        with watched(self.service) as (health, memory):
            before = memory.now()
            seen = end(begin(load))
        recovered = self.recovery()
        rows = self._rows(what, seen, health, f"{before:.0f} MB before", memory.most)
        return [*rows, Row(f"{what}: recovery", recovered, "s", mark=3, mark_of="aim")]

    def greedy(self, rate: float) -> list[Row]:
        """One user asks for ten times the capacity, another for SMALL_RATE."""
        small = begin(Load(self.port, self.posts(self.tokens[1:2]), SMALL_RATE, SECONDS, CLIENTS))
        end(begin(Load(self.port, self.posts(self.tokens[:1]), rate, SECONDS - 1, KEPT)))
        seen = end(small)
        accepted = seen.answers.get("201", [])
        return [
            Row("beside a greedy user: accepted", 100 * len(accepted) / seen.offered, "%", mark=99,
                mark_of="aim", more_is_better=True),
            Row("beside a greedy user: p99", share(accepted, 0.99), "ms", mark=1000, mark_of="aim"),
        ]  # fmt: skip

    def recovery(self) -> float:
        """Seconds until ten in a row are recorded within 100 ms each."""
        began, good = time.monotonic(), 0
        headers = {"authorization": f"Bearer {self.tokens[-1]}"}
        with httpx.Client(base_url=self.service.url, headers=headers, timeout=10, trust_env=False) as client:
            while good < 10 and time.monotonic() - began < 60:
                sent = time.monotonic()
                answer = client.post("/api/v1/transactions", json={"amount": "1.00", "currency": "EUR"})
                good = good + 1 if answer.status_code == 201 and time.monotonic() - sent < 0.1 else 0
                if not good:
                    time.sleep(0.02)
                    first = time.monotonic()
                elif good == 1:
                    first = sent
        return first - began

    def _rows(self, what: str, seen: Seen, health: Health, note: str, most: float) -> list[Row]:
        accepted = seen.answers.get("201", [])
        shed = seen.codes.get("overloaded", 0)
        others = {
            status: len(found) for status, found in seen.answers.items() if status not in ("201", "503")
        }
        others |= {code: count for code, count in seen.codes.items() if code != "overloaded"}
        return [
            Row(f"{what}: offered", seen.offered / seen.seconds, "/s", more_is_better=True),
            Row(f"{what}: accepted", len(accepted) / seen.seconds, "/s", more_is_better=True),
            Row(f"{what}: shed", shed / seen.seconds, "/s", note=str(others or "nothing else")),
            Row(f"{what}: accepted, p50", share(accepted, 0.5), "ms"),
            Row(f"{what}: accepted, p99", share(accepted, 0.99), "ms", mark=1000, mark_of="aim"),
            Row(f"{what}: shed, p99", share(seen.answers.get("503", []), 0.99), "ms"),
            Row(f"{what}: /health, p50", share(health.took, 0.5), "ms", note=f"{health.failed} failed"),
            Row(f"{what}: /health, p99", share(health.took, 0.99), "ms", mark=100, mark_of="aim",
                note=f"of {len(health.took)}"),
            Row(f"{what}: most memory", most, "MB", note=note),
        ]  # fmt: skip


def run() -> list[Row]:
    """The answer."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        service = Service(folder)
        try:
            bench = Bench(service)
            capacity = bench.capacity()
            load: dict[str, Any] = {"port": bench.port, "rate": TIMES * capacity, "seconds": SECONDS}
            return [
                Row("capacity", capacity, "POSTs/s", more_is_better=True, note=f"{CLIENTS} clients"),
                *bench.flood(
                    "a connection each", Load(requests=bench.posts(bench.tokens, close=True), **load)
                ),
                *bench.flood(f"{KEPT:,} kept", Load(requests=bench.posts(bench.tokens), kept=KEPT, **load)),
                *bench.greedy(TIMES * capacity),
            ]
        finally:
            service.stop()
