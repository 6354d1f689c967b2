"""Processes, signals, links, monitors, names, timers, selective receive: each on both engines."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from runtime.core.exits import Error, Exit, Stack, Throw
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Down, ExitMessage, Timeout
from runtime.otp.gen_server import GenServer, Stop
from runtime.otp.registry import Registry
from runtime.testing import simulation as testing

got = erlang.receive  # short: every test waits for something


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def ending(how: Any) -> Any:
    def body() -> None:
        if isinstance(how, BaseException):
            raise how

    return body


# ---- exits


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
        assert await got(timeout=1000) == Down(ref, pid, reason)

    play(body)


@pytest.mark.parametrize(
    ("how", "term"), [(Error("badarg"), "badarg"), (Throw("x"), ("nocatch", "x")), (SystemExit(3), None)]
)
def test_reasons_with_a_stack(play: Any, how: Any, term: Any) -> None:
    async def body() -> None:
        erlang.spawn_link(ending(how))
        reason = (await got(timeout=1000)).reason
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
            seen.append(await got())

        pid = erlang.spawn(target, trap_exit=trap)
        ref = erlang.monitor(pid)
        await erlang.sleep(1)
        erlang.exit(pid, reason)
        me = erlang.self_()
        if reason == "kill":
            assert await got(timeout=1000) == Down(ref, pid, "killed")
        elif trap:
            assert await got(timeout=1000) == Down(ref, pid, "normal")
            assert seen == [ExitMessage(me, reason)]
        elif reason == "normal":
            assert await got(timeout=5) is TIMEOUT
        else:
            assert await got(timeout=1000) == Down(ref, pid, reason)

    play(body)


def test_a_chain_of_ten_thousand_links_falls_without_a_stack(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()

        async def chain(left: int) -> None:
            if left:
                erlang.spawn_link(chain, left - 1)
            else:
                erlang.send(me, "complete")
            await forever()

        first = erlang.spawn(chain, 10_000)
        assert await got(timeout=100_000) == "complete"
        assert len(erlang.processes()) == 10_002
        erlang.exit(first, "boom")
        await erlang.sleep(1)
        assert erlang.processes() == [erlang.self_()]

    play(body)


def test_messages_and_signals_of_one_sender_keep_their_order(play: Any) -> None:
    async def body() -> None:
        seen: list[Any] = []

        async def target() -> None:
            while True:
                seen.append(await got())

        pid = erlang.spawn(target, trap_exit=True)
        for n in range(5):
            erlang.send(pid, n)
        erlang.exit(pid, "x")
        erlang.send(pid, 5)
        await erlang.sleep(1)
        assert seen == [0, 1, 2, 3, 4, ExitMessage(erlang.self_(), "x"), 5]

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
        reason = (await got(timeout=1000)).reason
        assert type(reason) is Unshowable
        for reason in (("shutdown", Unshowable()), "", Unshowable()):
            pid = erlang.spawn_link(ending(Exit(reason)))
            assert (await got(timeout=1000)).reason is reason

    play(body)


# ---- links and monitors


def test_one_link_a_pair_many_monitors_down_once_exit_before_down(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(forever)
        refs = [erlang.monitor(pid) for _ in range(3)]
        for _ in range(3):
            erlang.link(pid)
        erlang.exit(pid, "x")
        mail = [await got(timeout=1000) for _ in range(4)]
        assert mail == [ExitMessage(pid, "x"), *(Down(ref, pid, "x") for ref in refs)]
        assert await got(timeout=1) is TIMEOUT
        erlang.exit(erlang.spawn(forever, link=True), "y")
        assert (await got(timeout=1000)).reason == "y"

    play(body)


def test_the_dead_give_noproc(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(ending(None))
        await erlang.sleep(1)
        ref = erlang.monitor(pid)
        assert await got(timeout=10) == Down(ref, pid, "noproc")
        erlang.link(pid)
        assert await got(timeout=10) == ExitMessage(pid, "noproc")
        erlang.trap_exit(False)
        with pytest.raises(Error) as refused:
            erlang.link(pid)
        assert refused.value.reason == "noproc"
        ref = erlang.monitor("nobody")
        assert await got(timeout=10) == Down(ref, ("nobody", erlang.NODE), "noproc")

    play(body)


def test_unlink_and_demonitor(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn_link(forever)
        ref, other = erlang.monitor(pid), erlang.monitor(pid)
        assert erlang.unlink(pid)
        assert erlang.demonitor(ref, info=True) is True
        assert erlang.demonitor(ref, info=True) is False
        erlang.exit(pid, "x")
        assert erlang.demonitor(other, info=True) is False  # too late: the message is there
        assert erlang.demonitor(other, flush=True) is True
        assert await got(timeout=1) is TIMEOUT

    play(body)


# ---- names


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


def test_registry_unique_and_duplicate(play: Any) -> None:
    async def body() -> None:
        unique, duplicate = Registry(), Registry("duplicate")
        me, pid = erlang.self_(), erlang.spawn(forever)
        unique.register("k", 1)
        with pytest.raises(Error) as taken:
            unique.register("k", 2, pid)
        assert taken.value.reason == ("already_registered", me)
        assert unique.update_value("k", lambda value: value + 1) == 2
        for value in (1, 2):
            duplicate.register("k", value)
        duplicate.register("k", 3, pid)
        assert duplicate.lookup("k") == [(me, 1), (me, 2), (pid, 3)]
        duplicate.unregister("k")
        seen: list[Any] = []
        duplicate.dispatch("k", seen.extend)
        assert seen == [(pid, 3)]
        erlang.exit(pid, "kill")
        assert duplicate.lookup("k") == []
        assert (duplicate.count(), unique.count()) == (0, 1)
        assert unique.keys(me) == ["k"]

    play(body)


# ---- timers


def test_timers(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        later, never = erlang.send_after(1200, me, "later"), erlang.send_after(1100, me, "never")
        wrapped = erlang.start_timer(5, me, "wrapped")
        assert 600 <= erlang.read_timer(later) <= 1200
        left = erlang.cancel_timer(never)
        assert left is not False
        assert 500 <= left <= 1100
        assert erlang.cancel_timer(never) is False
        match await got(timeout=1000):
            case Timeout(ref, message):
                assert (ref, message) == (wrapped, "wrapped")
        assert await got(timeout=10_000) == "later"
        assert erlang.read_timer(later) is False
        assert await got(timeout=20) is TIMEOUT

    play(body)


def test_a_timer_outlives_its_setter_and_dies_with_its_pid(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        erlang.spawn(lambda: erlang.send_after(10, me, "from the dead"))
        assert await got(timeout=1000) == "from the dead"
        pid = erlang.spawn(forever)
        timer = erlang.send_after(10, pid, "x")
        erlang.exit(pid, "kill")
        assert erlang.cancel_timer(timer) is False
        erlang.send_after(5, "late_name", "found")
        erlang.register("late_name", me)
        assert await got(timeout=1000) == "found"

    play(body)


def test_ten_thousand_cancelled_timers_leave_nothing(play: Any) -> None:
    async def body() -> None:
        for _ in range(10_000):
            erlang.cancel_timer(erlang.send_after(60_000, erlang.self_(), "x"))
        assert len(erlang.self_().cell.engine.timers) < 2_000

    play(body)


# ---- selective receive


def test_selective_receive_keeps_the_rest_in_order(play: Any) -> None:
    async def body() -> None:
        for n in range(6):
            erlang.send(erlang.self_(), n)
        assert await got(lambda m: m == 3) == 3
        assert await got(lambda m: m == 9, timeout=0) is TIMEOUT
        assert await got(lambda m: m > 3, timeout=0) == 4
        assert [await got(timeout=0) for _ in range(5)] == [0, 1, 2, 5, TIMEOUT]

    play(body)


def test_receive_waits_for_a_match_and_times_out_on_its_own_clock(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        for ms in (2, 4, 6):
            erlang.send_after(ms, me, ms)
        assert await got(lambda m: m == 6, timeout=1000) == 6
        before = erlang.monotonic_time()
        erlang.send_after(600, me, "noise")
        assert await got(lambda m: m == "x", timeout=1000) is TIMEOUT  # noise does not start it anew
        assert 999 <= erlang.monotonic_time() - before < 1550

    play(body)


# ---- Python inside of processes


def test_asyncio_inside_a_process(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        done: list[int] = []

        async def part(n: int) -> None:
            await asyncio.sleep(0.2 * n)
            done.append(n)

        async with asyncio.TaskGroup() as group:
            for n in (3, 1, 2):
                group.create_task(part(n))
        assert done == [1, 2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await got()  # a receive can be cancelled too
        erlang.send(erlang.self_(), "still here")
        assert await got(timeout=10_000) == "still here"

    play(body)


def test_the_killed_release_what_they_hold(play: Any) -> None:
    async def body() -> None:
        log: list[str] = []

        class Lock:
            async def __aenter__(self) -> None:
                log.append("taken")

            async def __aexit__(self, *_: Any) -> None:
                await asyncio.sleep(0.001)
                log.append("released")

        async def holder(wait: Any) -> None:
            async with Lock():
                await wait()

        for wait in (forever, lambda: asyncio.sleep(10), lambda: erlang.sleep(10_000)):
            pid = erlang.spawn(holder, wait)
            await erlang.sleep(1)
            erlang.exit(pid, "kill")
            assert not erlang.is_process_alive(pid)
            for _ in range(2000):  # its way out takes a little while
                if log[-1] == "released":
                    break
                await erlang.sleep(5)
        assert log == ["taken", "released"] * 3

    play(body)


def test_a_process_that_swallows_its_cancellation_is_dead_all_the_same(play: Any) -> None:
    async def body() -> None:
        async def stubborn() -> None:
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    continue

        pid = erlang.spawn(stubborn)
        await erlang.sleep(1)
        erlang.exit(pid, "kill")
        await erlang.sleep(5)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_context_variables_stay_in_their_process(play: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def body() -> None:
        seen: list[str] = []

        async def setter(value: str) -> None:
            variable.set(value)
            await erlang.sleep(1)
            seen.append(variable.get())

        erlang.spawn(setter, "a")
        erlang.spawn(setter, "b")
        await erlang.sleep(10)
        assert sorted(seen) == ["a", "b"]
        assert variable.get() == "unset"

    play(body)


def test_wrong_times_and_references(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()
        for set_timer in (erlang.send_after, erlang.start_timer):
            with pytest.raises(Error) as caught:
                set_timer(-1, me, "late")
            assert caught.value.reason == "badarg"
        with pytest.raises(Error) as caught:
            await erlang.sleep(-1)
        assert caught.value.reason == "timeout_value"
        with pytest.raises(Error) as caught:
            await erlang.receive(timeout=-1)
        assert caught.value.reason == "timeout_value"
        ref = erlang.make_ref()
        assert erlang.cancel_timer(ref) is False
        assert erlang.read_timer(ref) is False
        name: Any = "a name"
        with pytest.raises(Error) as caught:
            erlang.process_info(name)
        assert caught.value.reason == "badarg"

    play(body)


def test_the_dead_hold_nothing() -> None:
    class Big:
        pass

    async def body() -> None:
        big = Big()
        there = weakref.ref(big)

        async def holder(thing: Any) -> None:
            erlang.link(me)
            await erlang.receive(lambda message: message is thing and False)

        me = erlang.self_()
        pid = erlang.spawn(holder, big)
        erlang.send(pid, big)
        await erlang.sleep(1)
        del big
        erlang.exit(pid, "x")
        assert (await got(timeout=1000)).reason == "x"
        await erlang.sleep(1)
        gc.collect()
        assert there() is None  # the pid still lives, what its process held does not
        assert str(pid).startswith("<0.")

    testing.play_real(body)  # a Simulation keeps all that was sent


def test_an_idle_process_carries_no_empty_table(play: Any) -> None:
    async def body() -> None:
        pid = await GenServer.start()
        assert pid is not None
        for message in range(3):
            erlang.send(pid, message)
        erlang.demonitor(erlang.monitor(pid))
        await erlang.sleep(1)
        run, relations = pid.cell.execution, pid.cell.relations
        assert run is pid.cell.engine.rest
        assert relations.reductions >= 3
        assert relations.links == relations.monitors == relations.monitored_by == ()
        assert relations.exit_hooks is relations.rare is None

    play(body)


def test_process_info(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(forever, name="it", link=True)
        await erlang.sleep(1)
        ref = erlang.monitor(pid)
        erlang.send(pid, "x")
        info = erlang.process_info(pid)
        assert info is not None
        assert info["registered_name"] == "it"
        assert info["links"] == [erlang.self_()]
        assert info["monitored_by"] == [erlang.self_()]
        assert (info["message_queue_len"], info["messages"]) == (1, ["x"])
        assert info["parent"] is erlang.self_()
        assert info["module"].endswith(":forever")
        assert info["memory"] > 0
        mine = erlang.process_info(erlang.self_())
        assert mine is not None
        assert (mine["status"], mine["monitors"], mine["trap_exit"]) == ("running", [pid], True)
        erlang.demonitor(ref)
        erlang.exit(pid, "kill")
        assert erlang.process_info(pid) is None

    play(body)
