"""Coroutines outside of processes that begin at once (runtime/core/eager_task.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.eager_task import EagerTask, Runner
from runtime.core.exits import Exit
from runtime.core.pid import Pid
from runtime.otp import gen_server
from runtime.otp.gen_server import GenServer, NoReply

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="")


class Echo(GenServer):
    """Answers at once, or when it is told to."""

    def init(self) -> None:
        self.waiting: list[Any] = []

    def handle_call(self, request: Any, from_: Any) -> Any:
        if request == "go":
            for each in self.waiting:
                gen_server.reply(each, "late")
            self.waiting.clear()
            return gen_server.Reply("gone")
        if request == "wait":
            self.waiting.append(from_)
            return NoReply()
        return gen_server.Reply(request)


def run(test: Callable[[Runner, Pid], Coroutine[Any, Any, Any]]) -> None:
    """The test beside an `Echo`, on the product's engine."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        engine = AsyncioEngine(loop).start()
        try:
            echo = await Echo.start()
            assert echo is not None
            await test(Runner(loop), echo)
        finally:
            await engine.stop()

    asyncio.run(asyncio.wait_for(main(), 20))


async def begin(
    runner: Runner, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any], object] = print
) -> Any:
    """What `Runner.begin` returns or raises; as transports do, it is called by a callback of the loop."""
    began = runner.loop.create_future()

    def now() -> None:
        try:
            began.set_result(runner.begin(coroutine, done))
        except ValueError as error:
            began.set_exception(error)

    runner.loop.call_soon(now)
    return await began


async def begun(runner: Runner, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, asyncio.Future[Any]]:
    """The task of a coroutine that has to wait, and a future of it once it has ended."""
    ended = runner.loop.create_future()
    value, task = await begin(runner, coroutine, ended.set_result)
    assert value is None and task is not None
    return task, ended


def test_what_need_not_wait_has_no_task() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def at_once() -> str:
            return "done"

        async def fails() -> None:
            raise ValueError("no")

        assert await begin(runner, at_once()) == ("done", None)
        with pytest.raises(ValueError, match="no"):
            await begin(runner, fails())

    run(test)


def test_calls_of_processes_need_no_task_and_keep_the_context() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work() -> list[Any]:
            VARIABLE.set("mine")
            first = asyncio.current_task()
            answers = [await gen_server.call(echo, number) for number in range(3)]
            return [*answers, VARIABLE.get(), asyncio.current_task() is first]

        task, ended = await begun(runner, work())
        assert isinstance(task, EagerTask) and task not in asyncio.all_tasks()
        assert await ended is task and task.done() and not task.cancelled() and task.exception() is None
        assert task.result() == [0, 1, 2, "mine", True]
        assert VARIABLE.get() == "" and not isinstance(asyncio.current_task(), EagerTask)

    run(test)


def test_all_that_are_answered_together_go_on_behind_the_slice_that_answers() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        order: list[int] = []

        async def work(number: int) -> None:
            await gen_server.call(echo, "wait")
            order.append(number)

        ended = [(await begun(runner, work(number)))[1] for number in range(5)]
        await asyncio.sleep(0)
        callbacks: list[Any] = []
        call_soon = runner.loop.call_soon

        def counted(callback: Any, *args: Any, **options: Any) -> Any:
            if getattr(callback, "__self__", None) is runner:
                callbacks.append(callback)
            return call_soon(callback, *args, **options)

        runner.loop.call_soon = counted  # type: ignore[method-assign]
        assert await gen_server.call(echo, "go") == "gone"
        await asyncio.gather(*ended)
        assert order == [0, 1, 2, 3, 4] and not callbacks

    run(test)


def test_any_other_wait_makes_it_a_task() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work() -> list[Any]:
            VARIABLE.set("mine")
            before = await gen_server.call(echo, "before")
            await asyncio.sleep(0)
            assert asyncio.current_task() in asyncio.all_tasks()
            await asyncio.wait_for(asyncio.sleep(0.001), 10)
            return [before, await gen_server.call(echo, "after"), VARIABLE.get()]

        task, ended = await begun(runner, work())
        outcome = await ended
        assert outcome.result() == ["before", "after", "mine"]
        assert task.done() and task.result() == outcome.result() and task.exception() is None
        assert not task.cancelled() and not task.cancel() and task.get_name() == outcome.get_name()

    run(test)


def test_a_failed_call_raises_where_it_is_awaited() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work() -> Any:
            return await gen_server.call(echo, "wait")

        task, ended = await begun(runner, work())
        await gen_server.stop(echo, "shutdown")
        await ended
        assert isinstance(task.exception(), Exit)
        with pytest.raises(Exit):
            task.result()

    run(test)


def test_cancelling_ends_the_wait_and_the_late_answer_is_dropped() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        cleaned: list[Any] = []

        async def work(awaits: bool) -> None:
            try:
                await gen_server.call(echo, "wait", None)
            finally:
                if awaits:
                    await asyncio.sleep(0)
                cleaned.append(await gen_server.call(echo, "cleaning"))

        for awaits in (False, True):
            task, ended = await begun(runner, work(awaits))
            assert task.cancel() and task.cancelling() == 1
            outcome = await ended
            assert outcome.cancelled() and task.cancelled() and task.done() and not task.cancel()
        assert cleaned == ["cleaning", "cleaning"]
        assert await gen_server.call(echo, "go") == "gone"

    run(test)


def test_a_cancellation_that_comes_with_the_answer_counts() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work() -> Any:
            return await gen_server.call(echo, "wait")

        task, ended = await begun(runner, work())
        await asyncio.sleep(0)
        echoed = gen_server.call(echo, "go")
        task.cancel()
        await echoed
        assert (await ended).cancelled()

    run(test)


def test_it_may_cancel_itself() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work(asleep: bool) -> None:
            current: Any = asyncio.current_task()
            await gen_server.call(echo, "once")
            current.cancel()
            await (asyncio.sleep(10) if asleep else gen_server.call(echo, "twice"))

        async def ends() -> str:
            current: Any = asyncio.current_task()
            await gen_server.call(echo, "once")
            current.cancel()
            return "the end was nearer"

        for coroutine in (work(False), work(True)):
            assert (await (await begun(runner, coroutine))[1]).cancelled()
        assert (await (await begun(runner, ends()))[1]).result() == "the end was nearer"
        await asyncio.sleep(0)  # the cancellation comes too late, and to nobody

    run(test)


def test_timeouts_of_asyncio_work() -> None:
    async def test(runner: Runner, echo: Pid) -> None:
        async def work() -> list[Any]:
            told: list[Any] = []
            try:
                async with asyncio.timeout(0.001):
                    await gen_server.call(echo, "wait")
            except TimeoutError:
                told.append("late")
            async with asyncio.timeout(10):
                told.append(await gen_server.call(echo, "in time"))
            try:
                async with asyncio.timeout(0.001):
                    await gen_server.call(echo, "first")
                    await asyncio.sleep(10)
            except TimeoutError:
                told.append("asleep")
            return told

        _, ended = await begun(runner, work())
        assert (await ended).result() == ["late", "in time", "asleep"]

    run(test)
