"""The results of a behaviour's callbacks: return values, and exceptions as return values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from runtime.core.exits import Throw, Unwind, reason_of
from runtime.core.modes import DEAD
from runtime.core.scheduling import scheduler

# ---- return values


class Ok(Struct, frozen=True):
    """`{ok, State}` from init. `timeout` in ms; `continue_` is passed to handle_continue."""

    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


class Reply(Struct, frozen=True):
    """`{reply, Value, State}` from handle_call."""

    value: Any = None
    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


class NoReply(Struct, frozen=True):
    """`{noreply, State}`. After a handle_call that returns it, `reply(from_, value)` sends the reply."""

    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


NO_REPLY: Final = object()


class Stop(Struct, frozen=True):
    """`{stop, Reason, State}`, or `{stop, Reason, Reply, State}` if a `reply` is given."""

    reason: Any = "normal"
    reply: Any = NO_REPLY


class Ignore(Struct, frozen=True):
    """`ignore` from init: the process ends with `normal` and the start function returns None."""


# ---- exceptions


class Raised(Struct, frozen=True):
    """The callback has raised: the exit reason of its exception."""

    reason: Any


def own(error: BaseException) -> BaseException:
    """Returns the error if the callback has raised it itself.

    Re-raises it otherwise: if it unwinds the process's code, or if the process is dead and its code is cleaning up.
    """
    process = scheduler.current
    if (
        isinstance(error, Unwind | GeneratorExit | KeyboardInterrupt)  # KeyboardInterrupt is for the program
        or process is None
        or process.execution.mode == DEAD
    ):
        raise error
    return error


def outcome(error: BaseException) -> Any:
    """The result that an exception stands for: X for `throw(X)`, else a `Raised`."""
    error = own(error)
    return error.value if isinstance(error, Throw) else Raised(reason_of(error))


def run(callback: Callable[..., Any], *args: Any) -> Any:
    """Calls a callback and returns its result, which for an `async def` is a coroutine, or the `outcome` of its exception."""
    try:
        return callback(*args)
    except BaseException as error:
        return outcome(error)


async def completed(coroutine: Awaitable[Any]) -> Any:
    """Awaits the coroutine of a callback; the result is as of `run`."""
    try:
        return await coroutine
    except BaseException as error:
        return outcome(error)
