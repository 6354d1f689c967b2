"""Exit reasons, and Erlang's three classes of exceptions: `exit`, `error` and `throw`.

A reason is a plain Python value. Atoms are strings (`"normal"`, `"shutdown"`, `"killed"`, `"noproc"`), Erlang tuples are
tuples (`("shutdown", x)`). A Python exception that ends a process gives `(exception, Stack)`, as Erlang's `{badarg, Stacktrace}`.
"""

from __future__ import annotations

import linecache
import traceback
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, NoReturn


class Exit(Exception):
    """`erlang:exit(Reason)`: ends the process with this reason. A failed call raises it in the caller."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Error(Exception):
    """`erlang:error(Reason)`: ends the process with `(reason, Stack)`."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Throw(Exception):
    """`erlang:throw(Value)`: in a callback of a behaviour the value is the return value of the callback."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class Unwind(BaseException):
    """Unwinds the code of a process that has just ended. Not for user code to catch."""


OLDEST, NEWEST = 10, 30  # calls of a stack that are kept (BEAM keeps 8): one of a recursion would fill a log


class Stack:
    """Where an error was raised. Keeps code objects and line numbers, no frames: a reason must not hold locals alive.

    Of a deep one it keeps the OLDEST and the NEWEST calls.
    """

    __slots__ = ("_entries", "_left_out")

    def __init__(self, tb: TracebackType | None) -> None:
        entries: list[tuple[CodeType, int]] = []
        while tb is not None:
            entries.append((tb.tb_frame.f_code, tb.tb_lineno))
            tb = tb.tb_next
        self._left_out = max(0, len(entries) - OLDEST - NEWEST)
        if self._left_out:
            del entries[OLDEST:-NEWEST]
        self._entries = entries

    def __str__(self) -> str:
        """The traceback as text, oldest call first."""
        if not self._left_out:
            return _shown(self._entries)
        older, newer = _shown(self._entries[:OLDEST]), _shown(self._entries[OLDEST:])
        return f"{older}  ({self._left_out} calls left out)\n{newer}"

    def __repr__(self) -> str:
        if not self._entries:
            return "Stack()"
        code, line = self._entries[-1]
        return f"Stack({code.co_qualname}:{line})"


def _shown(entries: list[tuple[CodeType, int]]) -> str:
    frames = [
        traceback.FrameSummary(
            code.co_filename, line, code.co_name, line=linecache.getline(code.co_filename, line).strip()
        )
        for code, line in entries
    ]
    return "".join(traceback.StackSummary.from_list(frames).format())


@dataclass(frozen=True, slots=True)
class CallSite:
    """The `{Module, Function, Args}` that OTP adds to the reason of a failed call."""

    module: str
    function: str
    args: tuple[Any, ...]


def exit(reason: Any) -> NoReturn:
    """`erlang:exit/1`. To send an exit signal to another process use `erlang.exit(pid, reason)`."""
    raise Exit(reason)


def error(reason: Any) -> NoReturn:
    """`erlang:error/1`."""
    raise Error(reason)


def throw(value: Any) -> NoReturn:
    """`erlang:throw/1`."""
    raise Throw(value)


def reason_of(exc: BaseException) -> Any:
    """The exit reason of a process that ends by an uncaught exception. Drops the frames of Python exceptions."""
    match exc:
        case Exit():
            return exc.reason
        case Error():
            return (exc.reason, Stack(exc.__traceback__))
        case Throw():
            return (("nocatch", exc.value), Stack(exc.__traceback__))
        case _:
            stack = Stack(exc.__traceback__)
            _drop_frames(exc)
            return (exc, stack)


def _drop_frames(exc: BaseException) -> None:
    # A reason may live long in links, monitors and reports; tracebacks would keep all locals alive.
    seen: set[int] = set()
    left: list[BaseException | None] = [exc]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        left += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def is_atom(reason: Any, atom: str) -> bool:
    """True if `reason` is this atom. Safe for reasons that define `__eq__`."""
    return isinstance(reason, str) and reason == atom


class Reported(tuple[Any, ...]):
    """A reason that has been logged already, so that no crash report follows. Equals the plain tuple."""

    __slots__ = ()


def is_shutdown(reason: Any) -> bool:
    """True for the reasons of an orderly end: `normal`, `shutdown`, `{shutdown, _}`."""
    if isinstance(reason, str):
        return reason in ("normal", "shutdown")
    return isinstance(reason, tuple) and len(reason) == 2 and is_atom(reason[0], "shutdown")
