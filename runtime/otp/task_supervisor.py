"""Elixir's `Task.Supervisor`: tasks as children of a supervisor, and streams of tasks.

    task = await async_nolink("tasks", fetch, url)        # its crash is a Down message, nothing more
    async for result in async_stream("tasks", urls, fetch, max_concurrency=4):
        ...                                               # ("ok", value) or ("exit", reason)

The supervisor is a DynamicSupervisor: it stops its tasks when it ends. It may stand in supervisor.toml as a
dynamic supervisor; all functions work on those too. Tasks are `temporary`: they are not restarted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final, Literal

from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.scheduling import scheduler
from runtime.otp import dynamic_supervisor
from runtime.otp.async_stream import StreamOptions, stream
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen import Dest
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
from runtime.otp.task import async_ as alone

MAX_CONCURRENCY: Final = (
    8  # of async_stream; Elixir takes the number of schedulers, of which there is one here
)


class TaskSupervisor(DynamicSupervisor):
    """`Task.Supervisor.start_link(max_children=, intensity=, period=, name=)`."""


async def _start_task(task: Task, fn: Callable[..., Any], args: tuple[Any, ...], link: bool) -> Pid | None:
    # In the supervisor, but link and monitor are the owner's: there is no moment in which it could miss the
    # end.
    supervisor = scheduler.current
    assert supervisor is not None
    if task.owner.cell.execution.mode == DEAD:
        return None
    cell = supervisor.engine.spawn_actor(TaskProcess(task, fn, args), supervisor, True)
    task.attach(cell, link)
    return cell


async def _start_function(fn: Callable[..., Any], args: tuple[Any, ...], callers: list[Pid]) -> Pid:
    supervisor = scheduler.current
    assert supervisor is not None
    return supervisor.engine.spawn_actor(Unawaited(fn, args, callers), supervisor, True)


async def _async(
    sup: Dest, fn: Callable[..., Any], args: tuple[Any, ...], link: bool, stop: int | str = 5000
) -> Task:
    owner = scheduler.current
    if owner is None:
        raise RuntimeError("a task needs an owner: this works only inside a process")
    task = Task(owner.pid, fn)
    spec = ChildSpec(fn, (_start_task, (task, fn, args, link)), restart="temporary", shutdown=stop)
    await dynamic_supervisor.start_child(sup, spec)
    return task


async def async_(sup: Dest, fn: Callable[..., Any], *args: Any, shutdown: int | str = 5000) -> Task:
    """`Task.Supervisor.async/3`: a task under `sup`, linked to the caller too. Raises StartError("max_children").

    `shutdown` is what the supervisor gives it to end: ms, "brutal_kill" or "infinity".
    """
    return await _async(sup, fn, args, True, shutdown)


async def async_nolink(sup: Dest, fn: Callable[..., Any], *args: Any, shutdown: int | str = 5000) -> Task:
    """`Task.Supervisor.async_nolink/3`: as `async_` without the link; its crash is a Down with `task.ref`."""
    return await _async(sup, fn, args, False, shutdown)


async def start_child(
    sup: Dest, fn: Callable[..., Any], *args: Any, restart: str = "temporary", shutdown: int | str = 5000
) -> Pid:
    """`Task.Supervisor.start_child/3`: fire and forget. With `restart="transient"` it runs again if it crashes."""
    start = (_start_function, (fn, args, callers_of(scheduler.current)))
    spec = ChildSpec(fn, start, restart=restart, shutdown=shutdown)
    pid = await dynamic_supervisor.start_child(sup, spec)
    assert pid is not None
    return pid


async def terminate_child(sup: Dest, pid: Pid) -> Any:
    """`Task.Supervisor.terminate_child/2`: "ok" or ("error", "not_found")."""
    return await dynamic_supervisor.terminate_child(sup, pid)


async def children(sup: Dest) -> list[Pid]:
    """`Task.Supervisor.children/1`: the pids of the tasks that run, in start order."""
    return [child.pid for child in await dynamic_supervisor.children(sup) if isinstance(child.pid, Pid)]


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
    """`Task.Supervisor.async_stream/4`: `fn(item)` in a task for each item, at most `max_concurrency` at a time.

    Gives `("ok", value)` for each, in the order of `items` or, with `ordered=False`, as they get done. The
    tasks are linked to the caller: one that crashes ends it; if it traps exits, the crash is `("exit",
    reason)`. A task that takes more than `timeout` ms raises Exit(("timeout", CallSite)), or with
    on_timeout="kill_task" is killed and gives `("exit", "timeout")`. `items` is read only as fast as results
    are taken; what runs when the stream is left is stopped. With `zip_input_on_exit` an exit is `("exit", (item, reason))`.
    Without a supervisor (`sup` None) it is `Task.async_stream/3`. Raises ValueError for an option that is wrong.
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
    """`Task.Supervisor.async_stream_nolink/4`: as `async_stream`; a crash is `("exit", reason)` and ends nobody else."""
    options = StreamOptions(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit)
    return stream(items, _starter(sup, fn, False), options)


def _starter(sup: Dest | None, fn: Callable[[Any], Any], link: bool) -> Callable[[Any], Awaitable[Task]]:
    async def start(item: Any) -> Task:
        return alone(fn, item) if sup is None else await _async(sup, fn, (item,), link)

    return start


__all__ = [
    "MAX_CONCURRENCY", "Task", "TaskSupervisor", "async_", "async_nolink", "async_stream",
    "async_stream_nolink", "await_", "children", "shutdown", "start_child", "terminate_child", "yield_",
]  # fmt: skip
