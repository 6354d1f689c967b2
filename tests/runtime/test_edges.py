"""Legal but rare uses of the runtime, and bad input to it: none may cost more than the one who asked for it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from runtime.core import reports, telemetry
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.exits import CallSite, Error, Exit, exit
from runtime.observe import term
from runtime.observe.report_log import ReportLog
from runtime.otp import dynamic_supervisor, erlang, supervisor, task, task_supervisor
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.erlang import ExitMessage
from runtime.otp.gen_server import GenServer, NoReply, Ok, Reply, StartError, Stop, call
from runtime.otp.state_machine import GenericTimeout, InitialState, StateMachine, StateTimeout
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.otp.task_supervisor import TaskSupervisor
from runtime.otp.tree_config import TreeConfigError, parse
from runtime.testing.simulation import Simulation, play_real


class Worker(GenServer):
    pass


class Countdown(GenServer):
    """Continues with itself, `how` says which steps are coroutines."""

    def init(self, start: int, how: str) -> Ok:
        self.how = how
        return Ok(continue_=start)

    def handle_continue(self, continue_: int) -> Any:
        self.left = continue_
        if self.how == "async" or (self.how == "mixed" and continue_ % 2):
            return self._later(continue_)
        return NoReply(continue_=continue_ - 1) if continue_ > 1 else None

    async def _later(self, left: int) -> Any:
        return NoReply(continue_=left - 1) if left > 1 else None

    def handle_call(self, request: Any, from_: Any) -> Reply:
        return Reply(self.left)


@pytest.mark.parametrize("how", ["sync", "async", "mixed"])
def test_a_server_continues_as_often_as_it_likes(play: Any, how: str) -> None:
    async def body() -> None:
        pid = await Countdown.start(5000, how)
        assert await call(pid, "left") == 1

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


# ---- reasons and reports


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


@pytest.fixture
def supervisor_reports() -> Any:
    found: list[tuple[Any, Any]] = []

    def take(_event: Any, _measurements: Any, metadata: Any) -> None:
        report = metadata["report"]
        if report.kind == "supervisor":
            found.append((report.context["error"], report.reason))

    telemetry.attach("test_runtime_edges", reports.EVENT, take)
    yield found
    telemetry.detach("test_runtime_edges")


def test_a_child_that_is_killed_as_its_spec_says_is_no_report(play: Any, supervisor_reports: Any) -> None:
    async def body() -> None:
        sup: Any = await Supervisor.start_link(
            [ChildSpec("a", (Worker.start_link, ()), shutdown="brutal_kill")]
        )
        assert await supervisor.terminate_child(sup, "a") == "ok"
        assert supervisor_reports == []

    play(body)


def test_the_report_log_finds_by_name_whatever_a_child_is_called() -> None:
    log = ReportLog()
    report = reports.Report("supervisor", "<0.1.0>", "sup", "m:S", "x", context={"child": ["a", "list"]})
    log._take(reports.EVENT, {}, {"report": report})
    assert [entry.report for entry in log.last(name="sup")] == [report]


# ---- supervisors


def test_a_child_id_that_cannot_be_a_key_is_refused(play: Any) -> None:
    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        spec = ChildSpec(["a"], (Worker.start_link, ()))
        assert await supervisor.start_child(sup, spec) == ("error", ("invalid_id", ["a"]))
        assert erlang.is_process_alive(sup)
        with pytest.raises(StartError) as caught:
            await Supervisor.start_link([spec])
        assert caught.value.reason == ("start_spec", ("invalid_id", ["a"]))

    play(body)


def test_a_start_function_that_is_cancelled_has_failed_to_start(play: Any) -> None:
    async def cancelled() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        status, (reason, _child) = await supervisor.start_child(sup, ChildSpec("a", (cancelled, ())))
        assert status == "error"
        assert reason[0] == "EXIT"
        assert isinstance(reason[1][0], asyncio.CancelledError)
        assert erlang.is_process_alive(sup)

    play(body)


def test_a_supervisor_that_is_killed_while_a_child_starts_is_unwound(play: Any) -> None:
    left: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            left.append("start function")

    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        erlang.spawn(supervisor.start_child, sup, ChildSpec("a", (slow, ())))
        await erlang.sleep(5)
        erlang.exit(sup, "kill")
        await erlang.sleep(5)
        assert left == ["start function"]

    play(body)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_children": "5"}, ("invalid_max_children", "5")),
        ({"max_children": -1}, ("invalid_max_children", -1)),
        ({"intensity": -1}, ("invalid_intensity", -1)),
        ({"period": 0}, ("invalid_period", 0)),
        ({"period": float("nan")}, "invalid_period"),
    ],
)
def test_a_dynamic_supervisor_says_what_is_wrong_with_its_options(
    play: Any, options: dict[str, Any], problem: Any
) -> None:
    async def body() -> None:
        with pytest.raises(StartError) as caught:
            await DynamicSupervisor.start_link(**options)
        kind, found = caught.value.reason
        assert kind == "supervisor_data"
        assert found == problem if isinstance(problem, tuple) else found[0] == problem

    play(body)


class Slow(GenServer):
    """Traps exits and takes its time to end."""

    def init(self) -> None:
        self._myRef.own_relations().trap_exit = True

    async def terminate(self, reason: Any) -> None:
        await erlang.sleep(200)


def test_a_dynamic_supervisor_stops_all_at_once_whatever_their_shutdowns(play: Any) -> None:
    async def body() -> None:
        sup: Any = await DynamicSupervisor.start_link()
        pids = [
            await dynamic_supervisor.start_child(sup, ChildSpec(n, (Slow.start_link, ()), shutdown=shutdown))
            for n, shutdown in enumerate((1000, "infinity", 2000, 3000, "brutal_kill"))
        ]
        began = erlang.monotonic_time()
        erlang.exit(sup, "shutdown")
        for pid in (*pids, sup):
            await erlang.await_down(pid)
        assert erlang.monotonic_time() - began < 600

    play(body)


def test_each_child_of_a_dynamic_supervisor_is_killed_by_its_own_shutdown(play: Any) -> None:
    class Stubborn(Slow):
        async def terminate(self, reason: Any) -> None:
            await erlang.sleep(3_600_000)

    async def body() -> None:
        sup: Any = await DynamicSupervisor.start_link()
        ended: list[tuple[int, Any]] = []
        for shutdown in (100, 1):
            pid = await dynamic_supervisor.start_child(
                sup, ChildSpec("x", (Stubborn.start_link, ()), shutdown=shutdown)
            )
            assert pid is not None
            pid.cell.on_exit(lambda _pid, shutdown=shutdown: ended.append(shutdown))
        erlang.exit(sup, "shutdown")
        await erlang.await_down(sup)
        assert ended == [1, 100]

    play(body)


class Starter:
    """Starts once; then fails, and lets others run before it does."""

    def __init__(self) -> None:
        self.starts = 0
        self.permitted = 1

    async def start_link(self) -> Any:
        self.starts += 1
        if self.starts > self.permitted:
            await erlang.sleep(1)
            raise StartError("not now")
        return await Worker.start_link()


def test_a_child_whose_restart_fails_is_listed_counted_and_can_be_terminated(play: Any) -> None:
    async def body() -> None:
        sup: Any = await DynamicSupervisor.start_link(intensity=1_000_000)
        starter = Starter()
        spec = ChildSpec("x", (starter.start_link, ()), type="supervisor", shutdown=100)
        pid: Any = await dynamic_supervisor.start_child(sup, spec)
        erlang.exit(pid, "boom")
        await erlang.sleep(20)
        assert await dynamic_supervisor.which_children(sup) == [(None, "restarting", "supervisor", ())]
        assert await dynamic_supervisor.count_children(sup) == {
            "specs": 1, "active": 0, "supervisors": 1, "workers": 0,
        }  # fmt: skip
        assert await dynamic_supervisor.terminate_child(sup, pid) == "ok"
        assert await dynamic_supervisor.which_children(sup) == []
        starts = starter.starts
        await erlang.sleep(20)
        assert starter.starts == starts

    play(body)


# ---- tasks


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


def test_yield_many_may_wait_for_ever(play: Any) -> None:
    async def body() -> None:
        quick = task.async_(lambda: 1)
        assert await task.yield_many([quick], None) == [(quick, ("ok", 1))]

    play(body)


@pytest.mark.parametrize(
    ("options", "name"), [({"max_concurrency": 0}, "max_concurrency"), ({"on_timeout": "kill"}, "on_timeout")]
)
def test_a_stream_names_the_option_that_is_wrong(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        task_supervisor.async_stream("tasks", [1], print, **options)


# ---- the rest


def test_a_name_that_nobody_may_have_starts_no_process(play: Any) -> None:
    async def body() -> None:
        before = erlang.processes()
        with pytest.raises(Error):
            erlang.spawn(erlang.receive, name="undefined")
        assert erlang.processes() == before

    play(body)


@pytest.mark.parametrize("target", [3, ["a"], ("a", 1)])
def test_a_monitor_of_what_is_no_process_is_badarg(play: Any, target: Any) -> None:
    async def body() -> None:
        for function in (erlang.monitor, lambda dest: erlang.send_after(1, dest, "x"), erlang.await_down):
            with pytest.raises(Error) as caught:
                result: Any = function(target)
                if function is erlang.await_down:
                    await result
            assert caught.value.reason == "badarg"
        assert await erlang.receive(timeout=5) is erlang.TIMEOUT

    play(body)


def import_name(name: str) -> None:
    raise ImportError(f"cannot import name {name!r} from 'runtime'\n(a second line)")


@pytest.mark.parametrize(
    ("start", "source"),
    [
        ("broken_actors:Actor", lambda: import_name("nothing_of_the_kind")),
        ("broken_actors:Actor", lambda: 1 / 0),
        (":Actor", None),
        ("..actors:Actor", None),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, start: str, source: Callable[[], Any] | None
) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, Finder) if name == "broken_actors" else None  # type: ignore[arg-type]

        @staticmethod
        def create_module(spec: Any) -> None:
            return None

        @staticmethod
        def exec_module(module: ModuleType) -> None:
            assert source is not None
            source()

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    tree = {"supervisor": {"root": {"children": ["a"]}}, "worker": {"a": {"start": start}}}
    with pytest.raises(TreeConfigError, match=r"^supervisor.toml: \[worker.a\] start: .*") as caught:
        parse(tree)
    assert "\n" not in str(caught.value)
    assert start.split(":")[0] in str(caught.value)


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = object.__hash__


class Colour(Enum):
    RED = 1

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_what_a_value_raises_does_not_hide_the_others() -> None:
    shown = term.show({"password": Odd(), "colour": Colour.RED, "n": 1})
    assert shown == {"password": term.MASK, "colour": "Colour.RED", "n": 1}


def test_exit_messages_of_awaited_tasks_are_left_to_the_owner(play: Any) -> None:
    async def body() -> None:
        tasks = [task.async_(erlang.sleep, ms) for ms in (30, 10, 20)]
        assert await task.await_many(tasks) == [None, None, None]
        await erlang.sleep(10)
        ended = [await erlang.receive(timeout=0) for _ in tasks]
        assert ended == [ExitMessage(tasks[n].pid, "normal") for n in (1, 2, 0)]
        assert await erlang.receive(timeout=0) is erlang.TIMEOUT

    play(body)


def test_a_process_that_cancels_itself_is_cancelled_where_it_waits_next(play: Any) -> None:
    async def cancels_itself() -> str:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        try:
            await erlang.receive(timeout=10_000)
        except asyncio.CancelledError:
            return "cancelled"
        return "waited"

    assert play(cancels_itself) == "cancelled"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's word on such code
def test_code_that_catches_whatever_ends_it_does_not_hold_the_engine(play: Any) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await erlang.receive()
            except BaseException:
                pass

    async def body() -> str:
        pid, ref = erlang.spawn(stubborn, monitor=True)
        await erlang.sleep(1)
        erlang.exit(pid, "kill")
        await erlang.receive(lambda message: getattr(message, "ref", None) is ref)
        await erlang.sleep(1)
        return "went on"

    assert play(body) == "went on"


class Timed(GenServer):
    def init(self) -> Ok:
        return Ok(timeout=3_600_000)


class TimedMachine(StateMachine):
    def init(self) -> InitialState:
        return InitialState("only", StateTimeout(3_600_000), GenericTimeout("other", 3_600_000))

    def only(self, event: Any, content: Any) -> None:
        pass


@pytest.mark.parametrize("kind", [Timed, TimedMachine])
def test_a_timer_does_not_keep_a_killed_process_in_memory(kind: Any) -> None:
    async def body() -> None:
        pid = await kind.start()
        cell = weakref.ref(pid.cell)
        erlang.exit(pid, "kill")
        del pid
        await erlang.sleep(1)
        gc.collect()
        assert cell() is None

    play_real(body)  # a simulation's trace keeps them all


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


def test_stop_waits_for_what_the_killed_clean_up() -> None:
    cleaned: list[str] = []

    async def holder() -> None:
        try:
            await erlang.receive()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append("done")

    async def main() -> None:
        engine = AsyncioEngine().start()
        engine.spawn(holder)
        await asyncio.sleep(0.01)
        await engine.stop()

    asyncio.run(main())
    assert cleaned == ["done"]


def test_a_task_may_be_awaited_twice_in_one_go(play: Any) -> None:
    async def answer() -> int:
        return 42

    async def body() -> None:
        one = task.async_(answer)
        assert await task.await_many([one, one], 1000) == [42, 42]

    play(body)
