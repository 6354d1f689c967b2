"""Validation of durations: finite numbers of milliseconds, from 0 to MAX_MS.

NaN and infinity are refused: a timer with one would never fire, and a NaN would break the order of the timer heap.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.core.bad_argument import bad_argument
from runtime.core.exits import Error

MAX_MS: Final = (1 << 44) - 1  # 557 years; as for Erlang's timers, more is a badarg
MAX_RECEIVE_MS: Final = (1 << 32) - 1


def is_duration(ms: Any) -> bool:
    """True for a valid number of milliseconds."""
    return isinstance(ms, int | float) and not isinstance(ms, bool) and 0 <= ms <= MAX_MS


def check_duration(ms: Any) -> None:
    """Raises Error("badarg") unless `ms` is a duration."""
    if not is_duration(ms):
        raise bad_argument("ms", "milliseconds (a finite number, 0 or more)", ms, (int, float))


def check_timeout(ms: Any) -> None:
    """As `check_duration`; None, which means infinity, is valid too."""
    if ms is not None and not is_duration(ms):
        raise bad_argument("timeout", "milliseconds (a finite number, 0 or more) or None", ms, (int, float))


def check_receive_timeout(ms: Any) -> None:
    """For a `receive`: raises Error("timeout_value") as `after` does, but Error("badarg") for NaN and infinity."""
    if ms is None or (type(ms) is int and 0 <= ms <= MAX_RECEIVE_MS):
        return
    if isinstance(ms, float) and not abs(ms) <= MAX_MS:
        raise bad_argument("timeout", "milliseconds (a finite number, 0 or more) or None", ms, (int, float))
    if not is_duration(ms) or ms > MAX_RECEIVE_MS:
        raise Error("timeout_value")
