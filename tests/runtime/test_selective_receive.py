"""Selective receive on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtime.otp import erlang, task, task_supervisor
from runtime.otp.erlang import TIMEOUT
from runtime.testing.simulation import play as simulate


def test_selective_receive_keeps_the_rest_in_order(play: Any) -> None:
    async def body() -> None:
        for n in range(6):
            erlang.send(erlang.self_(), n)
        assert await erlang.receive(lambda m: m == 3) == 3
        assert await erlang.receive(lambda m: m == 9, timeout=0) is TIMEOUT
        assert await erlang.receive(lambda m: m > 3, timeout=0) == 4
        assert [await erlang.receive(timeout=0) for _ in range(5)] == [0, 1, 2, 5, TIMEOUT]

    play(body)


def test_receive_waits_for_a_match_and_times_out_on_its_own_clock(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        for ms in (2, 4, 6):
            erlang.send_after(ms, me, ms)
        assert await erlang.receive(lambda m: m == 6, timeout=1000) == 6
        before = erlang.monotonic_time()
        erlang.send_after(600, me, "noise")
        # Noise does not start it anew.
        assert await erlang.receive(lambda m: m == "x", timeout=1000) is TIMEOUT
        assert 999 <= erlang.monotonic_time() - before < 1550

    play(body)


class Counted(tuple[Any, ...]):
    """A message that counts how often one of its kind was looked at."""

    looks = 0

    def __len__(self) -> int:
        Counted.looks += 1
        return super().__len__()


TASKS: dict[str, Callable[[], Any]] = {
    "await": lambda: task.await_(task.async_(lambda: 1)),
    "yield": lambda: task.yield_(task.async_(lambda: 1)),
    "shutdown": lambda: task.shutdown(task.async_(idle)),
    "await_many": lambda: task.await_many([task.async_(lambda: 1), task.async_(lambda: 2)]),
    "yield_many": lambda: task.yield_many([task.async_(lambda: 1), task.async_(lambda: 2)]),
    "stream": lambda: collected(task_supervisor.async_stream(None, range(20), lambda item: item)),
}


async def idle() -> None:
    await erlang.receive(lambda _message: False)


async def collected(stream: Any) -> list[Any]:
    return [result async for result in stream]


@pytest.mark.parametrize("name", TASKS)
def test_tasks_do_not_look_at_the_messages_before_them(name: str) -> None:
    async def body() -> None:
        for _ in range(2_000):
            erlang.send(erlang.self_(), Counted(("noise", 1)))
        Counted.looks = 0
        await TASKS[name]()
        assert Counted.looks < 200
        info = erlang.process_info(erlang.self_(), "message_queue_len")
        assert info is not None and info[1] >= 2_000

    simulate(body)
