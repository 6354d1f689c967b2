"""ERTS's timers: `erlang:send_after/3`, `start_timer/3`, `cancel_timer/1`, `read_timer/1`. Times are milliseconds.

A timer belongs to nobody: it outlives the process that set it.
"""

from __future__ import annotations

from typing import Any, Literal

from runtime.core.durations import check_duration
from runtime.core.engine import Engine, current_engine
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.timers import Timer


class _TimerRef(Ref):
    """A timer of `send_after` or `start_timer`; it outlives the process that set it."""

    __slots__ = ("dest", "timer")
    timer: Timer
    dest: Cell | str | None

    def pending(self) -> bool:
        """False once it fired, was cancelled, or the pid it is for died."""
        return self.timer.callback is not None and not (
            isinstance(self.dest, Cell) and self.dest.execution.mode == DEAD
        )

    def remaining(self) -> int:
        """Milliseconds until it fires."""
        return max(0, round((self.timer.due - current_engine().now()) * 1000))


class Timeout:
    """`{timeout, Ref, Msg}`, as `start_timer` sends it."""

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


def _timer(ms: float, dest: Any, message: Any, wrap: bool) -> Ref:
    check_duration(ms)
    if not isinstance(dest, Cell | str | None):  # None: nobody has the name, as `whereis` says it
        raise Error("badarg")
    engine = current_engine()
    ref = _TimerRef()
    if scheduler.current is not None:
        scheduler.current.made(ref)
    ref.dest = dest
    ref.timer = engine.call_later(ms / 1000, _fire, engine, dest, Timeout(ref, message) if wrap else message)
    return ref


def send_after(ms: float, dest: Pid | str | None, message: Any) -> Ref:
    """`erlang:send_after/3`: sends the message in `ms` ms; a name is looked up when it fires."""
    return _timer(ms, dest, message, False)


def start_timer(ms: float, dest: Pid | str | None, message: Any) -> Ref:
    """`erlang:start_timer/3`: sends `Timeout(ref, message)` in `ms` ms."""
    return _timer(ms, dest, message, True)


def cancel_timer(ref: Ref) -> int | Literal[False]:
    """`erlang:cancel_timer/1`: the ms that were left, or False. A cancelled timer never fires.

    Raises Error("badarg") for what is no reference.
    """
    if not isinstance(ref, Ref):
        raise Error("badarg")
    if not isinstance(ref, _TimerRef) or not ref.pending():  # a reference of something else is no error
        return False
    left = ref.remaining()
    ref.timer.cancel()
    return left


def read_timer(ref: Ref) -> int | Literal[False]:
    """`erlang:read_timer/1`: the ms that are left, or False. Raises Error("badarg") for what is no reference."""
    if not isinstance(ref, Ref):
        raise Error("badarg")
    return ref.remaining() if isinstance(ref, _TimerRef) and ref.pending() else False
