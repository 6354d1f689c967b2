"""Process aliases and monitor tags, against what Erlang/OTP 25 answers."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Down, Error, Ref, erlang
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=30)) is not erlang.TIMEOUT:
        got.append(message)
    return got


async def end() -> None:
    await erlang.receive()


def test_an_alias_takes_mail_until_unalias() -> None:
    async def body() -> None:
        alias = erlang.alias()
        erlang.send(alias, 1)
        assert await mail() == [1]
        assert [erlang.unalias(alias), erlang.unalias(alias)] == [True, False]
        erlang.send(alias, 2)
        assert await mail() == []

    play(body)


def test_a_reply_alias_takes_one_message() -> None:
    async def body() -> None:
        alias = erlang.alias(reply=True)
        erlang.send(alias, 1)
        erlang.send(alias, 2)
        assert (await mail(), erlang.unalias(alias)) == ([1], False)

    play(body)


def test_the_alias_of_a_monitor_ends_as_its_option_says() -> None:
    async def body() -> None:
        pid = erlang.spawn(end)
        ref = erlang.monitor(pid, alias="demonitor", tag="hello")
        erlang.send(ref, 1)
        erlang.send(pid, "stop")
        assert await mail() == [1, Down(ref, pid, "normal", "hello")]
        erlang.send(ref, 2)
        assert (await mail(), erlang.unalias(ref)) == ([], False)

        pid = erlang.spawn(end)
        ref = erlang.monitor(pid, alias="reply_demonitor")
        erlang.send(ref, 1)
        erlang.send(ref, 2)
        erlang.send(pid, "stop")
        assert (await mail(), erlang.demonitor(ref, info=True)) == ([1], False)

        pid = erlang.spawn(end)
        ref = erlang.monitor(pid, alias="explicit_unalias")
        erlang.demonitor(ref)
        erlang.send(ref, 1)
        assert (await mail(), erlang.unalias(ref)) == ([1], True)

        pid = erlang.spawn(end)
        ref = erlang.monitor(pid, alias="demonitor")
        erlang.unalias(ref)
        erlang.send(ref, "lost")
        erlang.send(pid, "stop")
        assert await mail() == [Down(ref, pid, "normal")]

    play(body)


def test_what_is_no_alias() -> None:
    async def body() -> None:
        wrong: Any = "x"
        with pytest.raises(Error, match="badarg"):
            erlang.unalias(wrong)
        with pytest.raises(Error, match="badarg"):
            erlang.monitor(erlang.self_(), alias="x")
        assert erlang.unalias(Ref()) is False
        erlang.send(Ref(), 1)
        ref = erlang.monitor("nosuch", tag="t", alias="demonitor")
        assert await mail() == [Down(ref, ("nosuch", erlang.NODE), "noproc", "t")]

    play(body)
