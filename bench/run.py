"""One run of the bench, as a question sees it: who takes part, how often, where values go; and the alternating rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from bench.figures import BEFORE, NOW, Figures, Row
from bench.revision import Revision

PATIENCE = 300.0  # seconds for one contestant's task in one round; only a failure takes all of it
C = TypeVar("C")
Step = Callable[[str], None]


class Lacks(Exception):
    """A contestant has no such thing; the text says what, in one line."""


@dataclass(frozen=True, slots=True)
class Task(Generic[C]):
    """What each contestant does once a round, and the rows whose values that gives; None where it has no such value."""

    rows: tuple[Row, ...]
    measure: Callable[[C], Awaitable[Sequence[float | None]]]


@dataclass(slots=True)
class Run:
    """What a question is given.

    `sockets` and `entries` are sizes of its rows, `ledgers` is where filled ledgers are kept, `step` tells the person who waits.
    """

    revisions: list[Revision]
    rounds: int = 5
    sockets: int = 10_000
    entries: int = 100_000
    ledgers: Path | None = None
    figures: Figures = field(default_factory=Figures)
    step: Step = lambda _text: None
    broken: list[str] = field(default_factory=list)

    def lacks(self, rows: Sequence[Row], contestant: str, error: BaseException) -> None:
        """Notes that a contestant has no such rows. That this commit lacks one breaks the run."""
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        for row in rows:
            self.figures.lacks(row, contestant, reason)
        if contestant == NOW:
            self.broken.append(f"{rows[0].what}: {reason}")

    def enter(
        self,
        stack: ExitStack,
        name: str,
        rows: Sequence[Row],
        contestant: Callable[[], AbstractContextManager[C]],
        into: dict[str, C],
    ) -> None:
        """Starts a contestant until the stack ends and puts it `into` those that run; notes its absence if it does not start."""
        self.figures.declare(rows)
        self.step(f"start of {self.called(name)}")
        try:
            into[name] = stack.enter_context(contestant())
        except FAILURES as error:
            self.lacks(rows, name, error)

    def called(self, name: str) -> str:
        """A contestant's name for people."""
        return next((each.label for each in self.revisions if each.name == name), name)

    @property
    def before(self) -> str | None:
        """The earlier commit's label; None without one."""
        return next((each.label for each in self.revisions if each.name == BEFORE), None)

    async def alternate(
        self,
        tasks: Sequence[Task[C]],
        contestants: Mapping[str, C],
        rounds: int | None = None,
        warm_up: bool = True,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Every task by every contestant in each round, the order turned round each time; first a round that does not count.

        `between` is awaited before each of them, as what keeps the others' connections open. Whoever fails at a task lacks its
        rows, is left out of it from then on, and loses what it had there.
        """
        self.figures.declare(row for task in tasks for row in task.rows)
        out: set[tuple[int, str]] = set()
        counted = self.rounds if rounds is None else rounds
        for number in range(0 if warm_up else 1, counted + 1):
            names = list(contestants) if number % 2 else list(reversed(contestants))
            for at, task in enumerate(tasks):
                for name in names:
                    if (at, name) in out:
                        continue
                    which = f"round {number} of {counted}" if number else "warm-up"
                    self.step(f"{task.rows[0].what}: {self.called(name)}, {which}")
                    if between is not None:
                        await between()
                    try:
                        async with asyncio.timeout(PATIENCE):
                            values = await task.measure(contestants[name])
                    except FAILURES as error:
                        out.add((at, name))
                        self.lacks(task.rows, name, error)
                        continue
                    for row, value in zip(task.rows, values, strict=True):
                        if number and value is not None:
                            self.figures.add(row, name, value)


# What a contestant's failure looks like from here. Anything else is a fault of the bench, and ends it.
FAILURES = (Lacks, OSError, TimeoutError, AssertionError)
