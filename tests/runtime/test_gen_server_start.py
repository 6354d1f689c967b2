"""GenServer: how it starts: results of init, names, start timeouts, links and monitors, continue; on both engines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.core.exits import Exit, Throw
from runtime.core.pid import Pid
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, ExitMessage
from runtime.otp.gen_server import (
    GenServer,
    Ignore,
    NoReply,
    Ok,
    Reply,
    StartError,
    Stop,
    call,
    cast,
    stop,
)
from runtime.otp.registry import Registry
from runtime.testing import simulation
from tests.runtime.test_gen_server import Server


@pytest.mark.parametrize(
    ("result", "error", "exit_"),
    [
        (Stop("no"), "no", "no"),
        (Stop("normal"), "normal", "normal"),
        (Exit("out"), "out", "out"),
        (Throw(Ignore()), None, "normal"),
        (Ignore(), None, "normal"),
        ("nonsense", ("bad_return_value", "nonsense"), ("bad_return_value", "nonsense")),
    ],
)
def test_a_start_that_fails(play: Any, result: Any, error: Any, exit_: Any) -> None:
    async def body() -> None:
        if error is None:
            assert await Server.start_link([], result) is None
        else:
            with pytest.raises(StartError) as failed:
                await Server.start_link([], result)
            assert failed.value.reason == error
        message = await erlang.receive(timeout=10_000)
        assert isinstance(message, ExitMessage)
        assert message.reason == exit_

    play(body)


def test_a_start_that_its_starter_has_cancelled_leaves_no_acknowledgement() -> None:
    class Hesitating(GenServer):
        async def init(self) -> Any:
            await erlang.receive(lambda message: message == "go on")
            return Stop("no")

    async def body() -> None:
        erlang.trap_exit(True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await Hesitating.start_link(name="hesitating")
        (pid,) = erlang.process_info(erlang.self_(), "links")[1]
        erlang.send(pid, "go on")
        assert await erlang.receive() == ExitMessage(pid, "no")

    simulation.play_real(body)


def test_what_init_throws_is_its_result_as_otp_says_it(play: Any) -> None:
    async def body() -> None:
        assert await Server.start([], Throw("ignore")) is None
        with pytest.raises(StartError) as caught:
            await Server.start([], Throw(("stop", "x")))
        assert caught.value.reason == "x"

    play(body)


def test_names_and_via(play: Any) -> None:
    async def body() -> None:
        registry = Registry()
        pid = await Server.start_link([], name="s")
        with pytest.raises(StartError) as taken:
            await Server.start_link([], name="s")
        assert taken.value.reason == ("already_started", pid)
        name = ("via", registry, ("user", 7))
        other = await Server.start_link([], name=name)
        assert registry.lookup(("user", 7)) == [(other, None)]
        assert await call(name, "x") == "x"
        with pytest.raises(StartError):
            await Server.start_link([], name=name)
        await stop(name)
        assert registry.lookup(("user", 7)) == []
        assert await call("s", "y") == "y"

    play(body)


def test_start_timeout_kills_and_leaves_no_message(play: Any) -> None:
    class Slow(GenServer):
        async def init(self) -> None:
            await erlang.sleep(1000)

    async def body() -> None:
        with pytest.raises(StartError) as late:
            await Slow.start_link(timeout=10, name="slow")
        assert late.value.reason == "timeout"
        assert erlang.whereis("slow") is None
        assert await erlang.receive(timeout=10) is TIMEOUT

    play(body)


def test_who_starts_within_no_time_starts_nothing(play: Any) -> None:
    async def body() -> None:
        log: list[Any] = []
        for start in (Server.start_link, Server.start):
            with pytest.raises(StartError, match="timeout"):
                await start(log, Ok(), timeout=0)
        assert log == [] and await erlang.receive(timeout=10) is TIMEOUT

    play(body)


@pytest.mark.parametrize("linked", [True, False])
def test_a_start_is_linked_or_monitored_until_it_is_done(play: Any, linked: bool) -> None:
    class Slow(GenServer):
        async def init(self, tester: Pid) -> None:
            erlang.send(tester, erlang.self_())
            await erlang.receive(lambda message: message == "go")

    async def body() -> None:
        me = erlang.self_()

        async def starter() -> None:
            await (Slow.start_link if linked else Slow.start)(me)
            erlang.send(me, "started")
            await erlang.receive()

        parent = erlang.spawn(starter)
        slow = await erlang.receive()
        links = [slow] if linked else []
        monitors = [] if linked else [slow]
        assert erlang.process_info(parent, ["links", "monitors"]) == [
            ("links", links),
            ("monitors", monitors),
        ]
        erlang.send(slow, "go")
        assert await erlang.receive() == "started"
        assert erlang.process_info(parent, ["links", "monitors"]) == [("links", links), ("monitors", [])]

    play(body)


def test_who_stops_a_server_monitors_it_twice_until_it_has_come_to_that(play: Any) -> None:
    """`proc_lib:stop` does, and `sys:terminate` in it."""

    class Lingering(GenServer):
        def init(self, tester: Pid) -> None:
            self.tester = tester

        async def handle_cast(self, request: Any) -> None:
            await erlang.receive(lambda message: message == "go")

        async def terminate(self, reason: Any) -> None:
            erlang.send(self.tester, "terminating")
            await erlang.receive(lambda message: message == "go")

    async def body() -> None:
        pid = await Lingering.start(erlang.self_())
        cast(pid, "busy")
        stopper = erlang.spawn(stop, pid)
        while erlang.process_info(stopper, "monitors") == ("monitors", []):
            await erlang.sleep(0)
        assert erlang.process_info(stopper, "monitors") == ("monitors", [pid, pid])
        erlang.send(pid, "go")
        assert await erlang.receive() == "terminating"
        assert erlang.process_info(stopper, "monitors") == ("monitors", [pid])
        erlang.send(pid, "go")
        assert await erlang.await_down(stopper, 1000) in ("normal", "noproc")

    play(body)


def test_continue_comes_before_mail_that_waits(play: Any) -> None:
    async def body() -> None:
        log: list[Any] = []
        pid = await Server.start_link(log, Ok(continue_="first"))
        await call(pid, ("return", Reply("r", continue_="next")))
        cast(pid, ("return", NoReply(continue_="again")))
        cast(pid, "later")
        await call(pid, "sync")
        assert log == [
            "init",
            ("continue", "first"),
            ("call", ("return", Reply("r", continue_="next"))),
            ("continue", "next"),
            ("cast", ("return", NoReply(continue_="again"))),
            ("continue", "again"),
            ("cast", "later"),
            ("call", "sync"),
        ]

    play(body)
