"""OTP's `sys`: inspects and controls running behaviours: GenServers, state machines, supervisors, channels.

Each function sends a system message and waits for the reply; the process handles it between two callbacks, even while it is
suspended. All raise `Exit((reason, CallSite))`: "noproc", "timeout", or the exit reason if the process ends first. Processes
started by `proc_lib` handle system messages themselves (`runtime.otp.special_process`). For other plain processes and plain
Thespian actors `get_state` and `get_status` read the suspended coroutine or the attributes; the rest raises Error("badarg").

Messages that a process takes (`"in"`) and replies that its callbacks return (`"out"`) are traced and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from time import time
from typing import Any, Final, Literal

from runtime.core.durations import check_timeout
from runtime.core.exits import CallSite, Error, Exit, reason_of
from runtime.core.modes import DEAD
from runtime.core.process import Cell
from runtime.core.reports import ancestors, module_of, text
from runtime.core.scheduling import scheduler
from runtime.core.signals import SystemMessage
from runtime.otp.debug import DebugFunction, Sink, Statistics, TraceEvent, debug_of, own_debug
from runtime.otp.destination import Dest, not_there, resolve
from runtime.otp.gen import Failed
from runtime.otp.gen_server import DEFAULT_TIMEOUT, Call, GenServer, stop
from runtime.otp.proc_lib import SpecialProcess


class SystemRequest(Call, SystemMessage, kw_only=True):
    """A system message with a reply, the result of `work(cell)` in the process."""

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
        """Replies, unless the caller has given up."""
        if not self.done:
            self.settle()
            self.resolve(value, error)


class Termination(SystemRequest):
    """`sys:terminate/2`: replied to before the process runs its `terminate`."""

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
        return Failed(Exit((not_there(dest, cell, timeout), site)))
    if cell is scheduler.current:
        return Failed(Exit(("calling_self", site)))
    if not isinstance(cell.actor, GenServer | SpecialProcess):
        if function in ("get_state", "get_status"):
            found = Failed(Exit("normal"))
            found.error = None
            found.value = work(cell)
            return found
        return Failed(Error("badarg"))
    request = kind(cell, None, site, True, scheduler.current, work=work)
    cell.add_monitor(request)
    if timeout is not None:
        request.timer = cell.engine.call_later(timeout / 1000, request.expire)
    cell.deliver(request)
    return request


# ---- state


async def get_state(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`sys:get_state/1,2`: a GenServer's attributes as a dict; `(state, data)` of a state machine.

    The dict is a shallow copy. For a plain process it holds the local variables of its waiting coroutine.
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
    """`sys:replace_state/2,3`: sets and returns the state `change(state)`; the state is as of `get_state`.

    If `change` raises, the state is kept and Exit(("callback_failed", reason)) is raised.
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
    """`sys:get_status/1,2`: a dict of pid, name, module, status, debug options and `format_status()` as `state`.

    For a state machine also its running `timeouts` as `(event, content)`, and its `postponed` events, oldest first.
    """
    return await _ask(dest, "get_status", (), timeout, status_of)


def status_of(cell: Cell) -> dict[str, Any]:
    """The result of `get_status`."""
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
    except Exception:  # as in OTP, a note takes the place of the state
        return f"{module_of(actor)}.format_status crashed"


# ---- control


async def suspend(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:suspend/1,2`: until `resume` the process handles system messages and its parent's exit only."""

    def work(cell: Cell) -> None:
        cell.own_execution().suspended = True

    await _ask(dest, "suspend", (), timeout, work)


async def resume(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:resume/1,2`: ends `suspend`; no effect on a process that is not suspended."""

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
    """`sys:change_code/4,5`: changes the class of a suspended process to `module` and keeps its state.

    `code_change(old class or old_version, extra)` of the new class may convert the state. Returns "ok", or ("error", reason) if
    it raises, which restores class and state, or if the process is not suspended. Raises Error("badarg") if `module` is not a
    GenServer class.
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
    """`sys:terminate/2,3`: the process runs `terminate` and ends with `reason`, even if it is suspended.

    Returns when the process has accepted the request, for a process of another node when it has ended; `gen_server.stop` always
    waits for the end.
    """
    there = resolve(dest)
    if there is not None and not isinstance(there, Cell):
        await stop(dest, reason, timeout)
    else:
        await _ask(dest, "terminate", (reason,), timeout, lambda _: None, Termination)


# ---- debug options


async def trace(
    dest: Dest, n: int | None, sink: Sink, timeout: float | None = DEFAULT_TIMEOUT, key: Any = "trace"
) -> None:
    """`sys:trace/2`: passes the next `n` TraceEvents (None: all) to `sink`, a function or a pid.

    A function that raises is removed. `key` identifies the trace: a second one with the same key replaces the first. Raises
    Error("badarg") if `n` is not a number of events, 1 or more.
    """
    if n is not None:
        _check_count(n)

    def work(cell: Cell) -> None:
        own_debug(cell).installed[key] = DebugFunction(sink, n)

    await _ask(dest, "trace", (n,), timeout, work)


async def install(
    dest: Dest,
    function: Callable[[Any, TraceEvent, Any], Any],
    state: Any,
    timeout: float | None = DEFAULT_TIMEOUT,
    key: Any = None,
) -> None:
    """`sys:install/2`: calls `function(state, event, name)` for each event; it returns its next state, or "done" to be removed.

    `name` is the name of the process, or its pid. The default `key` is the function. A function that raises is removed.
    """
    current = [state]

    def sink(event: TraceEvent) -> None:
        cell = event.pid.cell
        current[0] = function(current[0], event, cell.relations.name or cell)
        if current[0] == "done":
            raise _Done

    await trace(dest, None, sink, timeout, key=function if key is None else key)


class _Done(Exception):
    """Raised for a debug function that returns "done", since one that raises is removed."""


async def remove(dest: Dest, key: Any, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:remove/2`: removes the function that was installed under a key."""
    await no_trace(dest, timeout, key=key)


async def no_debug(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """`sys:no_debug/1`: removes traces, installed functions, statistics and the log."""

    def work(cell: Cell) -> None:
        debug = own_debug(cell)
        debug.installed.clear()
        debug.statistics = debug.log = None
        debug.tidy(cell)

    await _ask(dest, "no_debug", (), timeout, work)


async def no_trace(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT, key: Any = "trace") -> None:
    """`sys:trace(Name, false)`: ends the trace with a key."""

    def work(cell: Cell) -> None:
        debug = own_debug(cell)
        debug.installed.pop(key, None)
        debug.tidy(cell)

    await _ask(dest, "trace", (False,), timeout, work)


NO_STATISTICS: Final = "no_statistics"


async def statistics(
    dest: Dest, flag: bool | Literal["get"] = "get", timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """`sys:statistics/2,3`: True starts counting and False stops it, both return "ok"; "get" returns the counts.

    Counts are a dict of start_time and current_time (seconds since 1970), reductions (messages handled), messages_in and
    messages_out; or "no_statistics" if counting is off. Raises Error("badarg") for another flag.
    """
    if flag not in (True, False, "get") or isinstance(flag, int | float) is not isinstance(flag, bool):
        raise Error("badarg")

    def work(cell: Cell) -> Any:
        debug = own_debug(cell)
        found = debug.statistics
        if flag is True and found is None:
            debug.statistics = Statistics(cell.reductions)
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
    """`sys:log/2`: keeps the last `size` events for `get_log`; None switches it off.

    Raises Error("badarg") if `size` is not 1 or more.
    """
    if size is not None:
        _check_count(size)

    def work(cell: Cell) -> None:
        debug = own_debug(cell)
        debug.log = None if size is None else deque(debug.log or (), size)
        debug.tidy(cell)

    await _ask(dest, "log", (size,), timeout, work)


async def get_log(dest: Dest, timeout: float | None = DEFAULT_TIMEOUT) -> list[TraceEvent]:
    """`sys:get_log/1`: the logged events, oldest first."""

    def work(cell: Cell) -> list[TraceEvent]:
        debug = debug_of(cell)
        return [] if debug is None or debug.log is None else list(debug.log)

    return await _ask(dest, "get_log", (), timeout, work)


async def log_to_file(dest: Dest, path: str | None, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`sys:log_to_file/2,3`: appends each event to a file as one line; None switches it off. "ok" or ("error", "open_file")."""
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


def _check_count(count: Any) -> None:
    if type(count) is not int or count < 1:
        raise Error("badarg")


def _append(path: str, line: str) -> None:
    # Opened for each line, so that nothing is left open when the process ends.
    with open(path, "a", encoding="utf-8") as file:
        file.write(line)
