"""OTP's module `timer`."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Down, Error, erlang, timer
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


def test_timers_of_the_timer_module() -> None:
    async def body() -> None:
        me = erlang.self_()
        for refused in (
            timer.apply_after(-1, print), timer.send_interval(0, me, 1), timer.apply_interval(float("nan"), print),
            timer.exit_after(1, 42, "x"), timer.cancel(1), timer.send_after("1", me, 1),
        ):  # fmt: skip
            assert refused == ("error", "badarg")
        timer.apply_after(5, erlang.send, me, "after")
        _, interval = timer.send_interval(10, me, "tick")
        await erlang.sleep(35)
        assert await mail() == ["after", "tick", "tick", "tick"]
        assert timer.cancel(interval) == ("ok", "cancel")
        await erlang.sleep(50)
        assert await mail() == []
        _, ref = timer.apply_interval(10, erlang.send, me, "again")
        await erlang.sleep(25)
        timer.cancel(ref)
        assert await mail() == ["again", "again"]
        assert (timer.seconds(2), timer.hms(1, 1, 1)) == (2000, 3_661_000)
        elapsed, value = await timer.tc(lambda: 7)
        assert (elapsed >= 0, value) == (True, 7)

    play(body)


def test_repeatedly_waits_for_the_last_one() -> None:
    async def body() -> None:
        me = erlang.self_()

        async def slow() -> None:
            erlang.send(me, erlang.monotonic_time())
            await erlang.sleep(25)

        began = erlang.monotonic_time()
        timer.apply_repeatedly(10, slow)
        await erlang.sleep(70)
        assert [round(at - began) for at in await mail()] == [10, 35, 60]

    play(body)


def test_exit_and_kill_after_and_the_end_of_an_interval() -> None:
    async def body() -> None:
        pid, ref = erlang.spawn_monitor(timer.sleep, 1000)
        other = erlang.spawn(timer.sleep, 1000)
        timer.exit_after(10, other, "late")
        timer.send_interval(5, other, "tick")
        assert await erlang.await_down(other) == "late"
        timer.kill_after(5, pid)
        await erlang.sleep(20)
        assert await mail() == [Down(ref, pid, "killed")]

    play(body)


def test_a_message_after_no_time_is_sent_at_once() -> None:
    async def body() -> None:
        me = erlang.self_()
        _, ref = timer.send_after(0, me, "now")
        erlang.send(me, "next")
        assert await mail() == ["now", "next"]
        assert timer.cancel(ref) == ("ok", "cancel")
        assert timer.send_after(0, ("nobody", erlang.NODE), "lost")[0] == "ok"
        with pytest.raises(Error, match="badarg"):
            timer.send_after(0, "nobody", "refused")
        assert timer.send_after(1, "nobody", "lost")[0] == "ok"

    play(body)
