"""OTP's `sys`: looks into a running behaviour and steers it: GenServers, state machines, supervisors, channels.

Each function sends a system message and waits for the answer; the process performs it between two callbacks,
also while it is suspended. All raise `Exit((reason, CallSite))` with `noproc`, `timeout` or the reason the
process died of meanwhile. A process that `proc_lib` started answers as its code says (`runtime.otp.special_process`). Other plain
processes and plain Thespian actors have no callbacks to stand between: `get_state` and `get_status` read them as they wait,
the rest raises Error("badarg").

Traced and counted are the messages a process takes (`"in"`) and the replies that its callbacks return (`"out"`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from time import time
from typing import Any, Final, Literal, cast

from runtime.core.durations import check_timeout
from runtime.core.exits import CallSite, Error, Exit, reason_of
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import ancestors, module_of, text
from runtime.core.scheduling import scheduler
from runtime.core.signals import SystemMessage
from runtime.otp.gen import Dest, Failed, resolve
from runtime.otp.gen_server import DEFAULT_TIMEOUT, Call, GenServer, stop
from runtime.otp.proc_lib import SpecialProcess


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """`kind` is "in" (a message taken: a `Call`, a `Cast` or a plain one) or "out" (a reply; `peer` called for it)."""

    pid: Pid
    kind: Literal["in", "out"]
    message: Any
    peer: Pid | None
    at: float  # ms of the engine's clock


Sink = Callable[[TraceEvent], Any] | Pid


class _DebugFun:
    __slots__ = ("left", "sink")

    def __init__(self, sink: Sink, left: int | None) -> None:
        self.sink = sink
        self.left = left


class Debug:
    """What is traced and counted of one process; it lies in its rare state while there is anything."""

    __slots__ = ("installed", "log", "statistics")

    def __init__(self) -> None:
        self.installed: dict[Any, _DebugFun] = {}
        self.statistics: _Statistics | None = None
        self.log: deque[TraceEvent] | None = None

    def message_in(self, cell: Cell, message: Any) -> None:
        """The process takes a message."""
        caller = message.caller if type(message) is Call else None
        if self.statistics is not None:
            self.statistics.messages_in += 1
        self._handle_debug(cell, "in", message, caller)

    def message_out(self, cell: Cell, reply: Any, caller: Cell | None) -> None:
        """A call to the process is answered."""
        if self.statistics is not None:
            self.statistics.messages_out += 1
        self._handle_debug(cell, "out", reply, caller)

    def _handle_debug(self, cell: Cell, kind: Literal["in", "out"], message: Any, peer: Pid | None) -> None:
        if not self.installed and self.log is None:
            return
        event = TraceEvent(cell, kind, message, peer, cell.engine.now() * 1000)
        if self.log is not None:
            self.log.append(event)
        for key, installed in list(self.installed.items()):
            try:
                if isinstance(installed.sink, Pid):
                    installed.sink.cell.deliver(event)
                else:
                    installed.sink(event)
            except Exception:
                installed.left = 1  # a debug function that fails is removed, as in OTP
            if installed.left is not None:
                installed.left -= 1
                if installed.left <= 0:
                    del self.installed[key]
        self.tidy(cell)

    def tidy(self, cell: Cell) -> None:
        """Takes itself away once nobody wants to know."""
        rare = cell.relations.rare
        if not self.installed and self.statistics is None and self.log is None and rare is not None:
            rare.debug = None
            cell.tidy_rare()


class _Statistics:
    __slots__ = ("messages_in", "messages_out", "reductions", "start_time")

    def __init__(self, reductions: int) -> None:
        self.start_time = time()
        self.reductions = reductions
        self.messages_in = 0
        self.messages_out = 0


class SystemRequest(Call, SystemMessage, kw_only=True):
    """A system message with an answer: `work(cell)` runs in the process."""

    work: Callable[[Cell], Any]

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        value: Any = None
        error: Exception | None = None
        try:
            value = self.work(cell)
        except Exception as exc:
            error = exc
        self.finish(value, error)
        return None

    def finish(self, value: Any, error: Exception | None) -> None:
        """It is done: the asker hears of it, unless they have given up."""
        if not self.done:
            self.settle()
            self.resolve(value, error)


class Termination(SystemRequest):
    """`sys:terminate/2`: answered when the process has come to it, before its `terminate`."""

    @property
    def reason(self) -> Any:
        assert isinstance(self.site, CallSite)
        return self.site.args[1]

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        self.finish(None, None)
        return cell.actor._stop(self.reason)


def _ask(
    dest: Dest,
    function: str,
    args: tuple[Any, ...],
    timeout: float | None,
    work: Callable[[Cell], Any],
    kind: type[SystemRequest] = SystemRequest,
) -> Awaitable[Any]:
    check_timeout(timeout)
    site = CallSite("sys", function, (dest, *args))
    cell = resolve(dest)
    if cell is None or cell.execution.mode == DEAD:
        return Failed(Exit(("noproc", site)))
    if not isinstance(cell.actor, GenServer | SpecialProcess):
        if function in ("get_state", "get_status"):
            found = Failed(Exit("normal"))
            found.error = None
            found.value = work(cell)
            return found
        return Failed(Error("badarg"))
    if cell is scheduler.current:
        return Failed(Exit(("calling_self", site)))
    request = kind(cell, None, site, True, scheduler.current, work=work)
    cell.add_monitor(request)
    if timeout is not None:
        request.timer = cell.engine.call_later(timeout / 1000, request.expire)
    cell.deliver(request)
    return request


def _debug(cell: Cell) -> Debug:
    """Its Debug, made if there is none."""
    debug = debug_of(cell)
    if debug is None:
        cell.own_rare().debug = debug = Debug()
    return debug


def debug_of(cell: Cell) -> Debug | None:
    """What is traced and counted of a process, if anything."""
    rare = cell.relations.rare
    return None if rare is None else cast("Debug | None", rare.debug)


# ---- state


async def get_state(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`sys:get_state/1,2`: a GenServer's attributes as a dict; `(state, data)` of a state machine.

    The dict is a copy, what it holds is not. Of a plain process: the local variables of its waiting function.
    """
    return await _ask(dest, "get_state", (), timeout, _state_of)


def _state_of(cell: Cell) -> Any:
    if isinstance(cell.actor, GenServer):
        return cell.actor._get_state()  # pyright: ignore[reportPrivateUsage] - as an underscore keeps off users' names
    if cell.execution.coro is not None:
        coro: Any = cell.execution.coro
        frame = getattr(coro, "cr_frame", None)
        return {} if frame is None else dict(frame.f_locals)
    return {key: value for key, value in getattr(cell.actor, "__dict__", {}).items() if key != "_myRef"}


async def replace_state(
    dest: Dest, change: Callable[[Any], Any], timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """`sys:replace_state/2,3`: `change(state)` gives the new state, which is returned. State as of `get_state`.

    If `change` raises the state stays, and Exit(("callback_failed", reason)) is raised here.
    """

    def work(cell: Cell) -> Any:
        def guarded(state: Any) -> Any:
            try:
                return change(state)
            except Exception as exc:
                raise Exit(("callback_failed", reason_of(exc))) from None

        return cell.actor._replace_state(guarded)

    return await _ask(dest, "replace_state", (change,), timeout, work)


async def get_status(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> dict[str, Any]:
    """`sys:get_status/1,2`: who it is, whether it is suspended, what is traced, and `format_status()` as `state`.

    Of a state machine also its running `timeouts` as `(event, content)`, and its `postponed` events, oldest first.
    """
    return await _ask(dest, "get_status", (), timeout, status_of)


def status_of(cell: Cell) -> dict[str, Any]:
    """What `get_status` says of a process."""
    debug = debug_of(cell)
    actor = cell.actor
    return {
        "pid": cell,
        "name": cell.relations.name,
        "module": module_of(actor),
        "status": "suspended" if cell.execution.suspended else "running",
        "parent": cell.relations.parent,
        "ancestors": ancestors(cell),
        "traces": 0 if debug is None else len(debug.installed),
        "statistics": debug is not None and debug.statistics is not None,
        "log": [] if debug is None or debug.log is None else list(debug.log),
        "state": _formatted(actor) if isinstance(actor, GenServer) else _state_of(cell),
        **(actor._status() if isinstance(actor, GenServer) else {}),  # pyright: ignore[reportPrivateUsage] - as above
    }


def _formatted(actor: GenServer) -> Any:
    try:
        return actor.format_status()
    except Exception:  # its fault, and not the observer's: OTP notes it in the place of the state
        return f"{module_of(actor)}.format_status crashed"


# ---- steering


async def suspend(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:suspend/1,2`: it takes system messages and its parent's exit only, until `resume`; other mail waits."""

    def work(cell: Cell) -> None:
        cell.own_execution().suspended = True

    await _ask(dest, "suspend", (), timeout, work)


async def resume(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:resume/1,2`: it takes its mail again. Harmless if it was not suspended."""

    def work(cell: Cell) -> None:
        cell.own_execution().suspended = False

    await _ask(dest, "resume", (), timeout, work)


async def change_code(
    dest: Dest,
    module: type,
    old_version: Any = None,
    extra: Any = None,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Any:
    """`sys:change_code/4,5`: a suspended process goes on with the class `module`; what it keeps is its state.

    `code_change(old class or old_version, extra)` of the new class may put the state right. "ok", or ("error", reason) if it
    raised (class and state are then the old ones), or if the process is not suspended.
    """

    def work(cell: Cell) -> Any:
        if not cell.execution.suspended:
            return ("error", ("unknown_system_msg", ("change_code", module, old_version, extra)))
        actor = cell.actor
        old, state = type(actor), dict(vars(actor))
        try:
            actor.__class__ = module
            result = actor.code_change(old if old_version is None else old_version, extra)
        except Exception as exc:
            actor.__class__ = old
            vars(actor).clear()
            vars(actor).update(state)
            return ("error", reason_of(exc))
        return result if isinstance(result, tuple) and result[:1] == ("error",) else "ok"

    if not (isinstance(module, type) and issubclass(module, GenServer)):
        raise Error("badarg")
    return await _ask(dest, "change_code", (module, old_version, extra), timeout, work)


async def terminate(dest: Dest, reason: Any, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:terminate/2,3`: it runs its `terminate` and ends with `reason`, also if it is suspended.

    Returns once it has accepted the request; `gen_server.stop` waits for its end. So does this for a process of another node.
    """
    there = resolve(dest)
    if there is not None and not isinstance(there, Cell):
        await stop(dest, reason, timeout)
    else:
        await _ask(dest, "terminate", (reason,), timeout, lambda _: None, Termination)


# ---- watching


async def trace(
    dest: Dest, n: int | None, sink: Sink, timeout: float | None = DEFAULT_TIMEOUT, key: Any = "trace"
) -> None:
    """`sys:trace/2` and `sys:install/2`: gives the next `n` events (None: all) to `sink`, a function or a pid.

    `sink` gets a TraceEvent. A function that raises is removed. `key` names the trace; a second one of that
    name replaces the first.
    """

    def work(cell: Cell) -> None:
        _debug(cell).installed[key] = _DebugFun(sink, n)

    await _ask(dest, "trace", (n,), timeout, work)


async def install(
    dest: Dest,
    function: Callable[[Any, TraceEvent, Any], Any],
    state: Any,
    timeout: float | None = DEFAULT_TIMEOUT,
    key: Any = None,
) -> None:
    """`sys:install/2`: `function(state, event, name)` hears each event and returns its next state, "done" to be removed.

    `name` is the process's, or its pid. Without a `key` the function is the key; one that raises is removed.
    """
    held = [state]

    def sink(event: TraceEvent) -> None:
        cell = event.pid.cell
        held[0] = function(held[0], event, cell.relations.name or cell)
        if held[0] == "done":
            raise _Done

    await trace(dest, None, sink, timeout, key=function if key is None else key)


class _Done(Exception):
    """A debug function wants to hear no more: one that raises is removed."""


async def remove(dest: Dest, key: Any, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:remove/2`: takes away what `install` put there under this key, or this function."""
    await no_trace(dest, timeout, key=key)


async def no_debug(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:no_debug/1`: ends traces, installed functions, statistics and the log."""

    def work(cell: Cell) -> None:
        debug = _debug(cell)
        debug.installed.clear()
        debug.statistics = debug.log = None
        debug.tidy(cell)

    await _ask(dest, "no_debug", (), timeout, work)


async def no_trace(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT, key: Any = "trace") -> None:
    """`sys:trace(Name, false)`, `sys:remove/2`: ends the trace called `key`."""

    def work(cell: Cell) -> None:
        debug = _debug(cell)
        debug.installed.pop(key, None)
        debug.tidy(cell)

    await _ask(dest, "trace", (False,), timeout, work)


NO_STATISTICS: Final = "no_statistics"


async def statistics(
    dest: Dest, flag: bool | Literal["get"] = "get", timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """`sys:statistics/2,3`: True starts counting if it has not been, False ends it (both give "ok"); "get" gives the counts.

    Counts are a dict of start_time and current_time (seconds since 1970), reductions (messages handled),
    messages_in, messages_out; or "no_statistics" if nothing is counted.
    """

    def work(cell: Cell) -> Any:
        debug = _debug(cell)
        found = debug.statistics
        if flag is True and found is None:
            debug.statistics = _Statistics(cell.reductions)
        elif flag is False:
            debug.statistics = None
        debug.tidy(cell)
        if flag != "get":
            return "ok"
        if found is None:
            return NO_STATISTICS
        return {
            "start_time": found.start_time,
            "current_time": time(),
            "reductions": cell.reductions - found.reductions,
            "messages_in": found.messages_in,
            "messages_out": found.messages_out,
        }

    return await _ask(dest, "statistics", (flag,), timeout, work)


async def log(dest: Dest, size: int | None = 10, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:log/2`: keeps the last `size` events for `get_log`; None ends it."""

    def work(cell: Cell) -> None:
        debug = _debug(cell)
        debug.log = None if size is None else deque(debug.log or (), size)
        debug.tidy(cell)

    await _ask(dest, "log", (size,), timeout, work)


async def get_log(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> list[TraceEvent]:
    """`sys:get_log/1`: the events that `log` has kept, oldest first."""

    def work(cell: Cell) -> list[TraceEvent]:
        debug = debug_of(cell)
        return [] if debug is None or debug.log is None else list(debug.log)

    return await _ask(dest, "get_log", (), timeout, work)


async def log_to_file(dest: Dest, path: str | None, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`sys:log_to_file/2,3`: writes each event as a line to the file, None ends it. "ok", or ("error", "open_file")."""
    if path is None:
        await no_trace(dest, timeout, key="log_to_file")
        return "ok"
    try:
        _append(path, "")
    except OSError:
        return ("error", "open_file")

    def write(event: TraceEvent) -> None:
        peer = "" if event.peer is None else f" {event.peer}"
        _append(path, f"{event.at:.3f} {event.pid} {event.kind} {text(event.message)}{peer}\n")

    await trace(dest, None, write, timeout, key="log_to_file")
    return "ok"


def _append(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:  # for each line: nothing stays open when the process ends
        file.write(line)
