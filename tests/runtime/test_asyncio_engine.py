"""How the engine of the product shares its loop (runtime/core/asyncio_engine.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from runtime.core import telemetry
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.scheduling import scheduler
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Reply, call

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="")


def run(test: Callable[[AsyncioEngine], Coroutine[Any, Any, Any]]) -> None:
    async def main() -> None:
        engine = AsyncioEngine().start()
        try:
            await test(engine)
        finally:
            await engine.stop()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_what_a_future_wakes_runs_in_the_callback_of_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may end it between the two.
    monkeypatch.setattr("runtime.core.asyncio_engine.SLICE_SECONDS", 60)

    async def test(engine: AsyncioEngine) -> None:
        future = engine.loop.create_future()
        seen: list[str] = []

        async def other() -> None:
            await erlang.receive()
            seen.append("other")

        async def waits(receiver: Any) -> None:
            VARIABLE.set("mine")
            await future
            erlang.send(receiver, "go")
            seen.append(VARIABLE.get())

        receiver = engine.spawn(other)
        engine.spawn(waits, receiver)
        while future._callbacks is None or not future._callbacks:  # until it waits
            await asyncio.sleep(0)
        future.set_result(None)
        engine.loop.call_soon(lambda: seen.append("the callback after it"))
        while len(seen) < 3:
            await asyncio.sleep(0)
        assert seen == ["mine", "other", "the callback after it"]
        assert VARIABLE.get() == "" and not engine.scheduled

    run(test)


def test_what_follows_a_slice_is_not_lost_when_one_of_them_fails() -> None:
    async def test(engine: AsyncioEngine) -> None:
        done: list[str] = []
        errors: list[Any] = []
        engine.loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))

        def fails() -> None:
            raise ValueError("the first")

        def sends() -> None:
            assert scheduler.after_slice is not None and scheduler.current is not None
            scheduler.after_slice.extend([fails, lambda: done.append("the second")])

        engine.spawn(sends)
        while not done:
            await asyncio.sleep(0)
        assert scheduler.after_slice is None
        with pytest.raises(ValueError, match="the first"):
            raise errors[0]

    run(test)


def test_long_schedule_names_who_holds_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # By a clock that stands still otherwise: on a busy machine others may seem to have held the loop, too.
    time = 0.0
    monkeypatch.setattr("runtime.core.asyncio_engine.perf_counter", lambda: time)

    class Hog(GenServer):
        def handle_call(self, request: Any, from_: Any) -> Any:
            nonlocal time
            time += 0.03
            return Reply("done")

    async def main() -> None:
        seen: list[tuple[Any, Any]] = []
        telemetry.attach(
            "test", ("runtime", "long_schedule"), lambda _e, measured, about: seen.append((measured, about))
        )
        engine = AsyncioEngine(long_schedule=0.01).start()
        try:
            pid = await Hog.start(name="hog")
            assert await call(pid, "hold") == "done"
            await asyncio.sleep(0)
            [(measured, about)] = seen
            assert measured["duration"] >= 0.03
            assert (about["pid"], about["name"]) == (pid, "hog")
            assert engine.long_schedules == 1
        finally:
            telemetry.detach("test")
            await engine.stop()

    asyncio.run(main())
