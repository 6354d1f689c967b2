"""`Task.yield_many/2` with its options, and streams without a supervisor."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Exit, ExitMessage, erlang, task, task_supervisor
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


def test_yield_many_with_a_limit_and_ignore() -> None:
    async def body() -> None:
        async def after(ms: float) -> float:
            await erlang.sleep(ms)
            return ms

        tasks = [task.async_(after, ms) for ms in (30, 10, 20)]
        got = await task.yield_many(tasks, 1000, limit=1)
        assert got == [(tasks[0], None), (tasks[1], ("ok", 10)), (tasks[2], None)]
        got = await task.yield_many([tasks[0], tasks[2]], 15, on_timeout="kill_task")
        assert got == [(tasks[0], None), (tasks[2], ("ok", 20))]
        assert not erlang.is_process_alive(tasks[0].pid)
        left = task.async_(after, 5)
        assert await task.ignore(left) is None
        done = task.async_(after, 0)
        await erlang.sleep(20)
        assert await task.ignore(done) == ("ok", 0)
        # Of the tasks that were not ignored.
        assert all(isinstance(message, ExitMessage) for message in await mail())
        with pytest.raises(ValueError, match="limit"):
            await task.yield_many([], 1, limit=0)

    play(body)


def test_a_stream_without_a_supervisor_and_with_its_inputs() -> None:
    async def body() -> None:
        async def half(number: int) -> float:
            if number == 0:
                raise Exit("zero")
            return number / 2

        stream = task_supervisor.async_stream(
            None, [4, 0, 2], half, max_concurrency=2, zip_input_on_exit=True
        )
        assert [result async for result in stream] == [("ok", 2.0), ("exit", (0, "zero")), ("ok", 1.0)]

    play(body)
