"""What is asked: a file is a question, `ask(run)` measures its rows. `QUESTIONS` has them in the order of the table."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final

from bench.run import Run


@dataclass(frozen=True, slots=True)
class Question:
    """A file of this folder; the slow ones run only when they are named."""

    name: str
    summary: str
    by_default: bool = True

    def ask(self, run: Run) -> None:
        """Measures its rows."""
        importlib.import_module(f"bench.questions.{self.name}").ask(run)


QUESTIONS: Final = (
    Question(
        "requests", "GET /health, POST a transaction: lone, 32 clients, new tokens, users who act rarely"
    ),
    Question("sockets", "connect and join, deliveries, pushes, memory of an idle socket"),
    Question("crowd", "SOCKETS (10,000) at once: joining, idling, told at once, back after a restart"),
    Question("ledger", "history, proofs and start at ENTRIES (100,000) beside 10,000"),
    Question("churn", "memory after a simulated day of users who come and go"),
    Question(
        "runtime",
        "spawn, send, call, restart, memory of a process; beside Erlang and the actor libraries of PyPI",
    ),
    Question(
        "nodes", "two nodes: broadcasts, deliveries, sends, calls; beside Erlang's distribution and Ray"
    ),
    Question(
        "observing", "what a console and Prometheus cost with 10,000 channels (4 minutes)", by_default=False
    ),
    Question(
        "scaling",
        "1, 2 and 4 nodes: CPU a transaction and at rest, memory, growth (4 minutes)",
        by_default=False,
    ),
    Question("overload", "ten times the load that the server can bear (2 minutes)", by_default=False),
)
