"""Erlang's `badarg`, with a line that names the argument: what was expected, and what was given.

To OTP's eyes it is `Error("badarg")`; to Python's it is a TypeError or a ValueError as well, whichever fits.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, Final

from runtime.core.exits import Error

_REPR: Final = Repr()
_REPR.maxstring = _REPR.maxother = 80


def shown(value: Any) -> str:
    """A value for an error's line, cut if it is long; one that cannot be shown is named by its type."""
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
    """`badarg`: the argument is of a type that it cannot be of."""


class WrongValue(_BadArgument, ValueError):
    """`badarg`: the argument is of the right type, and none of the values that it may have."""


def bad_argument(name: str, expected: str, value: Any, kinds: type | tuple[type, ...]) -> Error:
    """The exception to raise for an argument that is none; `kinds` are the types that it may be of."""
    line = f"{name}: expected {expected}, got {shown(value)} (badarg)"
    right = isinstance(value, kinds) and not isinstance(value, bool)
    return WrongValue(line) if right else WrongType(line)
