"""Values for operators: as plain JSON values or texts, bounded in size, with secrets masked (compare `io_lib:format("~p")`).

`runtime.core.secret_text` defines secrets: values under a telling key or attribute name, and texts such as tokens, keys and URLs
with a password. The only code of a value that is run is its `repr`, which may raise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from runtime.core.pid import Pid, Ref
from runtime.core.secret_text import MASK as MASK
from runtime.core.secret_text import is_secret as is_secret
from runtime.core.secret_text import mask as mask

MAX_TEXT: Final = 400  # characters of a text
MAX_ITEMS: Final = 50  # entries of a container
MAX_VALUES: Final = 600  # values in all
MAX_DEPTH: Final = 5


def text(value: object, limit: int = MAX_TEXT) -> str:
    """The `repr` of a value, masked and bounded. Never raises."""
    try:
        shown = repr(value)
    except Exception as error:
        shown = f"<{type(value).__name__}: repr raised {type(error).__name__}>"
    return _masked(shown, limit)


def _masked(shown: str, limit: int) -> str:
    # Cut before masking: a long text must not block the loop.
    return (
        clip(mask(shown[: limit * 4]), limit)
        if len(shown) <= limit * 4
        else mask(shown[: limit * 4])[:limit] + f"... ({len(shown)} characters)"
    )


def clip(shown: str, limit: int = MAX_TEXT) -> str:
    """The text, cut after `limit` characters."""
    return shown if len(shown) <= limit else f"{shown[:limit]}... ({len(shown)} characters)"


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES


def show(value: object) -> Any:
    """A value as plain JSON values, secrets masked: up to MAX_DEPTH levels, MAX_ITEMS per container, MAX_VALUES in all."""
    return _show(value, MAX_DEPTH, _Budget(), set())


def _scalar(value: object) -> Any:
    """A scalar as a plain JSON value; None for a container or another object."""
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case int():
            return value if abs(value) < 1 << 53 else str(value)
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case str():
            return value if len(value) < 6 else _masked(value, MAX_TEXT)
        case Pid() | Ref() | UUID() | Decimal() | timedelta():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
    return None


def _show(value: object, depth: int, budget: _Budget, above: set[int]) -> Any:
    budget.left -= 1
    if value is None or isinstance(value, bool):
        return value
    shown = _scalar(value)
    if shown is not None:
        return shown
    if depth <= 0 or budget.left <= 0 or id(value) in above:
        return text(value, 120) if isinstance(value, (tuple, list, dict)) else f"<{type(value).__name__}>"
    above.add(id(value))
    try:
        match value:
            case Mapping():
                return _mapping(value.items(), len(value), depth, budget, above)
            case tuple() if hasattr(value, "_fields"):  # a named tuple, whose names may denote secrets
                named: Any = value
                members = dict(zip(named._fields, named, strict=False))
                return {
                    "<type>": type(value).__qualname__,
                    **_mapping(members.items(), len(members), depth, budget, above),
                }
            case list() | tuple() | Set():
                return _sequence(value, len(value), depth, budget, above)
        if isinstance(value, type) or callable(value):
            return f"<{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', type(value).__name__)}>"
        if isinstance(value, BaseException):
            return text(value)
        if not is_dataclass(value) and not hasattr(value, "__struct_fields__"):
            # An object of another library, whose attribute names may not denote its secrets.
            return f"<{type(value).__module__}:{type(value).__qualname__}>"
        members = attributes(value) or {}
        return {
            "<type>": type(value).__qualname__,
            **_mapping(members.items(), len(members), depth, budget, above),
        }
    except Exception as error:  # a container that changes or fails during iteration
        return f"<{type(value).__name__}: {type(error).__name__}>"
    finally:
        above.discard(id(value))


def _mapping(
    items: Iterable[tuple[object, object]], size: int, depth: int, budget: _Budget, above: set[int]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in items:
        if len(out) >= MAX_ITEMS or budget.left <= 0:
            out["..."] = f"{size - len(out)} more"
            break
        shown = key if isinstance(key, str) else text(key, 80)
        out[mask(shown)] = (
            MASK if is_secret(key) and not _is_empty(value) else _show(value, depth - 1, budget, above)
        )
    return out


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _sequence(items: Iterable[object], size: int, depth: int, budget: _Budget, above: set[int]) -> list[Any]:
    out: list[Any] = []
    for value in items:
        if len(out) >= MAX_ITEMS or budget.left <= 0:
            out.append(f"... {size - len(out)} more")
            break
        out.append(_show(value, depth - 1, budget, above))
    return out


def attributes(value: object) -> dict[str, object] | None:
    """The attributes of an object (dataclass fields, slots, `__dict__`), without the runtime's; None if there are none."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    found: dict[str, object] = {}
    for kind in reversed(type(value).__mro__):
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                found[name] = getattr(value, name)
    found.update(getattr(value, "__dict__", {}))
    found.pop("_myRef", None)
    return found or None
