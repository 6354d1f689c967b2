"""Erlang's `badarg` with a message that names the argument, what was expected and what was given.

It is an `Error("badarg")`, and a TypeError or a ValueError as well.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, Final

from runtime.core.exits import Error

_REPR: Final = Repr()
_REPR.maxstring = _REPR.maxother = 80


def shown(value: Any) -> str:
    """`repr` of a value for an error message, shortened; the name of its type if `repr` raises."""
    try:
        return _REPR.repr(value)
    except Exception:
        return f"a {type(value).__name__}"


class _BadArgument(Error):
    def __init__(self, line: str) -> None:
        super().__init__("badarg")
        self.line = line

    def __str__(self) -> str:
        return self.line


class WrongType(_BadArgument, TypeError):
    """`badarg`: an argument of the wrong type."""


class WrongValue(_BadArgument, ValueError):
    """`badarg`: an argument of the right type with a value that is not allowed."""


def check_callable(name: str, function: Any) -> None:
    """Raises Error("badarg") if the argument `name` is no function; the process that would have called it never sees it."""
    if not callable(function):
        raise bad_argument(name, "a function", function, ())


def bad_argument(name: str, expected: str, value: Any, kinds: type | tuple[type, ...]) -> Error:
    """The exception to raise for an invalid argument; `kinds` are the allowed types."""
    line = f"{name}: expected {expected}, got {shown(value)} (badarg)"
    right = isinstance(value, kinds) and not isinstance(value, bool)
    return WrongValue(line) if right else WrongType(line)
