"""Selective receive on both engines."""

from __future__ import annotations

from typing import Any

from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT


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
