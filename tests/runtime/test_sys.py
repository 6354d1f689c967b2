"""OTP's sys on the runtime: state, suspend and resume, traces, statistics, on every kind of behaviour."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import CallSite, Error, Exit
from runtime.otp import erlang, gen_server
from runtime.otp import state_machine as sm
from runtime.otp import sys as debug
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import Call, Cast, GenServer, NoReply, Reply
from runtime.otp.supervisor import ChildSpec, Supervisor, which_children
from runtime.otp.sys import TraceEvent


class Counter(GenServer):
    def init(self, n: int) -> None:
        self.n = n

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "next":
                self.n += 1
                return Reply(self.n)
            case ("timeout", ms):
                return Reply("ok", timeout=ms)
            case "later":
                self.from_ = from_
                return NoReply()
        return Reply(None)

    def handle_cast(self, request: Any) -> None:
        self.n = request

    def handle_info(self, message: Any) -> None:
        self.last = message

    def terminate(self, reason: Any) -> None:
        ended.append(reason)


ended: list[Any] = []


class Light(sm.StateMachine):
    def init(self) -> Any:
        self.changes = 0
        return sm.InitialState("red")

    def red(self, event: Any, content: Any) -> Any:
        self.changes += 1
        return sm.NextState("green")

    def green(self, event: Any, content: Any) -> Any:
        return sm.KeepState(sm.ReplyAction(event[1], "go"))


def test_get_and_replace_state(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1, name="c")
        assert await debug.get_state("c") == {"n": 1}
        assert await debug.replace_state(pid, lambda state: {"n": state["n"] + 41}) == {"n": 42}
        assert await gen_server.call(pid, "next") == 43
        with pytest.raises(Exit) as failed:
            await debug.replace_state(pid, lambda state: 1 / 0)
        assert failed.value.reason[0] == "callback_failed"
        assert isinstance(failed.value.reason[1][0], ZeroDivisionError)
        assert await debug.get_state(pid) == {"n": 43}

    play(body)


def test_state_of_a_state_machine(play: Any) -> None:
    async def body() -> None:
        pid = await Light.start_link()
        assert await debug.get_state(pid) == ("red", {"changes": 0})
        assert await debug.replace_state(pid, lambda s: ("green", s[1])) == ("green", {"changes": 0})
        assert await sm.call(pid, "what") == "go"

    play(body)


def test_sys_on_supervisors(play: Any) -> None:
    async def body() -> None:
        spec = ChildSpec("c", (Counter.start_link, (1,)))
        sup = await Supervisor.start_link([spec])
        assert (await debug.get_state(sup))["children"]["c"].spec.id == "c"
        await debug.suspend(sup)
        child = (await debug.get_state(sup))["children"]["c"].pid
        erlang.exit(child, "kill")
        await erlang.sleep(10)
        assert (await debug.get_state(sup))["children"]["c"].pid is child  # suspended: nobody restarts it
        await debug.resume(sup)
        await erlang.sleep(10)
        assert (await which_children(sup))[0][1] is not child
        dynamic = await DynamicSupervisor.start_link()
        assert (await debug.get_status(dynamic))["status"] == "running"

    play(body)


def test_suspend_holds_mail_back_and_resume_gives_it_in_order(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1)
        await debug.suspend(pid)
        assert erlang.process_info(pid)["status"] == "suspended"
        assert (await debug.get_status(pid))["status"] == "suspended"
        gen_server.cast(pid, 5)
        with pytest.raises(Exit) as late:
            await gen_server.call(pid, "next", 10)
        assert late.value.reason[0] == "timeout"
        assert await debug.get_state(pid) == {"n": 1}
        await debug.resume(pid)
        assert await gen_server.call(pid, "next") == 7  # the cast, the call that timed out, this one

    play(body)


def test_the_parents_exit_and_stop_reach_the_suspended(play: Any) -> None:
    async def body() -> None:
        ended.clear()
        pid = await Counter.start_link(1)
        await debug.suspend(pid)
        await debug.terminate(pid, "shutdown", 1000)
        assert ended == ["shutdown"]

        class Trapping(Counter):
            def init(self, n: int) -> None:
                super().init(n)
                erlang.trap_exit(True)

        pid = await Trapping.start_link(1)
        await debug.suspend(pid)
        erlang.exit(pid, "boom")
        assert await erlang.await_down(pid, 1000) == "boom"
        assert ended == ["shutdown", "boom"]

    play(body)


def test_a_system_message_starts_a_pending_timeout_anew(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1)
        assert await gen_server.call(pid, ("timeout", 3000)) == "ok"
        await erlang.sleep(2000)
        assert "last" not in await debug.get_state(pid)
        await erlang.sleep(2000)
        assert "last" not in await debug.get_state(pid)
        await erlang.sleep(4000)
        assert (await debug.get_state(pid))["last"] == "timeout"

    play(body)


def test_trace_gives_n_events_to_a_function_or_a_pid(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1)
        events: list[TraceEvent] = []
        await debug.trace(pid, 4, events.append)
        await debug.trace(pid, 1, erlang.self_(), key="mine")
        assert await gen_server.call(pid, "next") == 2
        gen_server.cast(pid, 9)
        erlang.send(pid, "hi")
        await gen_server.call(pid, "next")
        await debug.get_state(pid)
        assert [event.kind for event in events] == ["in", "out", "in", "in"]
        assert isinstance(events[0].message, Call)
        assert events[0].message.request == "next"
        assert events[0].peer is erlang.self_()
        assert events[1].message == 2
        assert events[1].peer is erlang.self_()
        assert isinstance(events[2].message, Cast)
        assert events[3].message == "hi"
        first = await erlang.receive(timeout=1000)
        assert (first.kind, first.pid) == ("in", pid)
        assert await erlang.receive(timeout=10) is erlang.TIMEOUT
        assert pid.cell.relations.rare is None  # all traces are over: nothing is left of them

    play(body)


def test_a_trace_that_raises_is_removed_and_deferred_replies_are_not_traced(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1)
        await debug.trace(pid, None, lambda event: 1 / 0)
        assert await gen_server.call(pid, "next") == 2
        assert (await debug.get_status(pid))["traces"] == 0
        events: list[TraceEvent] = []
        await debug.trace(pid, None, events.append)
        pending = gen_server.call(pid, "later")
        await debug.get_state(pid)
        gen_server.reply(pid.cell.actor.from_, "at last")
        assert await pending == "at last"
        assert [event.kind for event in events] == ["in"]  # OTP tells of what a callback returns alone
        await debug.no_trace(pid)
        assert await gen_server.call(pid, "next") == 3
        assert len(events) == 1

    play(body)


def test_statistics_and_log(play: Any) -> None:
    async def body() -> None:
        pid = await Counter.start_link(1)
        assert await debug.statistics(pid) == "no_statistics"
        assert await debug.statistics(pid, True) == "ok"
        await debug.log(pid, 2)
        for _ in range(3):
            await gen_server.call(pid, "next")
        gen_server.cast(pid, 1)
        counts = await debug.statistics(pid, "get")
        assert (counts["messages_in"], counts["messages_out"]) == (4, 3)
        assert counts["reductions"] >= 4
        assert [event.kind for event in await debug.get_log(pid)] == ["out", "in"]
        assert await debug.statistics(pid, False) == "ok"
        assert await debug.statistics(pid) == "no_statistics"

    play(body)


def test_failures_name_sys(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(Exit) as nobody:
            await debug.get_state("nobody")
        assert nobody.value.reason == ("noproc", CallSite("sys", "get_state", ("nobody",)))

        async def plain(secret: int) -> None:
            await erlang.receive()

        pid = erlang.spawn(plain, 7)
        await erlang.sleep(1)
        assert await debug.get_state(pid) == {"secret": 7}
        with pytest.raises(Error) as refused:
            await debug.suspend(pid)
        assert refused.value.reason == "badarg"

    play(body)


def test_format_status_hides_what_it_wants() -> None:
    from runtime.testing.simulation import play

    class Secretive(Counter):
        def format_status(self) -> Any:
            return {"n": "***"}

    async def body() -> None:
        pid = await Secretive.start_link(3)
        assert (await debug.get_status(pid))["state"] == {"n": "***"}

    play(body)
