"""proc_lib for plain functions, and the special processes that answer `sys`.

What is expected is what OTP's documents of proc_lib and sys say; it was not recorded from Erlang.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtime import (
    ChildSpec,
    Exit,
    ExitMessage,
    StartError,
    Supervisor,
    erlang,
    gen_server,
    proc_lib,
    supervisor,
    sys,
)
from runtime.otp.special_process import Special, SystemMessage, handle_debug, handle_system_msg
from runtime.testing.simulation import play

log: list[Any] = []


class Counter(Special):
    """Counts; what it shows of its state hides the secret."""

    def system_get_state(self, state: Any) -> Any:
        return state["n"]

    def system_replace_state(self, shown: Any, state: Any) -> Any:
        return {**state, "n": shown}

    def system_code_change(self, state: Any, module: Any, old_version: Any, extra: Any) -> Any:
        if extra == "refuse":
            raise ValueError("no")
        return {**state, "n": extra}

    def system_terminate(self, reason: Any, state: Any) -> Any:
        log.append(("terminate", reason, state["n"]))


async def counter(n: int) -> None:
    proc_lib.init_ack()
    state = {"n": n, "secret": "xyz"}
    while True:
        match await erlang.receive():
            case SystemMessage() as message:
                state = await handle_system_msg(message, Counter(), state)
            case ("add", k):
                handle_debug("in", ("add", k))
                state = {**state, "n": state["n"] + k}
                handle_debug("out", state["n"], None)


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()


def run(body: Callable[[], Any]) -> None:
    play(body)


def test_start_link_returns_what_init_ack_was_given() -> None:
    async def acknowledges(value: Any) -> None:
        proc_lib.init_ack(value)
        proc_lib.init_ack("again")
        await erlang.receive()

    async def body() -> None:
        assert await proc_lib.start_link(acknowledges, ("ok", "what I like")) == ("ok", "what I like")
        (_, pid) = await proc_lib.start(counter, 1)
        assert erlang.is_process_alive(pid)

    run(body)


@pytest.mark.parametrize("start", [proc_lib.start_link, proc_lib.start])
@pytest.mark.parametrize("reason", ["boom", "normal", ("shutdown", 1)])
def test_an_end_before_init_ack_is_the_error_and_leaves_no_message(start: Any, reason: Any) -> None:
    async def ends() -> None:
        raise Exit(reason)

    async def body() -> None:
        erlang.trap_exit(True)
        with pytest.raises(StartError) as caught:
            await start(ends)
        assert caught.value.reason == reason
        assert await erlang.receive(timeout=10) is erlang.TIMEOUT

    run(body)


def test_an_acknowledgement_after_an_exit_of_the_living_process_is_a_message() -> None:
    """Seen in OTP 25: `{ack, Pid, Value}`."""

    async def acknowledges_late(starter: Any) -> None:
        erlang.exit(starter, "boom")
        await erlang.sleep(10)
        proc_lib.init_ack("late")

    async def body() -> None:
        erlang.trap_exit(True)
        with pytest.raises(StartError, match="boom"):
            await proc_lib.start_link(acknowledges_late, erlang.self_())
        tag, _, value = await erlang.receive(timeout=100)
        assert (tag, value) == ("ack", "late")

    run(body)


def test_a_late_start_is_killed_and_leaves_no_message() -> None:
    started: list[Any] = []

    async def sleeps() -> None:
        started.append(erlang.self_())
        await erlang.sleep(1000)

    async def body() -> None:
        erlang.trap_exit(True)
        with pytest.raises(StartError) as caught:
            await proc_lib.start_link(sleeps, timeout=100)
        assert caught.value.reason == "timeout"
        assert not erlang.is_process_alive(started[0])
        assert await erlang.receive(timeout=10) is erlang.TIMEOUT

    run(body)


@pytest.mark.parametrize("trap", [True, False])
def test_init_fail_returns_its_value_once_the_process_is_gone(trap: bool) -> None:
    async def fails() -> None:
        erlang.register("fails", erlang.self_())
        proc_lib.init_fail(("error", "bad luck"), Exit("normal" if not trap else "boom"))

    async def body() -> None:
        erlang.trap_exit(trap)
        assert await proc_lib.start_link(fails) == ("error", "bad luck")
        assert erlang.whereis("fails") is None
        assert await erlang.receive(timeout=10) is erlang.TIMEOUT

    run(body)


def test_start_monitor_and_processes_of_others() -> None:
    async def body() -> None:
        ((_, pid), ref) = await proc_lib.start_monitor(counter, 1)
        erlang.exit(pid, "boom")
        down = await erlang.receive()
        assert (down.ref, down.reason) == (ref, "boom")
        with pytest.raises(Exit) as caught:
            proc_lib.init_ack()
        assert caught.value.reason == "was_not_started_by_proc_lib"

    run(body)


def test_a_supervisor_starts_it_and_init_fail_is_a_failed_start() -> None:
    async def fails() -> None:
        proc_lib.init_fail(("error", "bad luck"), Exit("normal"))

    async def body() -> None:
        erlang.trap_exit(True)
        sup = await Supervisor.start_link([ChildSpec("counter", (proc_lib.start_link, (counter, 1)))])
        [(_, pid, *_)] = await supervisor.which_children(sup)
        erlang.exit(pid, "kill")
        await erlang.sleep(10)
        [(_, other, *_)] = await supervisor.which_children(sup)
        assert other is not pid and erlang.is_process_alive(other)
        failed = await supervisor.start_child(sup, ChildSpec("fails", (proc_lib.start_link, (fails,))))
        assert failed[0] == "error" and failed[1][0] == "bad luck"

    run(body)


def test_it_answers_sys() -> None:
    async def body() -> None:
        (_, pid) = await proc_lib.start_link(counter, 1)
        erlang.send(pid, ("add", 2))
        assert await sys.get_state(pid) == 3
        assert await sys.replace_state(pid, lambda n: n * 10) == 30
        with pytest.raises(Exit) as caught:
            await sys.replace_state(pid, lambda n: n / 0)
        assert caught.value.reason[0] == "callback_failed"
        status = await sys.get_status(pid)
        assert (status["state"], status["status"], status["pid"]) == (30, "running", pid)
        assert (await sys.change_code(pid, gen_server.GenServer))[0] == "error"  # not suspended

    run(body)


def test_suspended_it_takes_system_messages_alone() -> None:
    async def body() -> None:
        (_, pid) = await proc_lib.start_link(counter, 1)
        await sys.suspend(pid)
        erlang.send(pid, ("add", 2))
        assert await sys.get_state(pid) == 1
        assert (await sys.get_status(pid))["status"] == "suspended"
        assert await sys.change_code(pid, gen_server.GenServer, None, 7) == "ok"
        assert (await sys.change_code(pid, gen_server.GenServer, None, "refuse"))[0] == "error"
        assert await sys.get_state(pid) == 7
        await sys.resume(pid)
        assert await sys.get_state(pid) == 9

    run(body)


@pytest.mark.parametrize("suspended", [True, False])
@pytest.mark.parametrize("reason", ["normal", "boom"])
def test_it_terminates(suspended: bool, reason: str) -> None:
    async def body() -> None:
        (_, pid) = await proc_lib.start(counter, 1)
        if suspended:
            await sys.suspend(pid)
        await sys.terminate(pid, reason)
        assert not erlang.is_process_alive(pid)
        assert log == [("terminate", reason, 1)]

    run(body)


def test_suspended_it_hears_of_its_parents_end() -> None:
    async def traps() -> None:
        erlang.trap_exit(True)
        await counter(1)

    async def parent() -> None:
        (_, pid) = await proc_lib.start_link(traps)
        await sys.suspend(pid)
        raise Exit("parent ends")

    async def body() -> None:
        await erlang.await_down(erlang.spawn(parent))
        await erlang.sleep(10)
        assert log == [("terminate", "parent ends", 1)]

    run(body)


def test_it_is_traced_counted_and_logged() -> None:
    async def body() -> None:
        (_, pid) = await proc_lib.start_link(counter, 1)
        seen: list[Any] = []
        await sys.trace(pid, 2, lambda event: seen.append((event.kind, event.message)))
        await sys.statistics(pid, True)
        await sys.log(pid)
        erlang.send(pid, ("add", 2))
        erlang.send(pid, ("add", 3))
        counts = await sys.statistics(pid)
        assert (counts["messages_in"], counts["messages_out"]) == (2, 2)
        assert seen == [("in", ("add", 2)), ("out", 3)]
        assert len(await sys.get_log(pid)) == 4

    run(body)


def test_a_plain_process_that_never_takes_it_lets_the_asker_wait() -> None:
    async def deaf() -> None:
        proc_lib.init_ack()
        await erlang.receive(lambda message: message == "never")

    async def body() -> None:
        (_, pid) = await proc_lib.start_link(deaf)
        with pytest.raises(Exit) as caught:
            await sys.get_state(pid, timeout=50)
        assert caught.value.reason[0] == "timeout"
        assert isinstance(erlang.process_info(pid)["messages"][0], SystemMessage)  # type: ignore[index]
        erlang.trap_exit(True)
        erlang.exit(pid, "kill")
        assert isinstance(await erlang.receive(), ExitMessage)

    run(body)
