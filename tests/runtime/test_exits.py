"""How processes end: reasons, exit signals, what a reason keeps and shows."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from runtime.core import reports
from runtime.core.exits import NEWEST, OLDEST, Error, Exit, Stack, Throw
from runtime.otp import erlang, timer
from runtime.otp.erlang import TIMEOUT, Down, ExitMessage
from runtime.otp.gen_server import GenServer, Stop
from runtime.otp.state_machine import InitialState, StateMachine
from runtime.testing.simulation import Simulation


async def idle() -> None:
    await erlang.receive(lambda _message: False)


def ending(how: Any) -> Any:
    def body() -> None:
        if isinstance(how, BaseException):
            raise how

    return body


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (None, "normal"),
        (Exit("shutdown"), "shutdown"),
        (Exit(("shutdown", 1)), ("shutdown", 1)),
        (Exit("kill"), "kill"),
    ],
)
def test_reasons_without_a_stack(play: Any, how: Any, reason: Any) -> None:
    async def body() -> None:
        pid, ref = erlang.spawn_monitor(ending(how))
        assert await erlang.receive(timeout=1000) == Down(ref, pid, reason)

    play(body)


@pytest.mark.parametrize(
    ("how", "term"), [(Error("badarg"), "badarg"), (Throw("x"), ("nocatch", "x")), (SystemExit(3), None)]
)
def test_reasons_with_a_stack(play: Any, how: Any, term: Any) -> None:
    async def body() -> None:
        erlang.spawn_link(ending(how))
        reason = (await erlang.receive(timeout=1000)).reason
        assert reason[0] == (how if term is None else term)
        assert isinstance(reason[1], Stack)
        assert "in body" in str(reason[1])

    play(body)


@pytest.mark.parametrize("reason", ["normal", "kill", "shutdown", ("shutdown", 1), "boom"])
@pytest.mark.parametrize("trap", [True, False])
def test_exit_signals(play: Any, reason: Any, trap: bool) -> None:
    async def body() -> None:
        seen: list[Any] = []

        async def target() -> None:
            seen.append(await erlang.receive())

        pid = erlang.spawn(target, trap_exit=trap)
        ref = erlang.monitor(pid)
        await erlang.sleep(1)
        erlang.exit(pid, reason)
        me = erlang.self_()
        if reason == "kill":
            assert await erlang.receive(timeout=1000) == Down(ref, pid, "killed")
        elif trap:
            assert await erlang.receive(timeout=1000) == Down(ref, pid, "normal")
            assert seen == [ExitMessage(me, reason)]
        elif reason == "normal":
            assert await erlang.receive(timeout=5) is TIMEOUT
        else:
            assert await erlang.receive(timeout=1000) == Down(ref, pid, reason)

    play(body)


def test_exit_to_oneself_ends_the_code_there_and_runs_its_finally(play: Any) -> None:
    async def body() -> None:
        log: list[str] = []

        async def suicide() -> None:
            try:
                erlang.exit(erlang.self_(), "bye")
                log.append("never")
            finally:
                log.append("finally")

        pid = erlang.spawn(suicide)
        assert await erlang.await_down(pid, 1000) == "bye"
        assert log == ["finally"]

    play(body)


class Unshowable:
    """Neither repr nor str nor == work."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no eq")


def test_messages_and_reasons_that_cannot_be_shown_do_no_harm(play: Any) -> None:
    class Server(GenServer):
        def handle_info(self, message: Any) -> Any:
            return Stop(message)

    async def body() -> None:
        pid = await Server.start_link()
        erlang.send(pid, Unshowable())
        reason = (await erlang.receive(timeout=1000)).reason
        assert type(reason) is Unshowable
        for reason in (("shutdown", Unshowable()), "", Unshowable()):
            pid = erlang.spawn_link(ending(Exit(reason)))
            assert (await erlang.receive(timeout=1000)).reason is reason

    play(body)


class Big:
    pass


def test_a_crash_in_a_task_group_says_what_failed_and_keeps_no_locals(play: Any) -> None:
    kept: list[weakref.ref[Big]] = []

    async def fails() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        raise ValueError("no such account")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    async def body() -> None:
        pid = erlang.spawn(both)
        reason = await erlang.await_down(pid)
        assert "ValueError: no such account" in reports.describe(reason)
        gc.collect()
        assert kept and kept[0]() is None
        assert isinstance(reason[0], ExceptionGroup)

    play(body)


def test_a_reason_keeps_no_locals_of_its_cause_nor_of_what_was_handled_then(play: Any) -> None:
    kept: list[weakref.ref[Big]] = []

    def fails(error: type[Exception]) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        raise error

    def both() -> None:
        try:
            fails(KeyError)
        except KeyError:
            try:
                fails(ValueError)
            except ValueError as error:
                cause = error
            raise RuntimeError from cause

    async def body() -> None:
        reason = await erlang.await_down(erlang.spawn(both))
        gc.collect()
        assert [each() for each in kept] == [None, None]
        assert isinstance(reason[0], RuntimeError)

    play(body)


class Interrupted(GenServer):
    def handle_cast(self, request: Any) -> None:
        raise KeyboardInterrupt


class InterruptedMachine(StateMachine):
    def init(self) -> InitialState:
        return InitialState("only")

    def only(self, event: Any, content: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("behaviour", [Interrupted, InterruptedMachine])
def test_ctrl_c_in_a_callback_ends_the_program_not_the_server(behaviour: type[GenServer]) -> None:
    with Simulation() as sim:
        pid = sim.start(behaviour)
        sim.cast(pid, "go")
        with pytest.raises(KeyboardInterrupt):
            sim.run()


def test_a_stack_of_a_recursion_has_a_bounded_length() -> None:
    def down(left: int) -> bool:
        if not left:
            raise ValueError
        return any(down(left - 1) for _ in (1,))

    try:
        down(100)
    except ValueError as error:
        shown = str(Stack(error.__traceback__))
    assert shown.count(", in ") == OLDEST + NEWEST
    assert "(162 calls left out)" in shown and shown.endswith("raise ValueError\n")


def test_normal_from_outside_of_processes_ends_nobody(play: Any) -> None:
    """As from any other process; only a process that sends it to itself ends by it."""

    async def body() -> None:
        pid, ref = erlang.spawn(idle, monitor=True)
        timer.exit_after(1, pid, "normal")
        await erlang.sleep(5)
        assert erlang.is_process_alive(pid)
        timer.exit_after(1, pid, "shutdown")
        assert (await erlang.receive(timeout=1000)) == erlang.Down(ref, pid, "shutdown")

        async def ends_itself() -> None:
            erlang.exit(erlang.self_(), "normal")
            await idle()

        pid, ref = erlang.spawn(ends_itself, monitor=True)
        assert (await erlang.receive(timeout=1000)) == erlang.Down(ref, pid, "normal")

    play(body)
