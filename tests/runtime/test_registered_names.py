"""Names: who may have one, and until when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.core.exits import Error
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, StartError, Stop
from runtime.otp.registry import Registry
from runtime.testing.simulation import Simulation


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def test_a_name_is_free_the_moment_its_holder_dies(play: Any) -> None:
    async def body() -> None:
        registry = Registry()
        pid = erlang.spawn(forever, name="it", link=True)
        registry.register("key", 1, pid)
        with pytest.raises(Error):
            erlang.register("it", erlang.self_())
        with pytest.raises(Error):
            erlang.register("other", pid)
        erlang.exit(pid, "x")
        assert erlang.whereis("it") is None
        assert registry.whereis_name("key") is None
        erlang.register("it", erlang.self_())
        assert erlang.registered() == ["it"]
        erlang.unregister("it")
        with pytest.raises(Error):
            erlang.send("it", 1)

    play(body)


def test_a_name_that_nobody_may_have_starts_no_process(play: Any) -> None:
    async def body() -> None:
        before = erlang.processes()
        with pytest.raises(Error):
            erlang.spawn(erlang.receive, name="undefined")
        assert erlang.processes() == before

    play(body)


def test_a_name_that_is_taken_starts_no_process() -> None:
    with Simulation() as sim:
        sim.spawn(asyncio.sleep, 3600, name="taken")
        before = sim.complete(_count())
        with pytest.raises(Error, match="badarg"):
            sim.spawn(asyncio.sleep, 3600, name="taken")
        assert sim.complete(_count()) == before


async def _count() -> int:
    return len(erlang.processes())


class GivesUpItsName(GenServer):
    def init(self) -> Any:
        erlang.unregister("given_up")
        return Stop("as planned")


def test_an_init_that_gave_up_its_name_fails_with_its_own_reason(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(StartError, match="as planned"):
            await GivesUpItsName.start(name="given_up")

    play(body)
