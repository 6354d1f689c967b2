"""Task.async_stream and Task.Supervisor.async_stream: order, concurrency, crashes, timeouts, as in Elixir."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime import Exit, TaskSupervisor, erlang, task_supervisor
from tests.runtime.test_task import double, nothing_left_behind_but


def test_stream_in_order_and_never_more_than_max_concurrency(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        running = most = 0

        async def work(n: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await erlang.sleep(10 - n)
            running -= 1
            return n

        results = [r async for r in task_supervisor.async_stream("tasks", range(9), work, max_concurrency=3)]
        assert results == [("ok", n) for n in range(9)]
        assert most == 3
        results = [
            value
            async for _, value in task_supervisor.async_stream_nolink(
                "tasks", [600, 1, 300], double_after, ordered=False
            )
        ]
        assert results == [1, 300, 600]
        assert nothing_left_behind_but(erlang.whereis("tasks"))

    play(body)


async def double_after(ms: int) -> int:
    await erlang.sleep(ms)
    return ms


def test_stream_reads_its_source_only_as_results_are_taken(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        read: list[int] = []

        def source() -> Iterator[int]:
            for n in range(100):
                read.append(n)
                yield n

        stream = task_supervisor.async_stream_nolink("tasks", source(), double, max_concurrency=2)
        async for _result in stream:
            await erlang.sleep(1)
            assert len(read) <= 3
            break
        del stream, _result
        await erlang.sleep(5)
        assert await task_supervisor.children("tasks") == []  # left early: what ran is stopped
        assert nothing_left_behind_but(erlang.whereis("tasks"))

    play(body)


def test_stream_crash_ends_a_linked_owner_and_is_a_result_otherwise(play: Any) -> None:
    async def crashing(n: int) -> int:
        return 10 // n

    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")

        async def consumer() -> None:
            async for _ in task_supervisor.async_stream("tasks", [1, 0], crashing):
                pass

        pid = erlang.spawn(consumer)
        reason = await erlang.await_down(pid, 1000)
        assert isinstance(reason[0], ZeroDivisionError)
        for stream in (task_supervisor.async_stream_nolink, task_supervisor.async_stream):
            results = [r async for r in stream("tasks", [1, 0, 5], crashing)]  # the body traps exits
            assert [kind for kind, _ in results] == ["ok", "exit", "ok"]
            assert isinstance(results[1][1][0], ZeroDivisionError)
        assert nothing_left_behind_but(erlang.whereis("tasks"))

    play(body)


def test_stream_timeouts(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        results = [
            r
            async for r in task_supervisor.async_stream_nolink(
                "tasks", [1, 5000, 2], double_after, timeout=500, on_timeout="kill_task"
            )
        ]
        assert results == [("ok", 1), ("exit", "timeout"), ("ok", 2)]
        with pytest.raises(Exit) as exit_:
            async for _ in task_supervisor.async_stream_nolink("tasks", [500], double_after, timeout=20):
                pass
        assert exit_.value.reason[0] == "timeout"
        await erlang.sleep(1)
        assert await task_supervisor.children("tasks") == []

    play(body)


@pytest.mark.parametrize(
    ("options", "name"), [({"max_concurrency": 0}, "max_concurrency"), ({"on_timeout": "kill"}, "on_timeout")]
)
def test_a_stream_names_the_option_that_is_wrong(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        task_supervisor.async_stream("tasks", [1], print, **options)


def test_a_stream_without_a_supervisor_and_with_its_inputs(play: Any) -> None:
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
