"""Python inside of processes: asyncio, cancellation, clean-up of the killed, context variables."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.otp import erlang


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def test_asyncio_inside_a_process(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        done: list[int] = []

        async def part(n: int) -> None:
            await asyncio.sleep(0.2 * n)
            done.append(n)

        async with asyncio.TaskGroup() as group:
            for n in (3, 1, 2):
                group.create_task(part(n))
        assert done == [1, 2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await erlang.receive()  # a receive can be cancelled too
        erlang.send(erlang.self_(), "still here")
        assert await erlang.receive(timeout=10_000) == "still here"

    play(body)


def test_the_killed_release_what_they_hold(play: Any) -> None:
    async def body() -> None:
        log: list[str] = []

        class Lock:
            async def __aenter__(self) -> None:
                log.append("taken")

            async def __aexit__(self, *_: Any) -> None:
                await asyncio.sleep(0.001)
                log.append("released")

        async def holder(wait: Any) -> None:
            async with Lock():
                await wait()

        for wait in (forever, lambda: asyncio.sleep(10), lambda: erlang.sleep(10_000)):
            pid = erlang.spawn(holder, wait)
            await erlang.sleep(1)
            erlang.exit(pid, "kill")
            assert not erlang.is_process_alive(pid)
            for _ in range(2000):  # its way out takes a little while
                if log[-1] == "released":
                    break
                await erlang.sleep(5)
        assert log == ["taken", "released"] * 3

    play(body)


def test_a_process_that_swallows_its_cancellation_is_dead_all_the_same(play: Any) -> None:
    async def body() -> None:
        async def stubborn() -> None:
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    continue

        pid = erlang.spawn(stubborn)
        await erlang.sleep(1)
        erlang.exit(pid, "kill")
        await erlang.sleep(5)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_context_variables_stay_in_their_process(play: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def body() -> None:
        seen: list[str] = []

        async def setter(value: str) -> None:
            variable.set(value)
            await erlang.sleep(1)
            seen.append(variable.get())

        erlang.spawn(setter, "a")
        erlang.spawn(setter, "b")
        await erlang.sleep(10)
        assert sorted(seen) == ["a", "b"]
        assert variable.get() == "unset"

    play(body)


def test_a_process_that_cancels_itself_is_cancelled_where_it_waits_next(play: Any) -> None:
    async def cancels_itself() -> str:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        try:
            await erlang.receive(timeout=10_000)
        except asyncio.CancelledError:
            return "cancelled"
        return "waited"

    assert play(cancels_itself) == "cancelled"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's word on such code
def test_code_that_catches_whatever_ends_it_does_not_hold_the_engine(play: Any) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await erlang.receive()
            except BaseException:
                pass

    async def body() -> str:
        pid, ref = erlang.spawn(stubborn, monitor=True)
        await erlang.sleep(1)
        erlang.exit(pid, "kill")
        await erlang.receive(lambda message: getattr(message, "ref", None) is ref)
        await erlang.sleep(1)
        return "went on"

    assert play(body) == "went on"


def test_stop_waits_for_what_the_killed_clean_up() -> None:
    cleaned: list[str] = []

    async def holder() -> None:
        try:
            await erlang.receive()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append("done")

    async def main() -> None:
        engine = AsyncioEngine().start()
        engine.spawn(holder)
        await asyncio.sleep(0.01)
        await engine.stop()

    asyncio.run(main())
    assert cleaned == ["done"]
