"""The alternating rounds, with contestants that measure nothing: who is asked when, and what becomes of those who fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench.figures import BEFORE, NOW, Row
from bench.revision import Revision
from bench.run import Lacks, Run, Task

ROW, OTHER = Row("POST", "us CPU"), Row("p50", "ms")
REVISIONS = [Revision(NOW, "new", Path(), "python"), Revision(BEFORE, "old", Path(), "python")]


class Contestant:
    """Gives the values it was told to give; `log` is shared."""

    def __init__(self, name: str, log: list[str], values: Sequence[float | Exception]) -> None:
        self.name, self.log, self.values = name, log, iter(values)

    async def measure(self) -> list[float]:
        self.log.append(self.name)
        value = next(self.values)
        if isinstance(value, Exception):
            raise value
        return [value]


def race(
    now: Sequence[float | Exception], before: Sequence[float | Exception], rounds: int
) -> tuple[Run, list[str]]:
    run, log = Run(REVISIONS, rounds), list[str]()
    contestants = {NOW: Contestant("new", log, now), BEFORE: Contestant("old", log, before)}
    asyncio.run(run.alternate([Task((ROW,), Contestant.measure)], contestants))
    return run, log


def test_rounds_alternate_and_the_first_does_not_count() -> None:
    run, log = race([99.0, 1.0, 2.0, 3.0], [99.0, 4.0, 5.0, 6.0], 3)
    assert log == ["old", "new", "new", "old", "old", "new", "new", "old"]
    assert run.figures.values(ROW, NOW) == [1.0, 2.0, 3.0]
    assert run.figures.values(ROW, BEFORE) == [4.0, 5.0, 6.0]
    assert run.broken == []


def test_an_earlier_commit_without_the_row_is_left_out_and_says_why() -> None:
    run, log = race([9.0, 1.0, 2.0], [Lacks("has no such row")], 2)
    assert log == ["old", "new", "new", "new"]
    assert list(run.figures.missing()) == [(ROW, BEFORE, "has no such row")]
    assert run.figures.median(ROW) == 1.5
    assert run.broken == []


def test_a_failure_in_a_later_round_takes_the_values_before_it_along() -> None:
    run, _ = race([9.0, 1.0, 2.0], [9.0, 3.0, ConnectionResetError("gone")], 2)
    assert run.figures.values(ROW, BEFORE) == []
    assert list(run.figures.missing()) == [(ROW, BEFORE, "gone")]


def test_a_row_that_this_commit_lacks_breaks_the_run() -> None:
    run, _ = race([AssertionError("POST was answered 500")], [9.0, 1.0], 1)
    assert run.broken == ["POST: POST was answered 500"]
    assert run.figures.values(ROW, BEFORE) == [1.0]


def test_a_task_may_give_several_rows_and_have_no_value_for_one() -> None:
    run = Run(REVISIONS[:1], 2)

    async def measure(_: None) -> list[float | None]:
        return [1.0, None]

    asyncio.run(run.alternate([Task((ROW, OTHER), measure)], {NOW: None}))
    assert run.figures.values(ROW, NOW) == [1.0, 1.0]
    assert run.figures.values(OTHER, NOW) == []


def test_connections_of_the_others_are_kept_open_before_each_measurement() -> None:
    run, log = Run(REVISIONS, 1), list[str]()
    contestants = {NOW: Contestant("new", log, [1.0] * 2), BEFORE: Contestant("old", log, [1.0] * 2)}

    async def between() -> None:
        log.append("beat")

    asyncio.run(run.alternate([Task((ROW,), Contestant.measure)], contestants, between=between))
    assert log == ["beat", "old", "beat", "new", "beat", "new", "beat", "old"]


@contextmanager
def absent() -> AbstractContextManager[str]:  # type: ignore[misc]
    raise Lacks("not installed")
    yield ""


@contextmanager
def present() -> AbstractContextManager[str]:  # type: ignore[misc]
    yield "running"


def test_a_peer_that_is_not_installed_is_a_line_and_no_failure() -> None:
    run, running = Run(REVISIONS, 1), dict[str, str]()
    with ExitStack() as stack:
        run.enter(stack, "fastify", [ROW, OTHER], absent, running)
        run.enter(stack, "aiohttp", [ROW, OTHER], present, running)
    assert running == {"aiohttp": "running"}
    assert list(run.figures.missing()) == [
        (ROW, "fastify", "not installed"),
        (OTHER, "fastify", "not installed"),
    ]
    assert run.broken == []
