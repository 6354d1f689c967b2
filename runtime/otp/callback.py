"""How a behaviour's callback ended: what it returned, or what its exception stands for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from runtime.core.exits import Throw, Unwind, reason_of
from runtime.core.modes import DEAD
from runtime.core.scheduling import scheduler

# ---- what it returned


class Ok(Struct, frozen=True):
    """`{ok, State}` from init; `timeout` in ms, `continue_` is handed to handle_continue."""

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
    """`{noreply, State}`: from handle_call the answer comes later by `reply(from_, value)`."""

    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


NO_REPLY: Final = object()


class Stop(Struct, frozen=True):
    """`{stop, Reason, State}`, or `{stop, Reason, Reply, State}` if a `reply` is given."""

    reason: Any = "normal"
    reply: Any = NO_REPLY


class Ignore(Struct, frozen=True):
    """`ignore` from init: the process ends with `normal`, start returns None."""


# ---- what it raised


class Raised(Struct, frozen=True):
    """It raised: the exit reason that its exception stands for."""

    reason: Any


def own(error: BaseException) -> BaseException:
    """The error, if it is the callback's own.

    Raises it again if it is not: the process is being taken off the stack, or is dead already and its code only cleans up.
    """
    process = scheduler.current
    if (
        isinstance(error, Unwind | GeneratorExit | KeyboardInterrupt)  # the last is meant for the program
        or process is None
        or process.execution.mode == DEAD
    ):
        raise error
    return error


def outcome(error: BaseException) -> Any:
    """What a callback's exception stands for: throw(X) is the return value X, all else is a `Raised`."""
    error = own(error)
    return error.value if isinstance(error, Throw) else Raised(reason_of(error))


def run(callback: Callable[..., Any], *args: Any) -> Any:
    """Calls a callback: what it returned (a coroutine, if it is one), or what its exception stands for."""
    try:
        return callback(*args)
    except BaseException as error:
        return outcome(error)


async def completed(coroutine: Awaitable[Any]) -> Any:
    """As `run`, of a callback that is a coroutine function and was called."""
    try:
        return await coroutine
    except BaseException as error:
        return outcome(error)
