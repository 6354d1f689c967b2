"""DynamicSupervisor's answers, against what Elixir 1.14 gives, and supervisor's functions on it."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import (
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Pid,
    StartError,
    TaskSupervisor,
    dynamic_supervisor,
    supervisor,
)
from runtime.core.exits import Exit, Stack, Throw
from runtime.otp import erlang
from runtime.otp.dynamic_supervisor import ChildTemplate
from runtime.otp.gen_server import Ignore, Stop, cast
from runtime.testing.simulation import play


class Worker(GenServer):
    def init(self, result: Any = None) -> Any:
        if isinstance(result, Exception):
            raise result
        return result


async def gives(result: Any) -> Any:
    return result


async def raises(error: Exception) -> Any:
    raise error


async def with_info() -> Any:
    return ("ok", await Worker.start_link(), "info")


def spec(fn: Any, *args: Any, **more: Any) -> ChildSpec:
    return ChildSpec("x", (fn, args), **more)


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        (spec(Worker.start_link, Stop("r")), "r"),
        (spec(Worker.start_link, Stop("normal")), "normal"),
        (spec(raises, Exit("boom")), "boom"),
        (spec(gives, ("error", "boom")), "boom"),
        (spec(gives, 42), 42),
        (spec(gives, "error"), "error"),
        (spec(gives, ("ok", 5)), ("ok", 5)),
        (spec(gives, ("ok", 5, 6)), ("ok", 5, 6)),
        ({}, ("invalid_child_spec", {})),
        (ChildSpec(1, 5), ("invalid_mfa", 5)),  # type: ignore[arg-type]
        (spec(gives, None, restart="banana"), ("invalid_restart_type", "banana")),
        (spec(gives, None, shutdown=-1), ("invalid_shutdown", -1)),
        (spec(gives, None, modules=1), ("invalid_modules", 1)),
    ],
)
def test_a_start_that_fails_says_why_as_elixir_does(child: Any, reason: Any) -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link()
        with pytest.raises(StartError) as caught:
            await dynamic_supervisor.start_child(sup, child)
        assert caught.value.reason == reason

    play(body)


def test_children_of_one_template_differ_in_their_last_arguments() -> None:
    class Noted(GenServer):
        def init(self, *args: Any) -> None:
            begun.append(args)

    async def body() -> Any:
        sup = await DynamicSupervisor.start_link(extra_arguments=["extra"])
        started: list[Any] = []
        for restart in ("permanent", "temporary"):
            template = ChildTemplate(ChildSpec(restart, (Noted.start_link, ("same",)), restart))
            started += [await dynamic_supervisor.start_child(sup, template, number, "b") for number in (1, 2)]
        kept = [child.args for child in await dynamic_supervisor.children(sup)]
        erlang.exit(started[1], "kill")
        erlang.exit(started[3], "kill")
        return kept, await dynamic_supervisor.count_children(sup)

    begun: list[Any] = []
    kept, counts = play(body)
    first, second = ("extra", "same", 1, "b"), ("extra", "same", 2, "b")
    assert begun == [first, second, first, second, second]  # the permanent one again, with its own arguments
    assert kept == [(1, "b"), (2, "b"), (), ()]
    assert counts["active"] == 3


@pytest.mark.parametrize(
    ("child", "reason"),
    [({}, ("invalid_child_spec", {})), (spec(gives, shutdown=-1), ("invalid_shutdown", -1))],
)
def test_a_template_is_checked_when_it_is_made(child: Any, reason: Any) -> None:
    with pytest.raises(StartError) as caught:
        ChildTemplate(child)
    assert caught.value.reason == reason


def test_what_a_start_raises_has_its_stack_and_no_exit_around_it() -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link()
        error = RuntimeError("boom")
        for fn, arg, expected in ((raises, error, error), (Worker.start_link, error, error),
                                  (raises, Throw(1), ("nocatch", 1))):  # fmt: skip
            with pytest.raises(StartError) as caught:
                await dynamic_supervisor.start_child(sup, spec(fn, arg))
            reason, stack = caught.value.reason
            assert reason == expected
            assert isinstance(stack, Stack)

    play(body)


def test_ignore_info_significant_and_extra_arguments() -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link()
        assert await dynamic_supervisor.start_child(sup, spec(Worker.start_link, Ignore())) is None
        status, pid, info = await dynamic_supervisor.start_child(sup, spec(with_info))
        assert (status, info) == ("ok", "info")
        assert isinstance(pid, Pid)
        assert await dynamic_supervisor.start_child(sup, spec(Worker.start_link, significant=True))
        assert (await dynamic_supervisor.count_children(sup))["active"] == 2
        other = await DynamicSupervisor.start_link(extra_arguments=[Stop("extra")])
        with pytest.raises(StartError, match="extra"):
            await dynamic_supervisor.start_child(other, spec(Worker.start_link))
        with pytest.raises(StartError) as caught:
            await DynamicSupervisor.start_link(extra_arguments=1)  # type: ignore[arg-type]
        assert caught.value.reason == ("supervisor_data", ("invalid_extra_arguments", 1))

    play(body)


@pytest.mark.parametrize("kind", [DynamicSupervisor, TaskSupervisor])
def test_the_functions_of_supervisor_work_on_it(kind: type[DynamicSupervisor]) -> None:
    async def body() -> None:
        sup = await kind.start_link()
        child = spec(with_info)
        status, pid, info = await supervisor.start_child(sup, child)
        assert (status, info) == ("ok", "info")
        assert await supervisor.count_children(sup) == {
            "specs": 1,
            "active": 1,
            "supervisors": 0,
            "workers": 1,
        }
        assert await supervisor.which_children(sup) == [(None, pid, "worker", ())]
        assert [one.pid for one in await supervisor.children(sup)] == [pid]
        assert (await supervisor.get_childspec(sup, pid))[1].id == "x"
        assert await supervisor.get_childspec(sup, "x") == ("error", "not_found")
        assert await supervisor.restart_child(sup, "x") == ("error", "simple_one_for_one")
        assert await supervisor.delete_child(sup, "x") == ("error", "simple_one_for_one")
        assert await supervisor.terminate_child(sup, "x") == ("error", "not_found")
        assert await supervisor.terminate_child(sup, pid) == "ok"
        assert await supervisor.which_children(sup) == []

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
        return await GenServer.start_link()


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


class Stops(GenServer):
    """Stops with the reason that is cast to it."""

    def handle_cast(self, request: Any) -> Any:
        return Stop(request)


def test_temporary_children_are_forgotten_and_permanent_ones_restarted(play: Any) -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link(max_children=3, name="dyn")
        pids = [
            await dynamic_supervisor.start_child("dyn", spec(Stops.start_link, restart="temporary"))
            for _ in range(3)
        ]
        with pytest.raises(StartError) as full:
            await dynamic_supervisor.start_child(sup, spec(Stops.start_link))
        assert full.value.reason == "max_children"
        assert await dynamic_supervisor.terminate_child(sup, pids[1]) == "ok"
        assert await dynamic_supervisor.terminate_child(sup, pids[1]) == ("error", "not_found")
        cast(pids[0], "boom")
        await erlang.sleep(5)
        assert [row[1] for row in await dynamic_supervisor.which_children(sup)] == [pids[2]]
        assert (await dynamic_supervisor.count_children(sup))["active"] == 1
        permanent = await dynamic_supervisor.start_child(sup, spec(Stops.start_link))
        erlang.exit(permanent, "kill")
        await erlang.sleep(5)
        assert (await dynamic_supervisor.count_children(sup))["active"] == 2
        erlang.exit(sup, "shutdown")
        assert await erlang.await_down(sup, 1000) == "shutdown"
        assert erlang.processes() == [erlang.self_()]

    play(body)


def test_it_gives_up_after_too_many_restarts(play: Any) -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link(intensity=1, period=5)
        pid = await dynamic_supervisor.start_child(sup, spec(Stops.start_link))
        ref = erlang.monitor(sup)
        for _ in range(2):
            erlang.exit(pid, "kill")
            await erlang.sleep(5)
            if erlang.is_process_alive(sup):
                pid = (await dynamic_supervisor.which_children(sup))[0][1]
        down = await erlang.receive(lambda m: getattr(m, "ref", None) is ref, 1000)
        assert down.reason == "shutdown"

    play(body)
