"""Elixir's `Task`: a process that computes one value for its owner.

    task = async_(fetch, url)     # linked to the caller: both die together, unless the caller traps exits
    value = await await_(task)    # or: await task

The owner gets `(task.ref, value)` as a message, or `Down(task.ref, ...)`; `await_`, `yield_` and `shutdown`
take them out of its mailbox. A GenServer may leave them to its handle_info. Once a task is awaited (or its
time is up) nothing of it comes any more. All times are milliseconds. Under a supervisor: see
`task_supervisor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from inspect import iscoroutine
from typing import Any, Final, Literal, cast

from runtime.core import signals
from runtime.core.actor import FunctionProcess
from runtime.core.durations import check_timeout
from runtime.core.engine import current_engine
from runtime.core.exits import CallSite, Exit, is_atom
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.signals import Monitor
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Down
from runtime.otp.gen import lost
from runtime.otp.process_dictionary import ancestors_of, dictionary_of

DEFAULT_TIMEOUT: Final = 5000  # ms


class Task:
    """`%Task{}`: `pid` computes, `owner` waits, `ref` marks the messages. Awaitable: `await task` is `await_(task)`."""

    __slots__ = ("mfa", "owner", "pid", "ref")

    def __init__(self, owner: Pid, mfa: Any) -> None:
        self.owner = owner
        self.mfa = mfa
        self.pid: Pid = cast(Pid, None)  # both are there once it is started
        self.ref: Monitor = cast(Monitor, None)

    def __repr__(self) -> str:
        return f"Task({self.pid}, {self.ref})"

    def __await__(self) -> Generator[Any, None, Any]:
        return await_(self).__await__()

    def is_mail(self, message: Any) -> bool:
        """True for the task's result and its Down."""
        if isinstance(message, Down):
            return message.ref is self.ref
        return isinstance(message, tuple) and len(message) == 2 and message[0] is self.ref

    def attach(self, cell: Cell, link: bool) -> None:
        """The process is there: its owner monitors it, and is linked to it if `link`."""
        owner = self.owner.cell
        self.pid = cell
        self.ref = owner.monitor(cell)
        if link:
            owner.link(cell)


class TaskProcess(FunctionProcess):
    """Runs the function, sends the owner what it returned, ends with `normal`."""

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
        if isinstance(result, Awaitable):  # the call that a lambda returned
            return _completed(result)
        self._returned(result)
        return None

    def _returned(self, value: Any) -> None:
        # The monitor doubles as Elixir's alias: once it is gone, replies are dropped.
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
    owner = _owner()
    task = Task(owner.pid, fn)
    task.attach(owner.engine.spawn_actor(TaskProcess(task, fn, args), owner), True)
    return task


def completed(value: Any) -> Task:
    """`Task.completed/1` (Elixir 1.13): a task of the caller's that has this value already; it has no process."""
    owner = _owner()
    task = Task(owner.pid, None)
    task.ref = Monitor(owner, None, None)
    owner.deliver((task.ref, value))
    return task


class Unawaited(FunctionProcess):
    """A task for which nobody waits."""

    __slots__ = ("_callers",)

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], callers: list[Pid]) -> None:
        super().__init__(fn, args)
        self._callers = callers

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef), "$callers": self._callers}


def callers_of(cell: Cell | None) -> list[Pid]:
    """`$callers` of a task that this process starts: itself, and those on whose behalf it runs."""
    if cell is None:
        return []
    known = next((value for key, value in dictionary_of(cell) if key == "$callers"), [])
    return [cell.pid, *known]


def start(fn: Callable[..., Any], *args: Any) -> Pid:
    """`Task.start/1,3`: fire and forget, no link."""
    caller = scheduler.current
    return current_engine().spawn_actor(Unawaited(fn, args, callers_of(caller)), caller)


async def start_link(fn: Callable[..., Any], *args: Any) -> Pid:
    """`Task.start_link/1,3`: fire and forget, linked; fit for the `start` of a ChildSpec."""
    caller = scheduler.current
    return current_engine().spawn_actor(Unawaited(fn, args, callers_of(caller)), caller, caller is not None)


def _check_owner(task: Task) -> None:
    if scheduler.current is not task.owner.cell:
        raise ValueError(f"{task} must be queried from its owner {task.owner}")


def _exit(task: Task, reason: Any, function: str, *args: Any) -> tuple[Literal["exit"], Any]:
    """How a task that died shows in a result; of one whose node is lost the caller ends with `nodedown`, as in Elixir."""
    if is_atom(reason, "noconnection"):
        raise Exit((lost(task.pid.cell, reason), CallSite("Task", function, args)))
    return ("exit", reason)


async def await_(task: Task, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`Task.await/2`: the value. Only its owner may ask.

    Raises `Exit((reason, CallSite))`: the reason the task died of, or "timeout" after `timeout` ms; the task
    then goes on (uncaught, the exception ends the caller, and the link the task), its result is dropped.
    """
    _check_owner(task)
    message = await erlang.receive(task.is_mail, timeout)
    if isinstance(message, tuple):
        erlang.demonitor(task.ref, flush=True)
        return message[1]
    site = CallSite("Task", "await", (task, timeout))
    if isinstance(message, Down):
        raise Exit((lost(task.pid.cell, message.reason), site))
    erlang.demonitor(task.ref, flush=True)
    raise Exit(("timeout", site))


async def await_many(tasks: Sequence[Task], timeout: float | None = DEFAULT_TIMEOUT) -> list[Any]:
    """`Task.await_many/2`: all values, in the order of `tasks`; `timeout` ms for all together."""
    for task in tasks:
        _check_owner(task)
    left = _time_left(timeout)
    values: dict[Task, Any] = {}
    while len(values) < len(set(tasks)):
        # Whichever comes first: one that has failed must not wait for one that takes long.
        message = await erlang.receive(lambda message: any(task.is_mail(message) for task in tasks), left())
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


def _time_left(timeout: float | None) -> Callable[[], float | None]:
    """How many of `timeout` ms are left, each time it is asked; None waits for ever."""
    check_timeout(timeout)
    if timeout is None:
        return lambda: None
    until = erlang.monotonic_time() + timeout
    return lambda: max(0.0, until - erlang.monotonic_time())


async def yield_(
    task: Task, timeout: float | None = DEFAULT_TIMEOUT
) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.yield/2`: `("ok", value)`, `("exit", reason)`, or None after `timeout` ms; then ask again, or `shutdown`."""
    _check_owner(task)
    message = await erlang.receive(task.is_mail, timeout)
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
    """`Task.yield_many/2`: each task with what `yield_` gives for it; `timeout` ms for all together.

    With `limit` it returns once so many are done. What is not done then is left alone ("nothing"), or ignored or killed
    (`on_timeout`); its result is None. Raises ValueError for an option that is wrong.
    """
    if on_timeout not in ("nothing", "ignore", "kill_task"):
        raise ValueError(f'on_timeout: expected "nothing", "ignore" or "kill_task", got {on_timeout!r}')
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit: expected a whole number, 1 or more, got {limit!r}")
    left = _time_left(timeout)
    results: dict[Task, Any] = {}
    waiting = list(dict.fromkeys(tasks))
    for task in waiting:
        _check_owner(task)
    while waiting and (limit is None or len(results) < limit):
        message = await erlang.receive(lambda message: any(task.is_mail(message) for task in waiting), left())
        if message is TIMEOUT:
            break
        task = next(task for task in waiting if task.is_mail(message))
        waiting.remove(task)
        if isinstance(message, Down):
            results[task] = _exit(task, message.reason, "yield_many", tuple(tasks), timeout)
        else:
            erlang.demonitor(task.ref, flush=True)
            results[task] = ("ok", message[1])
    for task in waiting:
        if on_timeout == "kill_task":
            results[task] = await shutdown(task, "brutal_kill")
        elif on_timeout == "ignore":
            results[task] = await ignore(task)
    return [(task, results.get(task)) for task in tasks]


async def ignore(task: Task) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.ignore/1`: the task goes on, unlinked, and nothing of it comes any more.

    None if it still runs; `("ok", value)` or `("exit", reason)` if that was there already. An EXIT message of it that has come to
    one who traps exits stays, as in Elixir.
    """
    _check_owner(task)
    message = await erlang.receive(task.is_mail, 0)
    owner = _owner()
    owner.unlink(task.pid)
    erlang.demonitor(task.ref, flush=True)
    if isinstance(message, tuple):
        return ("ok", message[1])
    return _exit(task, message.reason, "ignore", task) if isinstance(message, Down) else None


async def shutdown(
    task: Task, timeout: float | Literal["brutal_kill"] | None = DEFAULT_TIMEOUT
) -> tuple[Literal["ok", "exit"], Any] | None:
    """`Task.shutdown/2`: ends it, with `shutdown` and after `timeout` ms with `kill`, or at once ("brutal_kill").

    None if it ended by that; `("ok", value)` if its value was there before, `("exit", reason)` if it died of
    its own.
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
    message = await erlang.receive(task.is_mail, 0)
    erlang.demonitor(task.ref, flush=True)
    if isinstance(message, tuple):
        return ("ok", message[1])
    if isinstance(message, Down):
        reason = message.reason  # it may have been dead already, then this knows why
    expected = "killed" if brutal else "shutdown"
    return None if is_atom(reason, expected) else _exit(task, reason, "shutdown", task, timeout)
