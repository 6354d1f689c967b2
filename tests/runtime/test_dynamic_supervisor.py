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
from runtime.otp.gen_server import Ignore, Stop
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
