"""Task and Task.Supervisor: owners, links and timeouts, as in Elixir."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import CallSite, Exit, Stack, exit
from runtime.otp import erlang, task, task_supervisor
from runtime.otp.erlang import Down, ExitMessage
from runtime.otp.gen_server import GenServer, StartError, call
from runtime.otp.gen_server import Reply as ReplyTo
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.otp.task_supervisor import TaskSupervisor
from runtime.testing import simulation


async def double(n: int, ms: float = 0) -> int:
    await erlang.sleep(ms)
    return n * 2


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def fail(reason: Any = "boom") -> None:
    raise Exit(reason)


def nothing_left_behind() -> bool:
    me = erlang.process_info(erlang.self_())
    assert me is not None
    return (me["messages"], me["monitors"], me["links"]) == ([], [], [])


def test_await_gives_the_value_and_leaves_nothing(play: Any) -> None:
    async def body() -> None:
        assert await task.await_(task.async_(double, 4)) == 8
        assert await task.async_(lambda: 5) == 5
        assert await task.await_many([task.async_(double, n, 10 - n) for n in range(4)]) == [0, 2, 4, 6]
        await erlang.sleep(1)
        exits = [await erlang.receive(timeout=0) for _ in range(6)]
        assert {type(message) for message in exits} == {ExitMessage}  # a body traps exits, tasks are linked
        assert {message.reason for message in exits} == {"normal"}
        assert nothing_left_behind()

    play(body)


def test_await_of_a_crashed_task_exits_with_its_reason(play: Any) -> None:
    async def body() -> None:
        crashed = task.async_(fail)
        with pytest.raises(Exit) as exit_:
            await task.await_(crashed)
        assert exit_.value.reason == ("boom", CallSite("Task", "await", (crashed, 5000)))
        assert await erlang.receive(timeout=10_000) == ExitMessage(crashed.pid, "boom")
        divided = task.async_(lambda: 1 / 0)
        with pytest.raises(Exit) as exit_:
            await divided
        error, stack = exit_.value.reason[0]
        assert isinstance(error, ZeroDivisionError)
        assert isinstance(stack, Stack)

    play(body)


def test_an_owner_that_does_not_trap_dies_with_its_task_and_the_other_way(play: Any) -> None:
    async def body() -> None:
        tasks: list[task.Task] = []

        async def owner(fn: Any) -> None:
            tasks.append(task.async_(fn))
            await forever()

        pid, ref = erlang.spawn(owner, fail, monitor=True)
        assert await erlang.receive(timeout=1000) == Down(ref, pid, "boom")
        pid = erlang.spawn(owner, forever)
        await erlang.sleep(1)
        mine = erlang.monitor(tasks[-1].pid)
        erlang.exit(pid, "kill")
        assert await erlang.receive(timeout=1000) == Down(mine, tasks[-1].pid, "killed")

    play(body)


def test_await_timeout_exits_the_owner_and_drops_the_late_value(play: Any) -> None:
    async def body() -> None:
        slow = task.async_(double, 1, 400)
        with pytest.raises(Exit) as exit_:
            await task.await_(slow, 10)
        assert exit_.value.reason == ("timeout", CallSite("Task", "await", (slow, 10)))
        assert erlang.is_process_alive(slow.pid)
        assert await erlang.receive(timeout=10_000) == ExitMessage(slow.pid, "normal")
        assert nothing_left_behind()

    play(body)


def test_yield_may_be_asked_again(play: Any) -> None:
    async def body() -> None:
        slow = task.async_(double, 1, 400)
        assert await task.yield_(slow, 5) is None
        assert await task.yield_(slow, 10_000) == ("ok", 2)
        crashed = task.async_(fail, "oops")
        assert await task.yield_(crashed, 1000) == ("exit", "oops")
        fast, never = task.async_(double, 3), task.async_(forever)
        assert await task.yield_many([fast, never], 10) == [(fast, ("ok", 6)), (never, None)]
        assert await task.shutdown(never) is None

    play(body)


def test_a_task_that_is_listed_twice_answers_once(play: Any) -> None:
    async def body() -> None:
        one = task.async_(double, 1)
        assert await task.yield_many([one, one], 10) == [(one, ("ok", 2)), (one, None)]
        two, slow = task.async_(double, 2), task.async_(forever)
        expected = [(two, ("ok", 4)), (two, None), (slow, None)]
        assert await task.yield_many([two, two, slow], 10, on_timeout="kill_task") == expected

    play(body)


def test_shutdown(play: Any) -> None:
    async def stubborn() -> None:
        erlang.trap_exit(True)
        await forever()

    async def body() -> None:
        assert await task.shutdown(task.async_(forever)) is None
        assert await task.shutdown(task.async_(forever), "brutal_kill") is None
        done = task.async_(double, 2)
        await erlang.sleep(1)
        assert await task.shutdown(done) == ("ok", 4)
        crashed = task.async_(fail, "oops")
        await erlang.sleep(1)
        assert await task.shutdown(crashed) == ("exit", "oops")
        exits = [await erlang.receive(), await erlang.receive()]  # what had ended before stays, as in Elixir
        assert exits == [ExitMessage(done.pid, "normal"), ExitMessage(crashed.pid, "oops")]
        trapping = task.async_(stubborn)
        await erlang.sleep(1)
        before = erlang.monotonic_time()
        assert await task.shutdown(trapping, 20) == ("exit", "killed")
        assert erlang.monotonic_time() - before >= 19
        assert nothing_left_behind()

    play(body)


def test_only_the_owner_may_ask(play: Any) -> None:
    async def body() -> None:
        mine = task.async_(double, 1)

        async def thief() -> Any:
            with pytest.raises(ValueError, match="owner"):
                await task.await_(mine)
            return "refused"

        assert await task.async_(thief) == "refused"
        assert await mine == 2

    play(body)


def test_supervised_tasks_linked_or_not(play: Any) -> None:
    async def body() -> None:
        sup = await TaskSupervisor.start_link(name="tasks")
        linked = await task_supervisor.async_("tasks", double, 1)
        assert set(erlang.process_info(linked.pid)["links"]) == {sup, erlang.self_()}
        assert await linked == 2
        assert await erlang.receive(timeout=10_000) == ExitMessage(linked.pid, "normal")
        alone = await task_supervisor.async_nolink("tasks", fail)
        assert await task.yield_(alone, 1000) == ("exit", "boom")
        assert erlang.is_process_alive(sup)
        assert nothing_left_behind_but(sup)

    play(body)


def nothing_left_behind_but(pid: Any) -> bool:
    me = erlang.process_info(erlang.self_())
    assert me is not None
    return (me["messages"], me["monitors"], me["links"]) == ([], [], [pid])


def test_a_gen_server_takes_results_as_messages(play: Any) -> None:
    class Owner(GenServer):
        def init(self) -> None:
            self.seen: list[Any] = []

        async def handle_call(self, request: Any, from_: Any) -> Any:
            if request == "seen":
                return ReplyTo(self.seen)
            self.task = await task_supervisor.async_nolink("tasks", request)
            return ReplyTo(None)

        def handle_info(self, message: Any) -> None:
            match message:
                case (self.task.ref, value):
                    erlang.demonitor(self.task.ref, flush=True)
                    self.seen.append(value)
                case Down(self.task.ref, _, reason):
                    self.seen.append(("down", reason))

    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        owner = await Owner.start_link()
        await call(owner, lambda: 42)
        await erlang.sleep(1)
        await call(owner, fail)
        await erlang.sleep(1)
        assert await call(owner, "seen") == [42, ("down", "boom")]

    play(body)


def test_a_nolink_task_outlives_its_owner_and_a_task_for_a_dead_owner_is_not_started(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        log: list[str] = []

        async def work() -> None:
            await erlang.sleep(20)
            log.append("done")

        async def owner() -> None:
            await task_supervisor.async_nolink("tasks", work)

        erlang.spawn(owner)
        await erlang.sleep(5)
        assert len(await task_supervisor.children("tasks")) == 1
        await erlang.sleep(40)
        assert log == ["done"]
        assert await task_supervisor.children("tasks") == []

    play(body)


def test_start_child_restarts_only_if_told_to(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        runs: list[int] = []

        async def flaky() -> None:
            runs.append(1)
            if len(runs) < 3:
                raise Exit("again")

        await task_supervisor.start_child("tasks", flaky, restart="transient")
        await erlang.sleep(5)
        assert len(runs) == 3
        await task_supervisor.start_child("tasks", fail)
        pid = await task_supervisor.start_child("tasks", forever)
        await erlang.sleep(5)
        assert await task_supervisor.children("tasks") == [pid]
        assert await task_supervisor.terminate_child("tasks", pid) == "ok"
        assert await task_supervisor.terminate_child("tasks", pid) == ("error", "not_found")

    play(body)


def test_max_children_and_the_supervisors_end(play: Any) -> None:
    async def body() -> None:
        sup = await TaskSupervisor.start_link(max_children=1)
        only = await task_supervisor.async_nolink(sup, forever)
        with pytest.raises(StartError) as refused:
            await task_supervisor.async_nolink(sup, forever)
        assert refused.value.reason == "max_children"
        erlang.exit(sup, "shutdown")
        assert await task.yield_(only, 1000) == ("exit", "shutdown")

    play(body)


def test_a_task_supervisor_as_a_child(play: Any) -> None:
    async def body() -> None:
        await Supervisor.start_link([ChildSpec("t", (TaskSupervisor.start_link, (5,)), type="supervisor")])

    play(body)


def test_tasks_need_an_owner() -> None:
    with pytest.raises(RuntimeError, match="owner"):
        task.async_(double, 1)


def test_await_many_exits_with_the_first_that_fails(play: Any) -> None:
    async def body() -> None:
        await TaskSupervisor.start_link(name="tasks")
        slow = await task_supervisor.async_nolink("tasks", erlang.sleep, 60_000)
        bad = await task_supervisor.async_nolink("tasks", exit, "boom")
        began = erlang.monotonic_time()
        with pytest.raises(Exit) as caught:
            await task.await_many([slow, bad], 70_000)
        assert caught.value.reason == ("boom", CallSite("Task", "await_many", ((slow, bad), 70_000)))
        assert erlang.monotonic_time() - began < 10_000
        info: Any = erlang.process_info(erlang.self_())
        assert info["monitors"] == []

    play(body)


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


def test_yield_many_with_a_limit_and_ignore() -> None:
    async def body() -> None:
        async def after(ms: float) -> float:
            await erlang.sleep(ms)
            return ms

        tasks = [task.async_(after, ms) for ms in (30, 10, 20)]
        got = await task.yield_many(tasks, 1000, limit=1)
        assert got == [(tasks[0], None), (tasks[1], ("ok", 10)), (tasks[2], None)]
        got = await task.yield_many([tasks[0], tasks[2]], 15, on_timeout="kill_task")
        assert got == [(tasks[0], None), (tasks[2], ("ok", 20))]
        assert not erlang.is_process_alive(tasks[0].pid)
        left = task.async_(after, 5)
        assert await task.ignore(left) is None
        done = task.async_(after, 0)
        await erlang.sleep(20)
        assert await task.ignore(done) == ("ok", 0)
        # Of the tasks that were not ignored.
        assert all(isinstance(message, ExitMessage) for message in await mail())
        with pytest.raises(ValueError, match="limit"):
            await task.yield_many([], 1, limit=0)

    simulation.play(body)  # which of them is done first is a matter of time


def test_yield_many_may_wait_for_ever(play: Any) -> None:
    async def body() -> None:
        quick = task.async_(lambda: 1)
        assert await task.yield_many([quick], None) == [(quick, ("ok", 1))]

    play(body)


def test_exit_messages_of_awaited_tasks_are_left_to_the_owner(play: Any) -> None:
    async def body() -> None:
        tasks = [task.async_(erlang.sleep, ms) for ms in (30, 10, 20)]
        assert await task.await_many(tasks) == [None, None, None]
        await erlang.sleep(10)
        ended = [await erlang.receive(timeout=0) for _ in tasks]
        assert ended == [ExitMessage(tasks[n].pid, "normal") for n in (1, 2, 0)]
        assert await erlang.receive(timeout=0) is erlang.TIMEOUT

    play(body)


def test_a_task_may_be_awaited_twice_in_one_go(play: Any) -> None:
    async def answer() -> int:
        return 42

    async def body() -> None:
        one = task.async_(answer)
        assert await task.await_many([one, one], 1000) == [42, 42]

    play(body)
