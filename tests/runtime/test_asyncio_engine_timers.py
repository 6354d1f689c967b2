"""Timers of the asyncio engine wake the loop once for each time something is due, however long it runs."""

from __future__ import annotations

import asyncio

import uvloop

from runtime.core.asyncio_engine import AsyncioEngine

TICKS = 60


def test_a_timer_that_sets_the_next_one_does_not_leave_more_and_more_wake_ups_behind() -> None:
    async def main() -> tuple[int, int]:
        engine = AsyncioEngine()
        wakes = 0
        fire = engine._fire

        def counted() -> None:
            nonlocal wakes
            wakes += 1
            fire()

        engine._fire = counted  # type: ignore[method-assign]
        engine.start()
        ticks = 0
        done = asyncio.Event()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == TICKS:
                done.set()
            else:
                engine.call_later(0.005, tick)

        engine.call_later(0.005, tick)
        async with asyncio.timeout(20):
            await done.wait()
        await engine.stop()
        return ticks, wakes

    ticks, wakes = uvloop.run(main())
    assert ticks == TICKS
    # uvloop's clock has milliseconds: it may wake a little too early, but must not spin until the time has come.
    assert wakes <= 3 * TICKS
