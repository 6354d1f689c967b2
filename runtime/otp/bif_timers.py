"""ERTS's timers: `erlang:send_after/3,4`, `start_timer/3,4`, `cancel_timer/1,2`, `read_timer/1,2`. Times are milliseconds.

A timer has no owner: it outlives the process that has set it.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal, overload

from runtime.core.durations import check_duration
from runtime.core.engine import Engine, current_engine
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.timers import Timer


class _TimerRef(Ref):
    """The reference of a timer."""

    __slots__ = ("dest", "timer")
    timer: Timer
    dest: Cell | str | None

    def pending(self) -> bool:
        """False once it has fired or was cancelled, or the pid that it would send to is dead."""
        return self.timer.callback is not None and not (
            isinstance(self.dest, Cell) and self.dest.execution.mode == DEAD
        )

    def remaining(self) -> int:
        """Milliseconds until it fires."""
        return max(0, round((self.timer.due - current_engine().now()) * 1000))


class Timeout:
    """`{timeout, Ref, Msg}`: the message of `start_timer`."""

    __slots__ = ("message", "ref")
    __match_args__ = ("ref", "message")

    def __init__(self, ref: Ref, message: Any) -> None:
        self.ref = ref
        self.message = message

    def __repr__(self) -> str:
        return f"Timeout({self.ref}, {self.message!r})"


def _fire(engine: Engine, dest: Cell | str | None, message: Any) -> None:
    cell = engine.names.get(dest) if isinstance(dest, str) else dest
    if cell is not None:
        cell.deliver(message)


def _timer(ms: float, dest: Any, message: Any, wrap: bool, absolute: bool) -> Ref:
    if absolute:
        if not isinstance(ms, int | float) or isinstance(ms, bool) or not isfinite(ms):
            raise Error("badarg")
        ms = max(0, ms - current_engine().now() * 1000)
    check_duration(ms)
    if not isinstance(dest, Cell | str | None):  # None: the result of `whereis` for a free name
        raise Error("badarg")
    engine = current_engine()
    ref = _TimerRef()
    if scheduler.current is not None:
        scheduler.current.mark_receive(ref)
    ref.dest = dest
    ref.timer = engine.call_later(ms / 1000, _fire, engine, dest, Timeout(ref, message) if wrap else message)
    return ref


def send_after(ms: float, dest: Pid | str | None, message: Any, *, abs: bool = False) -> Ref:
    """`erlang:send_after/3,4`: sends the message after `ms` ms; a name is resolved when the timer fires.

    With `abs`, `ms` is a time of `monotonic_time()`; a timer in the past fires at once.
    """
    return _timer(ms, dest, message, False, abs)


def start_timer(ms: float, dest: Pid | str | None, message: Any, *, abs: bool = False) -> Ref:
    """`erlang:start_timer/3,4`: as `send_after`, but sends `Timeout(ref, message)`."""
    return _timer(ms, dest, message, True, abs)


@overload
def cancel_timer(ref: Ref) -> int | Literal[False]: ...
@overload
def cancel_timer(ref: Ref, *, async_: bool = False, info: bool = True) -> int | Literal[False, "ok"]: ...
def cancel_timer(ref: Ref, *, async_: bool = False, info: bool = True) -> int | Literal[False, "ok"]:
    """`erlang:cancel_timer/1,2`: returns the ms that were left, or False. A cancelled timer never fires.

    Without `info` it returns "ok". With `async_` it returns "ok" and the result arrives as a message
    `("cancel_timer", ref, result)`. Raises Error("badarg") if `ref` is not a reference.
    """
    result = read_timer(ref)
    if result is not False:
        assert isinstance(ref, _TimerRef)  # other references have no timer, but are no error
        ref.timer.cancel()
    return _answer("cancel_timer", ref, result, async_, info)


@overload
def read_timer(ref: Ref) -> int | Literal[False]: ...
@overload
def read_timer(ref: Ref, *, async_: bool = False) -> int | Literal[False, "ok"]: ...
def read_timer(ref: Ref, *, async_: bool = False) -> int | Literal[False, "ok"]:
    """`erlang:read_timer/1,2`: returns the ms that are left, or False. `async_` as of `cancel_timer`.

    Raises Error("badarg") if `ref` is not a reference.
    """
    if not isinstance(ref, Ref):
        raise Error("badarg")
    result: int | Literal[False] = ref.remaining() if isinstance(ref, _TimerRef) and ref.pending() else False
    return _answer("read_timer", ref, result, async_, True)


def _answer(
    what: str, ref: Ref, result: int | Literal[False], async_: bool, info: bool
) -> int | Literal[False, "ok"]:
    if not async_:
        return result if info else "ok"
    if scheduler.current is None:
        raise RuntimeError("the answer is a message: this works only inside a process")
    if info:
        scheduler.current.deliver((what, ref, result))
    return "ok"
