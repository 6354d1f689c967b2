"""`Registry.lock`: one at a time for each key, also where the function waits."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Registry, erlang
from runtime.testing.simulation import play


@pytest.mark.parametrize("seed", range(20))
def test_one_at_a_time_in_the_order_of_asking(seed: int) -> None:
    registry, log = Registry(), list[Any]()

    async def hold(name: str, key: Any) -> None:
        async def work() -> str:
            log.append(("in", name))
            await erlang.sleep(10)
            log.append(("out", name))
            return name

        assert await registry.lock(key, work) == name

    async def body() -> None:
        pids = []
        for name in "abc":
            pids.append(erlang.spawn(hold, name, "k"))
            await erlang.sleep(1)
        for pid in pids:
            await erlang.await_down(pid)
        assert log == [(what, name) for name in "abc" for what in ("in", "out")]

    play(body, seed=seed)


def test_other_keys_are_free_and_1_is_not_true() -> None:
    registry, log = Registry(), list[Any]()

    async def hold(key: Any) -> None:
        async def work() -> None:
            log.append(key)
            await erlang.sleep(10)

        await registry.lock(key, work)

    async def body() -> None:
        for key in (1, True, 1.0, "k"):
            erlang.spawn(hold, key)
        await erlang.sleep(1)
        assert sorted(map(repr, log)) == ["'k'", "1", "1.0", "True"]

    play(body)


@pytest.mark.parametrize("end", ["kill", "boom"])
def test_whoever_ends_gives_it_back_and_whoever_ends_waiting_is_passed_over(end: str) -> None:
    registry, log = Registry(), list[Any]()

    async def hold(name: str) -> None:
        async def work() -> None:
            log.append(name)
            await erlang.receive()

        await registry.lock("k", work)

    async def body() -> None:
        first, second, third = (erlang.spawn(hold, name) for name in "abc")
        await erlang.sleep(1)
        pids = {"a": first, "b": second, "c": third}
        holder = pids.pop(log[0])
        waiting, last = pids.values()
        erlang.exit(waiting, end)
        erlang.exit(holder, end)
        await erlang.sleep(1)
        assert len(log) == 2 and erlang.is_process_alive(last)
        erlang.exit(last, end)
        await erlang.sleep(1)
        assert await registry.lock("k", lambda: "free") == "free"

    play(body)


def test_an_exception_gives_it_back() -> None:
    registry = Registry()

    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            await registry.lock("k", lambda: 1 / 0)
        assert await registry.lock("k", lambda: 7) == 7

    play(body)
