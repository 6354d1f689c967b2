"""Readable errors for invalid child specs and supervisor flags.

The error is a StartError with OTP's reason, and a ValueError or a TypeError whose message names the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from runtime.core.bad_argument import shown
from runtime.core.exits import Stack
from runtime.otp.init_ack import StartError

_NUMBER: Final = (int, float)
# By OTP's reason: the field, the values it may have, and their types.
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
    """A field of a child spec or a supervisor flag has the wrong type."""


class SpecValueError(_SpecError, ValueError):
    """A field of a child spec or a supervisor flag has an invalid value."""


def spec_error(error: StartError, specs: Iterable[Any] = ()) -> StartError:
    """Returns a SpecTypeError or SpecValueError for an error about a field of `specs` or a flag, else the error itself."""
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
    """The prefix `child spec 'db': ` of the spec that has the field, if it can be found."""
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
