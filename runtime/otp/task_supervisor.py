"""Elixir's `Task.Supervisor`: tasks as children of a supervisor, and streams of tasks.

    task = await async_nolink("tasks", fetch, url)        # its crash is only a Down message
    async for result in async_stream("tasks", urls, fetch, max_concurrency=4):
        ...                                               # ("ok", value) or ("exit", reason)

The supervisor is a DynamicSupervisor, which stops its tasks when it ends; the functions work on any DynamicSupervisor, also on
one from supervisor.toml. Tasks are `temporary`: they are not restarted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final, Literal

from runtime.core.bad_argument import check_callable
from runtime.core.exits import Exit
from runtime.core.pid import Pid
from runtime.core.scheduling import scheduler
from runtime.core.signals import Down
from runtime.otp import dynamic_supervisor, erlang
from runtime.otp.async_stream import StreamOptions, stream
from runtime.otp.destination import Dest
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.supervisor import ChildSpec
from runtime.otp.task import (
    DEFAULT_TIMEOUT,
    Task,
    TaskProcess,
    Unawaited,
    await_,
    callers_of,
    shutdown,
    yield_,
)
from runtime.otp.task import async_ as async_unsupervised

# The default of async_stream. Elixir's is the number of schedulers, which here is one.
MAX_CONCURRENCY: Final = 8


class TaskSupervisor(DynamicSupervisor):
    """`Task.Supervisor.start_link(max_children=, intensity=, period=, name=)`."""


class SupervisedTask(TaskProcess):
    """A task that its supervisor has started: it runs the function once its owner, who is linked by then, asks for it.

    It ends with `("shutdown", reason)` if its owner ends before that, with "timeout" if its owner does not ask.
    """

    __slots__ = ()

    def _begin(self) -> Any:
        return self._when_asked()

    async def _when_asked(self) -> Any:
        task = self._task
        owner = erlang.monitor(task.owner)

        def is_answer(message: Any) -> bool:
            return message is task or (isinstance(message, Down) and message.ref is owner)

        match await erlang.receive(is_answer, DEFAULT_TIMEOUT):
            case Down(reason=reason):
                raise Exit(("shutdown", reason))
            case erlang.TIMEOUT:
                raise Exit("timeout")
        erlang.demonitor(owner, flush=True)
        result = self._fn(*self._args)
        return await result if isinstance(result, Awaitable) else result


async def _start_task(task: Task, fn: Callable[..., Any], args: tuple[Any, ...]) -> Pid:
    supervisor = scheduler.current
    assert supervisor is not None
    return supervisor.engine.spawn_actor(SupervisedTask(task, fn, args), supervisor, True)


async def _start_function(fn: Callable[..., Any], args: tuple[Any, ...], callers: list[Pid]) -> Pid:
    supervisor = scheduler.current
    assert supervisor is not None
    return supervisor.engine.spawn_actor(Unawaited(fn, args, callers), supervisor, True)


async def _async(
    sup: Dest, fn: Callable[..., Any], args: tuple[Any, ...], link: bool, stop: int | str = 5000
) -> Task:
    check_callable("fn", fn)
    owner = scheduler.current
    if owner is None:
        raise RuntimeError("a task needs an owner: this works only inside a process")
    task = Task(owner.pid, fn)
    spec = ChildSpec(fn, (_start_task, (task, fn, args)), restart="temporary", shutdown=stop)
    pid = await dynamic_supervisor.start_child(sup, spec)
    task.started(pid, link)
    erlang.send(pid, task)
    return task


async def async_(sup: Dest, fn: Callable[..., Any], *args: Any, shutdown: int | str = 5000) -> Task:
    """`Task.Supervisor.async/3`: a task under `sup`, linked to the caller too. Raises StartError("max_children").

    `shutdown` as of ChildSpec: ms, "brutal_kill" or "infinity".
    """
    return await _async(sup, fn, args, True, shutdown)


async def async_nolink(sup: Dest, fn: Callable[..., Any], *args: Any, shutdown: int | str = 5000) -> Task:
    """`Task.Supervisor.async_nolink/3`: as `async_`, not linked to the caller; a crash is a Down with `task.ref`."""
    return await _async(sup, fn, args, False, shutdown)


async def start_child(
    sup: Dest, fn: Callable[..., Any], *args: Any, restart: str = "temporary", shutdown: int | str = 5000
) -> Pid:
    """`Task.Supervisor.start_child/3`: a task that is not awaited. With `restart="transient"` it is restarted after a crash."""
    check_callable("fn", fn)
    start = (_start_function, (fn, args, callers_of(scheduler.current)))
    spec = ChildSpec(fn, start, restart=restart, shutdown=shutdown)
    pid = await dynamic_supervisor.start_child(sup, spec)
    assert pid is not None
    return pid


async def terminate_child(sup: Dest, pid: Pid) -> Any:
    """`Task.Supervisor.terminate_child/2`: "ok" or ("error", "not_found")."""
    return await dynamic_supervisor.terminate_child(sup, pid)


async def children(sup: Dest) -> list[Pid]:
    """`Task.Supervisor.children/1`: the pids of the running tasks, in start order."""
    return [pid for _, pid, _, _ in await dynamic_supervisor.which_children(sup) if isinstance(pid, Pid)]


def async_stream(
    sup: Dest | None,
    items: Iterable[Any],
    fn: Callable[[Any], Any],
    *,
    max_concurrency: int = MAX_CONCURRENCY,
    ordered: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT,
    on_timeout: Literal["exit", "kill_task"] = "exit",
    zip_input_on_exit: bool = False,
) -> AsyncIterator[tuple[str, Any]]:
    """`Task.Supervisor.async_stream/4`: runs `fn(item)` in a task for each item, at most `max_concurrency` at a time.

    Yields `("ok", value)` for each, in the order of `items` or, with `ordered=False`, of completion. The tasks are linked to the
    caller: a crash ends it or, if it traps exits, yields `("exit", reason)`. A task that runs for more than `timeout` ms raises
    Exit(("timeout", CallSite)), or with on_timeout="kill_task" is killed and yields `("exit", "timeout")`. With
    `zip_input_on_exit` an exit is `("exit", (item, reason))`. `items` is consumed as results are; tasks that still run when
    the stream is closed are stopped. With `sup` None this is `Task.async_stream/3`. Raises ValueError for an invalid option.
    """
    options = StreamOptions(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit)
    return stream(items, _starter(sup, fn, True), options)


def async_stream_nolink(
    sup: Dest | None,
    items: Iterable[Any],
    fn: Callable[[Any], Any],
    *,
    max_concurrency: int = MAX_CONCURRENCY,
    ordered: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT,
    on_timeout: Literal["exit", "kill_task"] = "exit",
    zip_input_on_exit: bool = False,
) -> AsyncIterator[tuple[str, Any]]:
    """`Task.Supervisor.async_stream_nolink/4`: as `async_stream` without links: a crash always yields `("exit", reason)`."""
    options = StreamOptions(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit)
    return stream(items, _starter(sup, fn, False), options)


def _starter(sup: Dest | None, fn: Callable[[Any], Any], link: bool) -> Callable[[Any], Awaitable[Task]]:
    check_callable("fn", fn)

    async def start(item: Any) -> Task:
        return async_unsupervised(fn, item) if sup is None else await _async(sup, fn, (item,), link)

    return start


__all__ = [
    "MAX_CONCURRENCY", "Task", "TaskSupervisor", "async_", "async_nolink", "async_stream",
    "async_stream_nolink", "await_", "children", "shutdown", "start_child", "terminate_child", "yield_",
]  # fmt: skip
