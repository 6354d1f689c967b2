"""OTP's `proc_lib` for plain functions: processes that say when they have started, and answer `sys`.

How they answer `sys` is in `runtime.otp.special_process`.

    async def ticker(interval):
        erlang.register("ticker", erlang.self_())
        proc_lib.init_ack(("ok", erlang.self_()))    # the starter goes on here
        while True:
            match await erlang.receive(timeout=interval):
                case SystemMessage() as message:
                    interval = await handle_system_msg(message, Special(), interval)

    ChildSpec("ticker", (proc_lib.start_link, (ticker, 1000)))

The start functions return whatever `init_ack` was given, so a supervisor understands them. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NoReturn

from runtime.core.actor import FunctionProcess
from runtime.core.durations import check_timeout
from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.reports import module_of
from runtime.core.scheduling import scheduler
from runtime.core.signals import ExitMessage
from runtime.otp.erlang import demonitor
from runtime.otp.gen import stop
from runtime.otp.gen_server import GenServer
from runtime.otp.init_ack import StartReply, acknowledged
from runtime.otp.process_dictionary import ancestors_of

__all__ = [
    "init_ack", "init_fail", "initial_call", "spawn", "spawn_link", "spawn_monitor", "start", "start_link", "start_monitor",
    "stop",
]  # fmt: skip


class _Acknowledgement(StartReply):
    """The starter's wait. After `init_fail` it is over when the process is, with the value that was given there."""

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
    """A plain process that its starter waits for; requests of `sys` go into its mailbox (see `sys.handle_system_msg`)."""

    __slots__ = ("started",)

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(fn, args)
        self.started: _Acknowledgement | None = None

    @property
    def runs(self) -> tuple[str, str]:
        """Module and name of its function."""
        return (self._fn.__module__, getattr(self._fn, "__qualname__", repr(self._fn)))

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef)}


def spawn(fn: Callable[..., Any], *args: Any) -> Pid:
    """`proc_lib:spawn/1,3`: a special process for which nobody waits."""
    return current_engine().spawn_actor(SpecialProcess(fn, args), scheduler.current)


def spawn_link(fn: Callable[..., Any], *args: Any) -> Pid:
    """`proc_lib:spawn_link/1,3`: as `spawn`, linked to the caller."""
    return current_engine().spawn_actor(SpecialProcess(fn, args), _caller(), True)


def spawn_monitor(fn: Callable[..., Any], *args: Any) -> tuple[Pid, Ref]:
    """`proc_lib:spawn_opt/2,4` with `monitor`: as `spawn`, monitored by the caller."""
    parent = _caller()
    cell = current_engine().spawn_actor(SpecialProcess(fn, args), parent)
    return cell, parent.monitor(cell)


def _caller() -> Cell:
    if scheduler.current is None:
        raise RuntimeError("this works only inside a process")
    return scheduler.current


def initial_call(pid: Pid) -> tuple[str, str] | Literal[False]:
    """`proc_lib:initial_call/1`: module and name of what the process runs; False if it is dead or `proc_lib` has not started it.

    A behaviour is its class and `init`.
    """
    actor = pid.cell.actor
    if isinstance(actor, SpecialProcess):
        return actor.runs
    return (module_of(actor), "init") if isinstance(actor, GenServer) else False


async def start_link(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
    """`proc_lib:start_link/3,4`: runs `fn(*args)` in a process linked to the caller, and waits for its `init_ack`.

    Returns what `init_ack` or `init_fail` was given. Raises StartError: the reason, if the process ended before, or "timeout"
    after `timeout` ms (it is then killed). Of its end no EXIT message is left in the caller's mailbox.
    """
    return await _start(fn, args, True, timeout, None)


async def start(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
    """`proc_lib:start/3,4`: as `start_link`, without the link."""
    return await _start(fn, args, False, timeout, None)


async def start_monitor(fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> tuple[Any, Ref]:
    """`proc_lib:start_monitor/3,4`: as `start`, monitored from the first moment on: `(what init_ack was given, ref)`.

    A start that fails leaves no monitor and no Down behind.
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
    parent = scheduler.current
    linked = link and parent is not None
    actor = SpecialProcess(fn, args)
    cell = current_engine().spawn_actor(actor, parent, linked)
    if watched is not None:
        if parent is None:
            raise RuntimeError("this works only inside a process")
        watched.append(parent.monitor(cell))
    actor.started = started = _Acknowledgement(target=cell, starter=parent if linked else None)
    cell.own_execution().watcher = started
    return await acknowledged(started, timeout)


def _own() -> tuple[Cell, _Acknowledgement]:
    cell = scheduler.current
    if cell is None:
        raise RuntimeError("this works only inside a process")
    started = getattr(cell.actor, "started", None)
    if not isinstance(started, _Acknowledgement):
        raise Exit("was_not_started_by_proc_lib")
    return cell, started


def init_ack(value: Any = None) -> None:
    """`proc_lib:init_ack/1,2`: the start function returns `value`; None is `("ok", pid)`. A second one is without effect.

    Raises Exit("was_not_started_by_proc_lib").
    """
    cell, started = _own()
    started.acknowledge(("ok", cell.pid) if value is None else value)


def init_fail(value: Any, exception: BaseException) -> NoReturn:
    """`proc_lib:init_fail/2,3` (OTP 26): ends the process with `exception`; then the start function returns `value`.

    By then its name is free, and its links are gone. Raises Exit("was_not_started_by_proc_lib").
    """
    _, started = _own()
    if not started.done:
        started.failed = (value,)
    raise exception
