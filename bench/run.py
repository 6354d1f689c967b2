"""One run of the bench, as a benchmark sees it: contestants, rounds, figures; and the alternating rounds."""

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
    """A contestant can't do this; the text says in one line what is missing."""


@dataclass(frozen=True, slots=True)
class Task(Generic[C]):
    """What each contestant does once a round, and the rows that it gives values for; None if it has no such value."""

    rows: tuple[Row, ...]
    measure: Callable[[C], Awaitable[Sequence[float | None]]]


@dataclass(slots=True)
class Run:
    """The state of one run.

    `sockets` and `entries` are sizes of rows, `ledgers` is the directory of filled ledgers, `step` shows progress.
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
        """Notes that a contestant lacks these rows. If this commit lacks one, the run fails."""
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
        """Starts a contestant, for as long as the stack lasts, and adds it to `into`; notes its absence if it does not start."""
        self.figures.declare(rows)
        self.step(f"start of {self.called(name)}")
        try:
            into[name] = stack.enter_context(contestant())
        except FAILURES as error:
            self.lacks(rows, name, error)

    def called(self, name: str) -> str:
        """A contestant's display name."""
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
        """Runs every task with every contestant in each round, in alternating order; the first round is a warm-up.

        `between` is awaited before each task, to keep the other contestants' connections open. A contestant that fails a task is
        excluded from it, and loses its values in the task's rows.
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


# The failures of a contestant. Any other exception is a bug of the bench, and ends the benchmark.
FAILURES = (Lacks, OSError, TimeoutError, AssertionError)
