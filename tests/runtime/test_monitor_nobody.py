"""A monitor on what is dead already, held against Erlang/OTP 25.

Each row was asked of `erl`: monitor a dead pid (or a name that is free), do something, then look at all mail without waiting
and `demonitor` with `info`, or the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import pytest

from runtime import Down, ExitMessage, erlang
from runtime.core.pid import Pid
from runtime.otp import gen_server

DOWN = "noproc"


async def end() -> None:
    await erlang.receive()


async def all_mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message.reason if isinstance(message, Down | ExitMessage) else message)
    return got


def nothing(dead: Pid, live: Pid) -> None:
    pass


def send_to_itself(dead: Pid, live: Pid) -> None:
    erlang.send(erlang.self_(), "a")


def send_to_others(dead: Pid, live: Pid) -> None:
    erlang.send(live, "a")
    erlang.send(dead, "a")


def monitor_the_dead(dead: Pid, live: Pid) -> None:
    erlang.monitor(dead)


def monitor_the_living(dead: Pid, live: Pid) -> None:
    erlang.monitor(live)


def look_around(dead: Pid, live: Pid) -> None:
    assert not erlang.is_process_alive(dead) and erlang.whereis("nobody") is None
    erlang.process_info(erlang.self_(), "links")
    erlang.cancel_timer(erlang.send_after(1000, erlang.self_(), "late"))
    erlang.spawn(end)
    erlang.link(live)
    erlang.unlink(live)


def signal_the_dead(dead: Pid, live: Pid) -> None:
    erlang.exit(dead, "normal")


async def look_for_mail(dead: Pid, live: Pid) -> None:
    assert await erlang.receive(lambda message: message == "other", timeout=0) is erlang.TIMEOUT


async def wait(dead: Pid, live: Pid) -> None:
    assert await erlang.receive(lambda message: message == "other", timeout=10) is erlang.TIMEOUT


async def call(dead: Pid, live: Pid) -> None:
    class Server(gen_server.GenServer):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return gen_server.Reply(request)

    assert await gen_server.call(await Server.start(), 1) == 1


# what is done, then for a pid: mail and demonitor, for a name the same, for a pid: demonitor and mail
ROWS: list[tuple[Callable[..., Any], Any, Any, Any]] = [
    (nothing, ([], True), ([DOWN], False), (True, [])),
    (send_to_itself, (["a"], True), ([DOWN, "a"], False), (True, ["a"])),
    (send_to_others, ([], True), ([DOWN], False), (True, [])),
    (monitor_the_dead, ([DOWN], False), ([DOWN], False), (True, [DOWN])),
    (monitor_the_living, ([DOWN], False), ([DOWN], False), (True, [])),
    (signal_the_dead, ([DOWN], False), ([DOWN], False), (True, [])),
    (look_around, ([], True), ([DOWN], False), (True, [])),
    (look_for_mail, ([], True), ([DOWN], False), (True, [])),
    (wait, ([DOWN], False), ([DOWN], False), (False, [DOWN])),
    (call, ([DOWN], False), ([DOWN], False), (False, [DOWN])),
]


async def dead_and_live() -> tuple[Pid, Pid]:
    dead, ref = erlang.spawn_monitor(lambda: None)
    await erlang.receive(lambda message: isinstance(message, Down) and message.ref is ref)
    return dead, erlang.spawn(end)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].__name__)
def test_the_down_of_nobody_comes_when_otps_does(play: Callable[..., Any], row: Any) -> None:
    do, pid_then_mail, name_then_mail, pid_then_demonitor = row

    async def case(name: str | None, mail_first: bool) -> Any:
        dead, live = await dead_and_live()
        ref = erlang.monitor(dead if name is None else name)
        done = do(dead, live)
        if isawaitable(done):
            await done
        if mail_first:
            mail = await all_mail()
            return mail, erlang.demonitor(ref, info=True)
        found = erlang.demonitor(ref, info=True)
        return found, await all_mail()

    async def body() -> None:
        for name, mail_first, expected in (
            (None, True, pid_then_mail),
            ("nobody", True, name_then_mail),
            (None, False, pid_then_demonitor),
        ):
            erlang.spawn(run, name, mail_first, erlang.self_())
            result = await erlang.receive()
            assert result == ("result", expected), (name, mail_first)

    async def run(name: str | None, mail_first: bool, to: Pid) -> None:
        erlang.send(to, ("result", await case(name, mail_first)))

    play(body)


def test_a_name_that_is_free_is_found_until_a_receive_looks(play: Callable[..., Any]) -> None:
    async def body() -> None:
        ref = erlang.monitor("nobody")
        assert erlang.process_info(erlang.self_(), "monitors") == ("monitors", ["nobody"])
        assert erlang.demonitor(ref, info=True) is True
        assert await all_mail() == []
        ref = erlang.monitor("nobody")
        assert isinstance(await erlang.receive(), Down)
        assert erlang.demonitor(ref, info=True) is False
        assert erlang.process_info(erlang.self_(), "monitors") == ("monitors", [])

    play(body)


def test_an_alias_of_a_dead_pid_takes_mail_until_its_owner_waits(play: Callable[..., Any]) -> None:
    async def body() -> None:
        dead, _ = await dead_and_live()
        for alias, mail in (
            ("demonitor", ["hello"]),
            ("explicit_unalias", ["hello"]),
            ("reply_demonitor", ["hello"]),
        ):
            ref = erlang.monitor(dead, alias=alias)
            erlang.send(ref, "hello")
            assert await all_mail() == mail
            erlang.demonitor(ref, flush=True)
            erlang.unalias(ref)
        ref = erlang.monitor(dead, alias="reply_demonitor")
        erlang.send(ref, "hello")
        assert await erlang.receive(timeout=30) == "hello"
        assert await erlang.receive(timeout=30) is erlang.TIMEOUT  # the reply has taken the monitor off

    play(body)


def test_who_dies_at_once_hears_nothing_more(play: Callable[..., Any]) -> None:
    async def monitors(dead: Pid) -> None:
        erlang.monitor(dead)
        erlang.exit(erlang.self_(), "boom")
        raise AssertionError("it goes on")

    async def body() -> None:
        dead, _ = await dead_and_live()
        pid, ref = erlang.spawn_monitor(monitors, dead)
        assert await erlang.receive() == Down(ref, pid, "boom")

    play(body)


def test_a_server_hears_between_two_callbacks(play: Callable[..., Any]) -> None:
    class Server(gen_server.GenServer):
        def init(self, dead: Pid, owner: Pid) -> None:
            self.owner = owner
            self.ref = erlang.monitor(dead)

        def handle_info(self, message: Any) -> None:
            erlang.send(self.owner, message)

        def handle_cast(self, dead: Any) -> None:
            for _ in range(3):
                erlang.monitor(dead)

    async def body() -> None:
        dead, _ = await dead_and_live()
        pid = await Server.start(dead, erlang.self_())
        gen_server.cast(pid, dead)
        reasons = [(await erlang.receive()).reason for _ in range(4)]
        assert reasons == ["noproc"] * 4
        assert erlang.process_info(pid, "monitors") == ("monitors", [])

    play(body)


def test_who_traps_no_more_dies_of_the_exit_it_has_not_heard(play: Callable[..., Any]) -> None:
    async def body() -> None:
        async def sends_itself_one(look: bool) -> Any:
            erlang.trap_exit(True)
            erlang.exit(erlang.self_(), "boom")
            mail = await all_mail() if look else None
            erlang.trap_exit(False)
            erlang.send(owner, (look, mail))  # its code runs on until it waits
            await erlang.receive(timeout=10)

        owner = erlang.self_()
        for look, mail, reason in ((False, None, "boom"), (True, ["boom"], "normal")):
            pid, ref = erlang.spawn_monitor(sends_itself_one, look)
            assert await erlang.receive() == (look, mail)
            assert await erlang.receive() == Down(ref, pid, reason)

    play(body)


@pytest.mark.parametrize(
    ("handles", "is_listed"),
    [
        (lambda: None, True),
        (lambda: erlang.whereis("nobody"), True),
        (lambda: erlang.receive(timeout=0), False),
        (lambda: erlang.is_process_alive(erlang.spawn(end)), False),
        (lambda: erlang.send(erlang.self_(), "later"), False),
    ],
    ids=["nothing", "whereis", "receive", "is_process_alive", "send to itself"],
)
def test_a_monitor_of_a_free_name_is_listed_until_its_signal_is_handled(
    play: Any, handles: Callable[[], Any], is_listed: bool
) -> None:
    async def body() -> None:
        erlang.monitor("nobody")
        done = handles()
        if isawaitable(done):
            await done
        assert erlang.process_info(erlang.self_(), "monitors") == (
            "monitors",
            ["nobody"] if is_listed else [],
        )

    play(body)
