"""What may be a duration: milliseconds, a finite number from 0 to some centuries.

A NaN is greater and smaller than nothing and infinity never comes: both would wait for ever, in a heap that they disorder.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.core.bad_argument import bad_argument
from runtime.core.exits import Error

MOST_MS: Final = (1 << 44) - 1  # beyond that Erlang's timers say badarg as well
MOST_RECEIVE_MS: Final = (1 << 32) - 1


def is_duration(ms: Any) -> bool:
    """True for a number of milliseconds that a timer can wait."""
    return isinstance(ms, int | float) and not isinstance(ms, bool) and 0 <= ms <= MOST_MS


def check_duration(ms: Any) -> None:
    """Raises Error("badarg") unless `ms` is a duration."""
    if not is_duration(ms):
        raise bad_argument("ms", "milliseconds (a finite number, 0 or more)", ms, (int, float))


def check_timeout(ms: Any) -> None:
    """As `check_duration`; None waits for ever."""
    if ms is not None and not is_duration(ms):
        raise bad_argument("timeout", "milliseconds (a finite number, 0 or more) or None", ms, (int, float))


def check_receive_timeout(ms: Any) -> None:
    """Of a `receive`: Error("timeout_value") for what `after` takes for none, Error("badarg") for NaN and infinity."""
    if ms is None or (type(ms) is int and 0 <= ms <= MOST_RECEIVE_MS):
        return
    if isinstance(ms, float) and not abs(ms) <= MOST_MS:
        raise bad_argument("timeout", "milliseconds (a finite number, 0 or more) or None", ms, (int, float))
    if not is_duration(ms) or ms > MOST_RECEIVE_MS:
        raise Error("timeout_value")
