"""Heavy steps take turns: one of them in each turn of the loop, in order, whoever else gives up."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from runtime.core import turns


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_one_step_in_each_turn_of_the_loop(run: object) -> None:
    steps: list[tuple[int, int]] = []
    iteration = 0

    async def main() -> None:
        nonlocal iteration

        def count() -> None:
            nonlocal iteration
            iteration += 1
            loop.call_soon(count)

        async def step(name: int) -> None:
            await turns.take()
            steps.append((iteration, name))

        loop = asyncio.get_running_loop()
        loop.call_soon(count)
        waiting = [asyncio.ensure_future(step(name)) for name in range(20)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        await asyncio.wait(waiting)
        await step(99)  # the line was empty in between

    run(main())  # type: ignore[operator]
    assert [name for _, name in steps] == [*range(3), *range(4, 20), 99]
    assert len({at for at, _ in steps}) == len(steps)
