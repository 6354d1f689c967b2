"""OTP's `timer`: applies functions, sends messages and exits processes after a delay, once or repeatedly.

Results are OTP's: `("ok", TRef)` or `("error", "badarg")`; a `TRef` is for `cancel`. All times are milliseconds. A function runs
in a process of its own. An interval timer ends with the process that started it and with the process it sends to.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from time import perf_counter
from typing import Any, Final

from runtime.core.durations import is_duration
from runtime.core.engine import Engine, current_engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import scheduler
from runtime.core.timers import Timer
from runtime.otp.erlang import Dest, is_name_on_node, send, sleep

_BADARG: Final = ("error", "badarg")


class TRef(Ref):
    """A timer of this module."""

    __slots__ = ("_due", "_engine", "_every", "_fire", "_owner", "_timer")

    def __init__(self, fire: Callable[[TRef], bool], ms: float, every: float | None = None) -> None:
        super().__init__()
        self._engine: Engine = current_engine()
        self._fire = fire
        self._every = every
        self._owner = scheduler.current if every is not None else None
        self._due = self._engine.now() + ms / 1000
        self._timer: Timer | None = self._engine.call_at(self._due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._owner is not None and self._owner.execution.mode == DEAD:
            return
        if self._fire(self) and self._every is not None:
            self.again()

    def again(self) -> None:
        """Sets an interval timer for its next time, without drift."""
        if self._every is not None:
            self._due = max(self._due + self._every / 1000, self._engine.now())
            self._timer = self._engine.call_at(self._due, self._expire)

    def stop(self) -> None:
        """Cancels it."""
        self._every = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_dest(dest: Any) -> bool:
    return isinstance(dest, Pid | str) or is_name_on_node(dest)


def _target(engine: Engine, dest: Dest) -> Any:
    if isinstance(dest, Pid):
        return dest.cell
    return engine.destination(*dest) if isinstance(dest, tuple) else engine.names.get(dest)  # type: ignore[arg-type]


def apply_after(ms: float, function: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """`timer:apply_after/4`: spawns `function(*args)` after `ms` ms."""
    if not is_duration(ms) or not callable(function):
        return _BADARG
    engine = current_engine()
    return ("ok", TRef(lambda _ref: bool(engine.spawn(function, *args)), ms))


def apply_interval(ms: float, function: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """`timer:apply_interval/4`: spawns `function(*args)` every `ms` ms, even if the last one is still running."""
    if not is_duration(ms) or not ms or not callable(function):
        return _BADARG
    engine = current_engine()
    return ("ok", TRef(lambda _ref: bool(engine.spawn(function, *args)), ms, ms))


def apply_repeatedly(ms: float, function: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """`timer:apply_repeatedly/4` (OTP 26): as apply_interval, but waits for the last one to end."""
    if not is_duration(ms) or not ms or not callable(function):
        return _BADARG
    engine = current_engine()

    def fire(ref: TRef) -> bool:
        engine.spawn(function, *args).cell.on_exit(lambda _pid: ref.again())
        return False

    return ("ok", TRef(fire, ms, ms))


def send_after(ms: float, dest: Dest, message: Any) -> tuple[str, Any]:
    """`timer:send_after/3`: sends a message after `ms` ms; with 0 at once, which raises as `erlang.send` does for a free name."""
    if not is_duration(ms) or not _is_dest(dest):
        return _BADARG
    engine = current_engine()
    if ms == 0:
        send(dest, message)
        return ("ok", TRef(lambda _ref: False, 0))
    return ("ok", TRef(lambda _ref: _deliver(engine, dest, message), ms))


def send_interval(ms: float, dest: Dest, message: Any) -> tuple[str, Any]:
    """`timer:send_interval/3`: sends a message every `ms` ms, until `cancel` or the end of the receiver."""
    if not is_duration(ms) or not ms or not _is_dest(dest):
        return _BADARG
    engine = current_engine()
    return ("ok", TRef(lambda _ref: _deliver(engine, dest, message), ms, ms))


def _deliver(engine: Engine, dest: Dest, message: Any) -> bool:
    cell = _target(engine, dest)
    if cell is None or cell.execution.mode == DEAD:
        return False
    cell.deliver(message)
    return True


def exit_after(ms: float, dest: Dest, reason: Any) -> tuple[str, Any]:
    """`timer:exit_after/3`: sends an exit signal after `ms` ms."""
    if not is_duration(ms) or not _is_dest(dest):
        return _BADARG
    engine = current_engine()

    def fire(_ref: TRef) -> bool:
        cell = _target(engine, dest)
        if cell is not None:
            cell.exit_signal(cell, reason, False)
        return False

    return ("ok", TRef(fire, ms))


def kill_after(ms: float, dest: Dest) -> tuple[str, Any]:
    """`timer:kill_after/2`: `exit_after` with reason "kill"."""
    return exit_after(ms, dest, "kill")


def cancel(ref: Any) -> tuple[str, str]:
    """`timer:cancel/1`: `("ok", "cancel")`, also for a timer that has fired; `("error", "badarg")` if it is no TRef."""
    if not isinstance(ref, TRef):
        return _BADARG
    ref.stop()
    return ("ok", "cancel")


async def tc(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    """`timer:tc/2`: calls the function, awaits its coroutine if it returns one: `(microseconds, result)`."""
    began = perf_counter()
    result = function(*args)
    if iscoroutine(result):
        result = await result
    return (round((perf_counter() - began) * 1_000_000), result)


def now_diff(later: tuple[int, int, int], earlier: tuple[int, int, int]) -> int:
    """`timer:now_diff/2`: microseconds between two `(megaseconds, seconds, microseconds)`."""
    return sum((a - b) * unit for a, b, unit in zip(later, earlier, (10**12, 10**6, 1), strict=True))


def seconds(number: float) -> float:
    """`timer:seconds/1`: in milliseconds."""
    return number * 1000


def minutes(number: float) -> float:
    """`timer:minutes/1`: in milliseconds."""
    return number * 60_000


def hours(number: float) -> float:
    """`timer:hours/1`: in milliseconds."""
    return number * 3_600_000


def hms(h: float, m: float, s: float) -> float:
    """`timer:hms/3`: in milliseconds."""
    return hours(h) + minutes(m) + seconds(s)


__all__ = [
    "TRef", "apply_after", "apply_interval", "apply_repeatedly", "cancel", "exit_after", "hms", "hours",
    "kill_after", "minutes", "now_diff", "seconds", "send_after", "send_interval", "sleep", "tc",
]  # fmt: skip
