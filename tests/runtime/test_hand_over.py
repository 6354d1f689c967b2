"""A call runs an idle server at once, inside the caller's turn, and so does a start the new process.

Everything else must be as if it had gone round the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from runtime.core.asyncio_engine import MAX_HANDOVERS, AsyncioEngine
from runtime.core.exits import Exit
from runtime.core.modes import DEAD
from runtime.otp import dynamic_supervisor, erlang
from runtime.otp import sys as debug
from runtime.otp.dynamic_supervisor import ChildSpec, DynamicSupervisor
from runtime.otp.gen import Call
from runtime.otp.gen_server import GenServer, NoReply, Reply, StartError, Stop, call, cast, reply


class Server(GenServer):
    """Does what it is told."""

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "echo":
                return Reply("echo")
            case "task":
                return self.slow()
            case "later":
                cast(erlang.self_(), from_)
                return NoReply()
            case "crash":
                raise RuntimeError("told so")
            case ("exit", pid, reason):
                erlang.exit(pid, reason)
                return Reply("done")
            case ("exit and be silent", pid, reason):
                erlang.exit(pid, reason)
                return NoReply()
            case ("next", pids):
                return self.next(pids)
            case _:
                return super().handle_call(request, from_)

    async def slow(self) -> Any:
        first = asyncio.current_task()
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return Reply((erlang.self_(), first is asyncio.current_task()))

    async def next(self, pids: list[Any]) -> Any:
        return Reply(await call(pids[0], ("next", pids[1:])) + 1 if pids else 0)

    def handle_cast(self, from_: Any) -> None:
        reply(from_, "late")


@pytest.fixture
def in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn is too long for a hand-over, and no slice ends: the clock stands, whatever keeps the machine busy."""
    monkeypatch.setattr("runtime.core.asyncio_engine.perf_counter", lambda: 0.0)


def calls_of_the_dead(engine: AsyncioEngine) -> list[Call]:
    """Calls that servers would still answer, though who called has ended."""
    watching = [call for cell in engine.table for call in cell.relations.monitored_by]
    return [
        call
        for call in watching
        if isinstance(call, Call) and call.caller and call.caller.execution.mode == DEAD
    ]


def play(body: Callable[[], Awaitable[Any]], trap_exit: bool = False) -> Any:
    """Runs a coroutine as a process on the asyncio engine; what it returned, or what it ended with."""

    async def main() -> Any:
        engine = AsyncioEngine().start()
        end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def process() -> None:
            end.set_result(await body())

        pid = engine.spawn(process, trap_exit=trap_exit)
        engine.on_exit.append(
            lambda who, reason: end.set_result(("ended", reason)) if who is pid and not end.done() else None
        )
        async with asyncio.timeout(60):
            found = await end
            while calls_of_the_dead(engine):  # until the code of who was killed has been unwound
                await asyncio.sleep(0)
        await engine.stop()
        return found

    return uvloop.run(main())


@pytest.mark.usefixtures("in_time")
def test_a_call_goes_before_what_waits_in_the_queue() -> None:
    class Noted(Server):
        def handle_info(self, message: Any) -> None:
            seen.append(message)

    async def body() -> None:
        other, server = await Noted.start(), await Server.start()
        erlang.send(other, "sent before")
        assert await call(server, "echo") == "echo"
        seen.append("answered")
        while len(seen) < 2:
            await erlang.sleep(1)

    seen: list[Any] = []
    play(body)
    assert seen == ["answered", "sent before"]


class Noted(Server):
    """Notes what it is sent."""

    def init(self, seen: list[Any]) -> None:
        self.seen = seen

    def handle_info(self, message: Any) -> None:
        self.seen.append(message)


@pytest.mark.usefixtures("in_time")
def test_a_start_by_a_called_server_goes_before_what_waited_when_the_turn_began() -> None:
    async def body() -> Any:
        seen: list[Any] = []
        other, supervisor = await Noted.start(seen), await DynamicSupervisor.start_link()
        assert other is not None
        erlang.spawn(erlang.send, other, "waits")
        await erlang.yield_()  # `other` is made runnable, and this turn begins
        await dynamic_supervisor.start_child(supervisor, ChildSpec("x", (Noted.start_link, (seen,))))
        seen.append("started")
        while len(seen) < 2:
            await erlang.sleep(1)
        return seen

    assert play(body) == ["started", "waits"]


@pytest.mark.parametrize("through_a_server", [False, True])
def test_a_start_does_not_go_before_what_this_turn_has_sent(through_a_server: bool) -> None:
    async def body() -> Any:
        seen: list[Any] = []
        other, supervisor = await Noted.start(seen), await DynamicSupervisor.start_link()
        assert other is not None
        await erlang.yield_()
        erlang.send(other, "sent before")
        if through_a_server:
            await dynamic_supervisor.start_child(supervisor, ChildSpec("x", (Noted.start_link, (seen,))))
        else:
            await Server.start_link()
        seen.append("started")
        return seen

    assert play(body) == ["sent before", "started"]


def test_an_exit_of_the_new_process_ends_the_start() -> None:
    """As in sync_start_link: also one that it sends by exit/2. If it goes on, its `{ack, Pid, _}` comes as a message."""

    class Telling(Server):
        def init(self, starter: Any, how: str) -> None:
            if how == "crash":
                raise RuntimeError("told so")
            erlang.exit(starter, "told so")

    class Starter(Noted):
        def init(self, seen: list[Any]) -> None:
            erlang.trap_exit(True)
            super().init(seen)

        async def handle_call(self, request: Any, from_: Any) -> Any:
            try:
                return Reply(await Telling.start_link(erlang.self_(), request))
            except StartError as error:
                return Reply(error.reason)

    async def body() -> Any:
        seen: list[Any] = []
        starter = await Starter.start(seen)
        await erlang.yield_()  # a new turn: late in one nothing is handed over
        told = await call(starter, "tell")
        crash = await call(starter, "crash")
        await debug.get_state(starter)  # by now it has handled all messages before
        return told, str(crash[0]), [type(message) for message in seen]

    # The crash of an init is acknowledged first, so its EXIT message stays, as in OTP 25.
    assert play(body) == ("told so", "told so", [tuple, erlang.ExitMessage])


def test_a_starter_that_the_new_process_ends_goes_no_further() -> None:
    class Failing(Server):
        def init(self) -> Any:
            return Stop("no")

    async def body() -> Any:
        try:
            await Failing.start_link()
        except Exception:
            return "went on"

    assert play(body) == ("ended", "no")


def test_mail_that_came_before_the_call_is_handled_before_it() -> None:
    class Counter(Server):
        count = 0

        def handle_cast(self, request: Any) -> None:
            self.count += 1

        def handle_call(self, request: Any, from_: Any) -> Any:
            return Reply(self.count)

    async def body() -> Any:
        server = await Counter.start()
        for _ in range(100):
            cast(server, 1)
        return await call(server, "count")

    assert play(body) == 100


@pytest.mark.parametrize("timeout", [None, 1000])
def test_answers_that_come_later(timeout: float | None) -> None:
    async def body() -> Any:
        server = await Server.start()
        assert server is not None
        mine = asyncio.current_task()
        assert await call(server, "later", timeout) == "late"
        assert await call(server, "task", timeout) == (server, True)
        assert asyncio.current_task() is mine
        assert erlang.self_().cell is mine
        assert not server.cell.relations.monitored_by
        return "through"

    assert play(body) == "through"


def test_a_server_that_waits_lets_the_timeout_come() -> None:
    async def body() -> Any:
        server = await Server.start()
        await debug.suspend(server)
        with pytest.raises(Exit) as raised:
            await call(server, "echo", 20)
        await debug.resume(server)
        return raised.value.reason[0]

    assert play(body) == "timeout"


def test_a_crash_of_the_server_is_the_callers_exit() -> None:
    async def body() -> Any:
        server = await Server.start()
        with pytest.raises(Exit) as raised:
            await call(server, "crash")
        return raised.value.reason

    (error, _stack), site = play(body)
    assert isinstance(error, RuntimeError) and site.function == "call"


@pytest.mark.parametrize("how", ["exit", "exit and be silent"])
@pytest.mark.parametrize("reason", ["kill", "because"])
def test_a_server_that_ends_its_caller(reason: str, how: str) -> None:
    async def body() -> None:
        server = await Server.start()
        try:
            await call(server, (how, erlang.self_(), reason))
            went_on.append("after the call")
        finally:
            went_on.append("finally")

    went_on: list[str] = []
    assert play(body) == ("ended", "killed" if reason == "kill" else reason)
    assert went_on == ["finally"]


def test_a_caller_that_traps_exits_gets_the_message() -> None:
    async def body() -> Any:
        server = await Server.start()
        assert await call(server, ("exit", erlang.self_(), "because")) == "done"
        message = await erlang.receive(timeout=10_000)
        return message.pid is server and message.reason

    assert play(body, trap_exit=True) == "because"


def test_a_link_to_a_server_that_crashes() -> None:
    async def body() -> None:
        await call(await Server.start_link(), "crash")

    what, reason = play(body)
    assert what == "ended" and reason is not None


def test_a_long_chain_of_calls_does_not_use_up_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.core.asyncio_engine.TURN_SECONDS", 60)

    async def body() -> Any:
        servers = [await Server.start() for _ in range(40 * MAX_HANDOVERS)]
        return await call(servers[0], ("next", servers[1:]))

    assert play(body) == 40 * MAX_HANDOVERS - 1


def test_a_ring_of_calls_times_out_and_nothing_else() -> None:
    async def body() -> Any:
        one, two = await Server.start(), await Server.start()
        with pytest.raises(Exit) as raised:
            await call(one, ("next", [two, one]), 50)
        return raised.value.reason[0], await call(await Server.start(), "echo")

    assert play(body) == ("timeout", "echo")


def test_a_caller_without_end_lets_the_loop_and_the_others_run() -> None:
    async def endless(server: Any) -> None:
        while True:
            await call(server, "echo")

    async def body() -> Any:
        server, other = await Server.start(), await Server.start()
        erlang.spawn(endless, server)
        async with asyncio.timeout(60):
            for _ in range(50):
                assert await call(other, "echo") == "echo"
                await asyncio.sleep(0.001)
        return "through"

    assert play(body) == "through"


def test_a_server_that_holds_the_loop_is_the_one_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By a clock that stands still otherwise: on a busy machine others may seem to have held the loop, too.
    time = 0.0
    monkeypatch.setattr("runtime.core.asyncio_engine.perf_counter", lambda: time)

    class Slow(Server):
        def handle_call(self, request: Any, from_: Any) -> Any:
            nonlocal time
            time += 0.08
            return Reply(0)

    async def body() -> Any:
        slow, asks = await Slow.start(name="holds_the_loop"), await Server.start(name="asks")
        return await call(asks, ("next", [slow]))

    assert play(body) == 1
    [report] = [record for record in caplog.records if "long_schedule" in record.getMessage()]
    assert "holds_the_loop" in report.getMessage()


@pytest.mark.usefixtures("in_time")
def test_nobody_sees_the_context_of_who_calls_or_wakes_him() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")

    class Looks(Server):
        def handle_call(self, request: Any, from_: Any) -> Any:
            seen = (variable.get(), asyncio.current_task())
            variable.set("the server's")
            return Reply(seen)

        def handle_info(self, message: Any) -> None:
            erlang.send(message, variable.get())

    async def body() -> Any:
        looks, me = await Looks.start(), erlang.self_()
        variable.set("the caller's")
        seen = await call(looks, "look")
        assert asyncio.current_task() is not None
        asyncio.get_running_loop().call_soon(erlang.send, looks, me)
        return seen, variable.get(), await erlang.receive()

    assert play(body) == (("none", None), "the caller's", "none")
