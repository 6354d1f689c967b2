"""`erlang:send_after/3` and its kin on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import Error
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Timeout


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def test_timers(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        later, never = erlang.send_after(1200, me, "later"), erlang.send_after(1100, me, "never")
        wrapped = erlang.start_timer(5, me, "wrapped")
        assert 600 <= erlang.read_timer(later) <= 1200
        left = erlang.cancel_timer(never)
        assert left is not False
        assert 500 <= left <= 1100
        assert erlang.cancel_timer(never) is False
        match await erlang.receive(timeout=1000):
            case Timeout(ref, message):
                assert (ref, message) == (wrapped, "wrapped")
        assert await erlang.receive(timeout=10_000) == "later"
        assert erlang.read_timer(later) is False
        assert await erlang.receive(timeout=20) is TIMEOUT

    play(body)


def test_a_timer_outlives_its_setter_and_dies_with_its_pid(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        erlang.spawn(lambda: erlang.send_after(10, me, "from the dead"))
        assert await erlang.receive(timeout=1000) == "from the dead"
        pid = erlang.spawn(forever)
        timer = erlang.send_after(10, pid, "x")
        erlang.exit(pid, "kill")
        assert erlang.cancel_timer(timer) is False
        erlang.send_after(5, "late_name", "found")
        erlang.register("late_name", me)
        assert await erlang.receive(timeout=1000) == "found"

    play(body)


def test_ten_thousand_cancelled_timers_leave_nothing(play: Any) -> None:
    async def body() -> None:
        for _ in range(10_000):
            erlang.cancel_timer(erlang.send_after(60_000, erlang.self_(), "x"))
        assert len(erlang.self_().cell.engine.timers) < 2_000

    play(body)


def test_wrong_times_and_references(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        for set_timer in (erlang.send_after, erlang.start_timer):
            with pytest.raises(Error) as caught:
                set_timer(-1, me, "late")
            assert caught.value.reason == "badarg"
        with pytest.raises(Error) as caught:
            await erlang.sleep(-1)
        assert caught.value.reason == "timeout_value"
        with pytest.raises(Error) as caught:
            await erlang.receive(timeout=-1)
        assert caught.value.reason == "timeout_value"
        ref = erlang.make_ref()
        assert erlang.cancel_timer(ref) is False
        assert erlang.read_timer(ref) is False
        name: Any = "a name"
        with pytest.raises(Error) as caught:
            erlang.process_info(name)
        assert caught.value.reason == "badarg"

    play(body)
