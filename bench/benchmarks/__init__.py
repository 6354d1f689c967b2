"""The benchmarks: each file has a function `benchmark(run)` that measures its rows. `BENCHMARKS` is in the table's order."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final

from bench.run import Run


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A file of this package; the slow ones run only if they are named."""

    name: str
    summary: str
    by_default: bool = True

    def measure(self, run: Run) -> None:
        """Measures its rows."""
        importlib.import_module(f"bench.benchmarks.{self.name}").benchmark(run)


BENCHMARKS: Final = (
    Benchmark("requests", "GET /health, POST a transaction: 1 client, 32 clients, new tokens, rare users"),
    Benchmark("sockets", "connect and join, deliveries, pushes, memory of an idle socket"),
    Benchmark(
        "crowd", "SOCKETS (10,000) at once: joining, idling, a broadcast, reconnecting after a restart"
    ),
    Benchmark("ledger", "history, proofs and start at ENTRIES (100,000) beside 10,000"),
    Benchmark("churn", "memory after a simulated day of users who come and go"),
    Benchmark(
        "runtime",
        "spawn, send, call, restart, memory of a process; beside Erlang and the actor libraries of PyPI",
    ),
    Benchmark(
        "nodes", "two nodes: broadcasts, deliveries, sends, calls; beside Erlang's distribution and Ray"
    ),
    Benchmark(
        "observing", "what a console and Prometheus cost with 10,000 channels (4 minutes)", by_default=False
    ),
    Benchmark(
        "scaling",
        "1, 2 and 4 nodes: CPU a transaction and at rest, memory, growth (4 minutes)",
        by_default=False,
    ),
    Benchmark("overload", "ten times the server's capacity (2 minutes)", by_default=False),
)
