"""GenServer: calls, casts, timeouts, deferred replies, stops, bounded mailboxes; on both engines."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.exits import CallSite, Error, Exit, Throw
from runtime.otp import erlang, gen_server
from runtime.otp.erlang import TIMEOUT, Down, ExitMessage
from runtime.otp.gen_server import (
    GenServer,
    NoReply,
    Ok,
    Reply,
    Stop,
    call,
    cast,
    receive_response,
    reply,
    send_request,
    stop,
    wait_response,
)
from runtime.testing.simulation import play as play_once


class Server(GenServer):
    """Does as it is told; `log` sees all."""

    def init(self, log: list[Any], result: Any = None) -> Any:
        self.log = log
        log.append("init")
        if isinstance(result, BaseException):
            raise result
        return result

    def handle_call(self, request: Any, from_: Any) -> Any:
        self.log.append(("call", request))
        match request:
            case "defer":
                self.from_ = from_
                return NoReply()
            case ("return", value):
                return value
            case ("raise", exc):
                raise exc
        return Reply(request)

    async def handle_cast(self, request: Any) -> Any:
        self.log.append(("cast", request))
        match request:
            case ("sleep", ms):
                await erlang.sleep(ms)
            case ("return", value):
                return value
        return None

    def handle_info(self, message: Any) -> Any:
        self.log.append(("info", message))

    def handle_continue(self, continue_: Any) -> Any:
        self.log.append(("continue", continue_))

    def terminate(self, reason: Any) -> Any:
        self.log.append(("terminate", reason))


class Sharp(Server):
    """Its terminate fails."""

    def terminate(self, reason: Any) -> Any:
        raise self.last_words


# ---- calls


def test_deferred_replies_second_replies_and_strays(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start_link([])
        pending = call(pid, "defer", 1000)
        await call(pid, "sync")
        reply(pid.cell.actor.from_, 1)
        assert await pending == 1
        reply(pid.cell.actor.from_, 2)  # with a timeout: dropped
        assert await erlang.receive(timeout=1) is TIMEOUT
        pending = call(pid, "defer", None)
        await call(pid, "sync")
        from_ = pid.cell.actor.from_
        reply(from_, 1)
        assert await pending == 1
        reply(from_, 2)  # without: a stray message, as in OTP
        assert await erlang.receive(timeout=100) == (from_, 2)

    play(body)


def test_call_timeout_drops_the_late_reply(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start_link([])
        with pytest.raises(Exit) as late:
            await call(pid, "defer", 10)
        assert late.value.reason == ("timeout", CallSite("gen_server", "call", (pid, "defer", 10)))
        reply(pid.cell.actor.from_, "late")
        assert await erlang.receive(timeout=5) is TIMEOUT
        assert erlang.process_info(pid)["monitored_by"] == []

    play(body)


def test_call_to_the_dead_the_dying_and_oneself(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start([])
        with pytest.raises(Exit) as died:
            await call(pid, ("return", Stop("bye")))
        assert died.value.reason[0] == "bye"
        for dest in (pid, "nobody"):
            with pytest.raises(Exit) as nobody:
                await call(dest, "x")
            assert nobody.value.reason[0] == "noproc"
        with pytest.raises(Exit) as oneself:
            await call(erlang.self_(), "x")
        assert oneself.value.reason[0] == "calling_self"

    play(body)


@pytest.mark.parametrize("how", ["stop", "raise", "bad"])
def test_ends_call_terminate_and_tell_the_caller(play: Any, how: str) -> None:
    async def body() -> None:
        log: list[Any] = []
        pid = await Server.start(log)
        ref = erlang.monitor(pid)
        match how:
            case "stop":
                assert await call(pid, ("return", Stop("r", "answer"))) == "answer"
                reason: Any = "r"
            case "raise":
                with pytest.raises(Exit):
                    await call(pid, ("raise", Error("boom")))
                reason = None
            case _:
                with pytest.raises(Exit):
                    await call(pid, ("return", 42))
                reason = ("bad_return_value", 42)
        down = await erlang.receive(timeout=1000)
        assert isinstance(down, Down)
        assert down.ref is ref
        if reason is None:
            assert down.reason[0] == "boom"
        else:
            assert down.reason == reason
        assert log[-1] == ("terminate", down.reason)

    play(body)


def test_terminate_may_change_the_reason(play: Any) -> None:
    async def body() -> None:
        for words, reason in ((Exit("changed"), "changed"), (Throw("x"), "first")):
            pid = await Sharp.start([])
            pid.cell.actor.last_words = words
            cast(pid, ("return", Stop("first")))
            assert await erlang.await_down(pid, 1000) == reason

    play(body)


def test_send_request(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start([])
        one, two = send_request(pid, "one"), send_request(pid, "two")
        assert await receive_response(two) == ("reply", "two")
        assert await receive_response(one, 10_000) == ("reply", "one")
        assert await receive_response(send_request(pid, "defer"), 10) is TIMEOUT
        waited = send_request(pid, "defer")
        assert await wait_response(waited, 10) is TIMEOUT
        assert await wait_response(waited, 0) is TIMEOUT
        stopped = send_request(pid, ("return", Stop("x")))
        assert await receive_response(stopped) == ("error", ("x", pid))
        assert await wait_response(waited, 10_000) == ("error", ("x", pid))
        assert await receive_response(send_request("nobody", 1)) == ("error", ("noproc", "nobody"))

    play(body)


def test_stop(play: Any) -> None:
    async def body() -> None:
        log: list[Any] = []
        pid = await Server.start(log)
        cast(pid, "before")
        await stop(pid, "shutdown")
        assert log == ["init", ("cast", "before"), ("terminate", "shutdown")]
        with pytest.raises(Exit) as gone:
            await stop(pid)
        assert gone.value.reason == "noproc"
        pid = await Server.start([])
        cast(pid, ("sleep", 400))
        with pytest.raises(Exit) as late:
            await stop(pid, "normal", 10)
        assert late.value.reason == "timeout"
        assert erlang.is_process_alive(pid)  # told to stop, it does so when it can
        assert await erlang.await_down(pid, 1000) == "normal"

    play(body)


# ---- timeouts and exits


def test_the_timeout_of_a_result_is_void_once_mail_comes(play: Any) -> None:
    async def body() -> None:
        log: list[Any] = []
        pid = await Server.start_link(log, Ok(timeout=10))
        await erlang.sleep(30)
        assert log == ["init", ("info", "timeout")]
        await call(pid, ("return", Reply(1, timeout=10)))
        erlang.send(pid, "mail")
        await erlang.sleep(30)
        assert log[-1] == ("info", "mail")
        cast(pid, ("return", NoReply(timeout=0)))
        cast(pid, "already there")
        await erlang.sleep(10)
        assert log[-1] == ("cast", "already there")
        cast(pid, ("return", NoReply(timeout=0)))
        await erlang.sleep(10)
        assert log[-1] == ("info", "timeout")

    play(body)


def test_only_the_parents_exit_ends_a_server_that_traps(play: Any) -> None:
    class Trapping(Server):
        def init(self, log: list[Any], result: Any = None) -> Any:
            erlang.trap_exit(True)
            return super().init(log, result)

    async def body() -> None:
        log: list[Any] = []
        pid = await Trapping.start_link(log)

        def stranger() -> None:
            erlang.link(pid)
            raise Exit("strange")

        other = erlang.spawn(stranger)
        await erlang.sleep(1)
        assert log[-1] == ("info", ExitMessage(other, "strange"))
        erlang.exit(pid, "parent says so")
        assert await erlang.await_down(pid, 1000) == "parent says so"
        assert log[-1] == ("terminate", "parent says so")

    play(body)


# ---- bounded mailboxes


def test_a_full_mailbox_fails_the_caller_at_once(play: Any) -> None:
    class Bounded(Server):
        max_mailbox = 3

    async def body() -> None:
        log: list[Any] = []
        pid = await Bounded.start_link(log)
        engine = pid.cell.engine
        cast(pid, ("sleep", 1000))
        await erlang.sleep(1)
        waiting = [call(pid, n) for n in range(3)]
        before = erlang.monotonic_time()
        with pytest.raises(Exit) as full:
            await call(pid, "too many")
        assert full.value.reason == ("overload", CallSite("gen_server", "call", (pid, "too many", 5000)))
        assert erlang.monotonic_time() - before < 900
        cast(pid, "dropped")
        erlang.send(pid, "dropped")
        assert engine.refused == 3
        other = erlang.spawn_link(lambda: None)
        pid.cell.deliver(ExitMessage(other, "x"))  # the runtime's own messages are never dropped
        assert [await pending for pending in waiting] == [0, 1, 2]
        assert await call(pid, "room again") == "room again"
        assert ("cast", "dropped") not in log
        assert ("info", ExitMessage(other, "x")) in log

    play(body)


def test_messages_delivered_in_a_row_are_counted_one_by_one(play: Any) -> None:
    class Bounded(Server):
        max_mailbox = 3

    async def body() -> None:
        for server, left in ((Bounded, [0, 1, 2]), (Server, [0, 1, 2, 3, 4])):
            log: list[Any] = []
            pid = await server.start_link(log)
            pid.cell.deliver_all(range(5))
            await erlang.sleep(1)
            assert log == ["init", *(("info", number) for number in left)]
        assert erlang.self_().cell.engine.refused == 2
        dead = erlang.spawn(lambda: None)
        await erlang.await_down(dead)
        dead.cell.deliver_all(range(5))
        dead.cell.deliver_all([])

    play(body)


# ---- outside of processes


def test_calls_from_asyncio_tasks() -> None:
    async def main() -> None:
        engine = AsyncioEngine().start()
        pid = await Server.start([])
        assert await asyncio.gather(*(call(pid, n) for n in range(50))) == list(range(50))
        with pytest.raises(Exit):
            await call(pid, "defer", 10)
        task = asyncio.ensure_future(asyncio.wait_for(call(pid, "defer", None), 0.01))
        with pytest.raises(TimeoutError):
            await task
        assert erlang.process_info(pid)["monitored_by"] == []  # a cancelled caller waits no more
        assert not pid.cell.relations.monitored_by
        await engine.stop()

    asyncio.run(main())


def test_callers_killed_while_they_wait_are_forgotten(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start([])

        async def caller() -> None:
            await call(pid, "defer", None)

        killed = erlang.spawn(caller)
        await erlang.sleep(1)
        erlang.exit(killed, "kill")
        await erlang.sleep(1)
        assert not pid.cell.relations.monitored_by
        reply(pid.cell.actor.from_, "nobody reads this")
        assert await call(pid, "fine") == "fine"

    play(body)


def test_a_server_that_ended_is_garbage() -> None:
    async def body() -> None:
        pid = await Server.start([])
        await call(pid, "x")
        there = weakref.ref(pid.cell.actor)
        await stop(pid)
        gc.collect()
        assert there() is None

    play_once(body)


def test_the_default_callbacks_refuse(play: Any) -> None:
    async def body() -> None:
        for send, kind in ((call, "bad_call"), (cast, "bad_cast")):
            pid = await GenServer.start()
            ref = erlang.monitor(pid)
            pending = send(pid, "x")
            if pending is not None:
                with pytest.raises(Exit):
                    await pending
            down = await erlang.receive(timeout=1000)
            assert (down.ref, down.reason) == (ref, (kind, "x"))

    play(body)


def test_gen_server_module_exports_what_it_documents() -> None:
    assert all(hasattr(gen_server, name) for name in gen_server.__all__)
