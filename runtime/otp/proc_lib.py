"""OTP's `proc_lib` for plain functions: processes that acknowledge their start.

`runtime.otp.special_process` lets such a process handle the requests of `sys`.

    async def ticker(interval):
        erlang.register("ticker", erlang.self_())
        proc_lib.init_ack(("ok", erlang.self_()))    # the starter continues
        while True:
            match await erlang.receive(timeout=interval):
                case SystemMessage() as message:
                    interval = await handle_system_msg(message, Special(), interval)

    ChildSpec("ticker", (proc_lib.start_link, (ticker, 1000)))

The start functions return the value passed to `init_ack`, so they can stand in a child spec. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NoReturn

from runtime.core.actor import FunctionProcess
from runtime.core.bad_argument import check_callable
from runtime.core.durations import check_timeout
from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.reports import module_of
from runtime.core.scheduling import current_process, scheduler
from runtime.core.signals import ExitMessage
from runtime.otp.erlang import demonitor
from runtime.otp.gen import stop
from runtime.otp.gen_server import GenServer
from runtime.otp.init_ack import StartReply, acknowledged_within
from runtime.otp.process_dictionary import ancestors_of

__all__ = [
    "init_ack", "init_fail", "initial_call", "spawn", "spawn_link", "spawn_monitor", "start", "start_link", "start_monitor",
    "stop",
]  # fmt: skip


class _Acknowledgement(StartReply):
    """The starter's wait. After `init_fail` it ends with the process and returns the value of `init_fail`."""

    failed: tuple[Any] | None = None

    def take_exit(self, pid: Pid, reason: Any) -> bool:
        if self.failed is None:
            return super().take_exit(pid, reason)
        if self.done or self.starter is None or pid is not self.target:
            return False
        self.resolve(self.failed[0])
        return True

    def fire(self, pid: Pid | None, reason: Any) -> None:
        if self.failed is None or self.done:
            super().fire(pid, reason)
            return
        if self.starter is not None:
            self.starter.take(lambda message: isinstance(message, ExitMessage) and message.pid is pid)
        self.resolve(self.failed[0])


class SpecialProcess(FunctionProcess):
    """A plain process with an acknowledged start; requests of `sys` go to its mailbox (see `handle_system_msg`)."""

    __slots__ = ("started",)

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(fn, args)
        self.started: _Acknowledgement | None = None

    @property
    def runs(self) -> tuple[str, str]:
        """The module and the name of its function."""
        return (self._fn.__module__, getattr(self._fn, "__qualname__", repr(self._fn)))

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef)}


def spawn(fn: Callable[..., Any], *args: Any) -> Pid:
    """`proc_lib:spawn/1,3`: spawns a process without waiting for it."""
    check_callable("fn", fn)
    return current_engine().spawn_actor(SpecialProcess(fn, args), scheduler.current)


def spawn_link(fn: Callable[..., Any], *args: Any) -> Pid:
    """`proc_lib:spawn_link/1,3`: as `spawn`, linked to the caller."""
    check_callable("fn", fn)
    return current_engine().spawn_actor(SpecialProcess(fn, args), current_process(), True)


def spawn_monitor(fn: Callable[..., Any], *args: Any) -> tuple[Pid, Ref]:
    """`proc_lib:spawn_opt/2,4` with `monitor`: as `spawn`, monitored by the caller."""
    check_callable("fn", fn)
    parent = current_process()
    cell = current_engine().spawn_actor(SpecialProcess(fn, args), parent)
    return cell, parent.monitor(cell)


def initial_call(pid: Pid) -> tuple[str, str] | Literal[False]:
    """`proc_lib:initial_call/1`: module and name of the function of a process; of a behaviour its class and "init".

    False if the process is dead or was not started by `proc_lib`.
    """
    actor = pid.cell.actor
    if isinstance(actor, SpecialProcess):
        return actor.runs
    return (module_of(actor), "init") if isinstance(actor, GenServer) else False


async def start_link(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
    """`proc_lib:start_link/3,4`: runs `fn(*args)` in a process linked to the caller and waits for its `init_ack`.

    Returns the value passed to `init_ack` or `init_fail`. Raises StartError with the exit reason if the process ends first, or
    with "timeout" after `timeout` ms, which kills it. A failed start leaves no EXIT message in the caller's mailbox.
    """
    return await _start(fn, args, True, timeout, None)


async def start(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
    """`proc_lib:start/3,4`: as `start_link`, without the link."""
    return await _start(fn, args, False, timeout, None)


async def start_monitor(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> tuple[Any, Ref]:
    """`proc_lib:start_monitor/3,4`: as `start`, monitored by the caller: `(value of init_ack, ref)`.

    A failed start leaves no monitor and no Down behind.
    """
    watched: list[Ref] = []
    try:
        return await _start(fn, args, False, timeout, watched), watched[0]
    except BaseException:
        for ref in watched:
            demonitor(ref, flush=True)
        raise


async def _start(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    link: bool,
    timeout: float | None,
    watched: list[Ref] | None,
) -> Any:
    check_timeout(timeout)
    check_callable("fn", fn)
    parent = scheduler.current
    linked = link and parent is not None
    actor = SpecialProcess(fn, args)
    cell = current_engine().spawn_actor(actor, parent, linked)
    if watched is not None:
        watched.append(current_process().monitor(cell))
    actor.started = started = _Acknowledgement(target=cell, starter=parent if linked else None)
    cell.own_execution().watcher = started
    return await (started if timeout is None else acknowledged_within(started, timeout))


def _own() -> tuple[Cell, _Acknowledgement]:
    cell = current_process()
    started = getattr(cell.actor, "started", None)
    if not isinstance(started, _Acknowledgement):
        raise Exit("was_not_started_by_proc_lib")
    return cell, started


def init_ack(value: Any = None) -> None:
    """`proc_lib:init_ack/1,2`: the start function returns `value`; None is `("ok", pid)`. A second call has no effect.

    If an EXIT message of the process has ended the start before, the starter gets the message `("ack", pid, value)`. Raises
    Exit("was_not_started_by_proc_lib").
    """
    cell, started = _own()
    result = ("ok", cell.pid) if value is None else value
    started.resolve(result)
    if started.error is not None:
        started.too_late(result)


def init_fail(value: Any, exception: BaseException) -> NoReturn:
    """`proc_lib:init_fail/2,3` (OTP 26): ends the process with `exception`; the start function then returns `value`.

    By that time its name is free and its links are removed. Raises Exit("was_not_started_by_proc_lib").
    """
    _, started = _own()
    if not started.done:
        started.failed = (value,)
    raise exception
