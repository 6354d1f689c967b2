"""Elixir's `Task`: a process that computes one value for its owner.

    task = async_(fetch, url)     # linked to the caller
    value = await await_(task)    # or: await task

The owner gets `(task.ref, value)` as a message, or `Down(task.ref, ...)`; `await_`, `yield_` and `shutdown` take them from its
mailbox, or a GenServer handles them in handle_info. After `await_` no more messages of the task arrive. All times are
milliseconds. For tasks under a supervisor see `task_supervisor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from inspect import iscoroutine
from typing import Any, Final, Literal, cast

from runtime.core import signals
from runtime.core.actor import FunctionProcess
from runtime.core.bad_argument import check_callable
from runtime.core.durations import check_timeout
from runtime.core.engine import current_engine
from runtime.core.exits import CallSite, Exit, is_atom
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.signals import Monitor
from runtime.otp import erlang
from runtime.otp.destination import lost
from runtime.otp.erlang import TIMEOUT, Down
from runtime.otp.process_dictionary import ancestors_of, dictionary_of

DEFAULT_TIMEOUT: Final = 5000  # ms


class Task:
    """`%Task{}`: its process, its owner, and the reference in its messages. `await task` is `await_(task)`."""

    __slots__ = ("mfa", "owner", "pid", "ref")

    def __init__(self, owner: Pid, mfa: Any) -> None:
        self.owner = owner
        self.mfa = mfa
        self.pid: Pid = cast(Pid, None)  # both are set by `started`
        self.ref: Monitor = cast(Monitor, None)

    def __repr__(self) -> str:
        return f"Task({self.pid}, {self.ref})"

    def __await__(self) -> Generator[Any, None, Any]:
        return await_(self).__await__()

    def is_message(self, message: Any) -> bool:
        """True for a message of the task: its result or its Down."""
        if isinstance(message, Down):
            return message.ref is self.ref
        return isinstance(message, tuple) and len(message) == 2 and message[0] is self.ref

    def started(self, pid: Pid, link: bool) -> None:
        """Sets the process of the task; the owner, which runs, monitors it and, with `link`, is linked to it."""
        if link:
            erlang.link(pid)
        self.pid = pid
        self.ref = cast(Monitor, erlang.monitor(pid))


class TaskProcess(FunctionProcess):
    """The process: runs the function, sends the result to the owner and ends with `normal`."""

    __slots__ = ("_task",)

    def __init__(self, task: Task, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(fn, args)
        self._task = task

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef), "$callers": callers_of(self._task.owner.cell)}

    def _begin(self) -> Any:
        result = self._fn(*self._args)
        if iscoroutine(result):
            return result
        if isinstance(result, Awaitable):  # such as a call returned by a lambda
            return _completed(result)
        self._returned(result)
        return None

    def _returned(self, value: Any) -> None:
        # The monitor serves as Elixir's alias: once it is removed, the reply is dropped.
        if self._task.ref in self._task.owner.cell.relations.monitors:
            self._task.owner.cell.deliver((self._task.ref, value))
        super()._returned(value)


async def _completed(result: Awaitable[Any]) -> Any:
    return await result


def _owner() -> Cell:
    if scheduler.current is None:
        raise RuntimeError("a task needs an owner: this works only inside a process")
    return scheduler.current


def async_(fn: Callable[..., Any], *args: Any) -> Task:
    """`Task.async/1,3`: runs `fn(*args)`, a function or an `async def`, in a process linked to the caller."""
    check_callable("fn", fn)
    owner = _owner()
    task = Task(owner.pid, fn)
    task.started(owner.engine.spawn_actor(TaskProcess(task, fn, args), owner), True)
    return task


def completed(value: Any) -> Task:
    """`Task.completed/1` (Elixir 1.13): a task without a process that already has a value."""
    owner = _owner()
    task = Task(owner.pid, None)
    task.ref = Monitor(owner, None, None)
    owner.deliver((task.ref, value))
    return task


class Unawaited(FunctionProcess):
    """The process of a task that is not awaited."""

    __slots__ = ("_callers",)

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], callers: list[Pid]) -> None:
        super().__init__(fn, args)
        self._callers = callers

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef), "$callers": self._callers}


def callers_of(cell: Cell | None) -> list[Pid]:
    """`$callers` of a task that this process starts: itself and its own callers."""
    if cell is None:
        return []
    known = next((value for key, value in dictionary_of(cell) if key == "$callers"), [])
    return [cell.pid, *known]


def start(fn: Callable[..., Any], *args: Any) -> Pid:
    """`Task.start/1,3`: starts a task that is neither awaited nor linked."""
    check_callable("fn", fn)
    caller = scheduler.current
    return current_engine().spawn_actor(Unawaited(fn, args, callers_of(caller)), caller)


async def start_link(fn: Callable[..., Any], *args: Any) -> Pid:
    """`Task.start_link/1,3`: as `start`, linked to the caller; can be the `start` of a ChildSpec."""
    check_callable("fn", fn)
    caller = scheduler.current
    return current_engine().spawn_actor(Unawaited(fn, args, callers_of(caller)), caller, caller is not None)


def _check_owner(task: Task) -> None:
    if scheduler.current is not task.owner.cell:
        raise ValueError(f"{task} must be queried from its owner {task.owner}")


def _exit(task: Task, reason: Any, function: str, *args: Any) -> tuple[Literal["exit"], Any]:
    """The result for a task that has ended. Raises Exit with `nodedown` if its node is lost, as in Elixir."""
    if is_atom(reason, "noconnection"):
        raise Exit((lost(task.pid.cell, reason), CallSite("Task", function, args)))
    return ("exit", reason)


async def await_(task: Task, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`Task.await/2`: waits for the value; for the owner only.

    Raises `Exit((reason, CallSite))`: the exit reason of the task, or "timeout" after `timeout` ms. The task then continues, and
    its result is dropped; if the exception ends the caller, the link ends the task.
    """
    _check_owner(task)
    message = await erlang.receive(task.is_message, timeout, refs=(task.ref,))
    if isinstance(message, tuple):
        erlang.demonitor(task.ref, flush=True)
        return message[1]
    site = CallSite("Task", "await", (task, timeout))
    if isinstance(message, Down):
        raise Exit((lost(task.pid.cell, message.reason), site))
    erlang.demonitor(task.ref, flush=True)
    raise Exit(("timeout", site))


async def await_many(tasks: Sequence[Task], timeout: float | None = DEFAULT_TIMEOUT) -> list[Any]:
    """`Task.await_many/2`: waits for all values, in the order of `tasks`, at most `timeout` ms in all."""
    for task in tasks:
        _check_owner(task)
    left = _time_left(timeout)
    refs = [task.ref for task in tasks]
    values: dict[Task, Any] = {}
    while len(values) < len(set(tasks)):
        # The first to arrive: a failure must not wait for a slow task.
        message = await erlang.receive(_is_of(tasks), left(), refs=refs)
        if isinstance(message, tuple):
            task = next(task for task in tasks if task.ref is message[0])
            values[task] = message[1]
            erlang.demonitor(task.ref, flush=True)
            continue
        for task in tasks:
            erlang.demonitor(task.ref, flush=True)
        reason = lost(message.pid.cell, message.reason) if isinstance(message, Down) else "timeout"
        raise Exit((reason, CallSite("Task", "await_many", (tuple(tasks), timeout))))
    return [values[task] for task in tasks]


def _is_of(tasks: Sequence[Task]) -> Callable[[Any], bool]:
    return lambda message: any(task.is_message(message) for task in tasks)


def _time_left(timeout: float | None) -> Callable[[], float | None]:
    """A function that returns how many of `timeout` ms are left; None for infinity."""
    check_timeout(timeout)
    if timeout is None:
        return lambda: None
    until = erlang.monotonic_time() + timeout
    return lambda: max(0.0, until - erlang.monotonic_time())


async def yield_(
    task: Task, timeout: float | None = DEFAULT_TIMEOUT
) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.yield/2`: `("ok", value)`, `("exit", reason)`, or None after `timeout` ms; the task then continues."""
    _check_owner(task)
    message = await erlang.receive(task.is_message, timeout, refs=(task.ref,))
    if message is TIMEOUT:
        return None
    if isinstance(message, Down):
        return _exit(task, message.reason, "yield", task, timeout)
    erlang.demonitor(task.ref, flush=True)
    return ("ok", message[1])


async def yield_many(
    tasks: Sequence[Task],
    timeout: float | None = DEFAULT_TIMEOUT,
    *,
    limit: int | None = None,
    on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
) -> list[tuple[Task, Any]]:
    """`Task.yield_many/2`: pairs of task and result as of `yield_`, after at most `timeout` ms in all.

    With `limit` it returns once as many tasks are done. By `on_timeout` the others continue ("nothing"), or are ignored or
    killed; their result is None. So is that of a task that is listed again, since it answers once. Raises ValueError for an
    invalid option.
    """
    if on_timeout not in ("nothing", "ignore", "kill_task"):
        raise ValueError(f'on_timeout: expected "nothing", "ignore" or "kill_task", got {on_timeout!r}')
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit: expected a whole number, 1 or more, got {limit!r}")
    left = _time_left(timeout)
    results: dict[Task, Any] = {}
    waiting = list(tasks)
    for task in waiting:
        _check_owner(task)
    while waiting and (limit is None or len(results) < limit):
        message = await erlang.receive(_is_of(waiting), left(), refs=[task.ref for task in waiting])
        if message is TIMEOUT:
            break
        task = next(task for task in waiting if task.is_message(message))
        waiting.remove(task)
        if isinstance(message, Down):
            results[task] = _exit(task, message.reason, "yield_many", tuple(tasks), timeout)
        else:
            erlang.demonitor(task.ref, flush=True)
            results[task] = ("ok", message[1])
    for task in waiting:
        if task in results:
            continue  # it is listed twice
        if on_timeout == "kill_task":
            results[task] = await shutdown(task, "brutal_kill")
        elif on_timeout == "ignore":
            results[task] = await ignore(task)
    return [(task, results.pop(task, None)) for task in tasks]


async def ignore(task: Task) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.ignore/1`: unlinks the task, which continues; no more messages of it arrive.

    Returns None if it is still running, `("ok", value)` or `("exit", reason)` if that has arrived. As in Elixir an EXIT message
    that has arrived stays in the mailbox.
    """
    _check_owner(task)
    message = await erlang.receive(task.is_message, 0, refs=(task.ref,))
    owner = _owner()
    owner.unlink(task.pid)
    erlang.demonitor(task.ref, flush=True)
    if isinstance(message, tuple):
        return ("ok", message[1])
    return _exit(task, message.reason, "ignore", task) if isinstance(message, Down) else None


async def shutdown(
    task: Task, timeout: float | Literal["brutal_kill"] | None = DEFAULT_TIMEOUT
) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.shutdown/2`: ends the task with "shutdown" and after `timeout` ms with "kill", or at once by "brutal_kill".

    Returns None if that has ended it, `("ok", value)` if its value had arrived, `("exit", reason)` if it ended otherwise.
    """
    _check_owner(task)
    if timeout != "brutal_kill":
        check_timeout(timeout)
    owner = _owner()
    owner.unlink(task.pid)
    brutal = timeout == "brutal_kill"
    down = signals.DownReply(task.pid.cell)
    task.pid.cell.exit_signal(owner.pid, "kill" if brutal else "shutdown", False)
    killer = None
    if not brutal and isinstance(timeout, int | float):
        killer = owner.engine.call_later(timeout / 1000, task.pid.cell.exit_signal, owner.pid, "kill", False)
    try:
        reason = await down
    finally:
        if killer is not None:
            killer.cancel()
    message = await erlang.receive(task.is_message, 0, refs=(task.ref,))
    erlang.demonitor(task.ref, flush=True)
    if isinstance(message, tuple):
        return ("ok", message[1])
    if isinstance(message, Down):
        reason = message.reason  # the reason, if it was already dead
    expected = "killed" if brutal else "shutdown"
    return None if is_atom(reason, expected) else _exit(task, reason, "shutdown", task, timeout)
