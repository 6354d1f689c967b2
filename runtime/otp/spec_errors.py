"""What is wrong with a child spec or a supervisor's flags, in one line that names the field.

OTP's reason stays `reason`; what a start function raises is a StartError that is a ValueError or a TypeError as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from runtime.core.bad_argument import shown
from runtime.core.exits import Stack
from runtime.otp.init_ack import StartError

_NUMBER: Final = (int, float)
# OTP's reason: the field, what it may be, and the types that it may be of.
_FIELDS: Final[dict[str, tuple[str, str, type | tuple[type, ...]]]] = {
    "invalid_restart_type": ("restart", '"permanent", "transient" or "temporary"', str),
    "invalid_shutdown": ("shutdown", 'milliseconds (0 or more), "brutal_kill" or "infinity"', (int, str)),
    "invalid_child_type": ("type", '"worker" or "supervisor"', str),
    "invalid_significant": ("significant", "True or False", bool),
    "invalid_id": ("id", "something that can be hashed", ()),
    "invalid_mfa": ("start", "(function, tuple of its arguments)", ()),
    "invalid_modules": ("modules", 'a tuple of classes or "dynamic"', str),
    "invalid_backoff": ("backoff", "a Backoff", ()),
    "invalid_child_spec": ("children", "a ChildSpec for each", ()),
    "badarg": ("children", "a list of ChildSpec", ()),
    "invalid_strategy": (
        "strategy",
        '"one_for_one", "one_for_all", "rest_for_one" or "simple_one_for_one"',
        str,
    ),
    "invalid_intensity": ("intensity", "a whole number of restarts, 0 or more", int),
    "invalid_period": ("period", "seconds, more than 0", _NUMBER),
    "invalid_auto_shutdown": ("auto_shutdown", '"never", "any_significant" or "all_significant"', str),
    "invalid_max_children": ("max_children", "a whole number, 0 or more, or None", int),
    "invalid_partitions": ("partitions", "a whole number, 1 or more, or None", int),
    "invalid_extra_arguments": ("extra_arguments", "a list or a tuple", ()),
}


class _SpecError(StartError):
    def __init__(self, reason: Any, line: str) -> None:
        super().__init__(reason)
        self.line = line

    def __str__(self) -> str:
        return self.line


class SpecTypeError(_SpecError, TypeError):
    """A field of a child spec or a flag of a supervisor is of a type that it cannot be of."""


class SpecValueError(_SpecError, ValueError):
    """A field of a child spec or a flag of a supervisor has a value that it cannot have."""


def named(error: StartError, specs: Iterable[Any] = ()) -> StartError:
    """The error with a line that names the field, if it is about one; else the same. `specs` are where the spec is among."""
    match error.reason:
        case ("start_spec" | "supervisor_data", (str(what), value)):
            pass
        case (str(what), value) | ((str(what), value), Stack()):
            pass
        case _:
            return error
    where = _whose(error.reason, value, specs)
    match what, value:
        case "duplicate_child_name", _:
            return SpecValueError(error.reason, f"id: {shown(value)} is the id of two children")
        case "bad_combination", [("auto_shutdown", _), _]:
            return SpecValueError(
                error.reason, f'{where}significant: expected False while auto_shutdown is "never", got True'
            )
        case "bad_combination", _:
            return SpecValueError(
                error.reason, f'{where}significant: expected False of a "permanent" child, got True'
            )
        case "invalid_backoff", str():
            return SpecValueError(error.reason, f"{where}backoff: {value}")
    if what not in _FIELDS:
        return error
    field, expected, kinds = _FIELDS[what]
    line = f"{where}{field}: expected {expected}, got {shown(value)} ({what})"
    right = isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))
    return (SpecValueError if right else SpecTypeError)(error.reason, line)


def _whose(reason: Any, value: Any, specs: Iterable[Any]) -> str:
    """Whose field it is: `child spec 'db': `, as far as one can tell."""
    if reason[0] == "supervisor_data" or not isinstance(specs, Iterable):
        return ""
    for spec in specs:
        fields = [
            getattr(spec, name, None)
            for name in ("restart", "shutdown", "type", "start", "modules", "significant")
        ]
        if any(field is value for field in fields) and not isinstance(value, bool):
            return f"child spec {shown(spec.id)}: "
    return ""
