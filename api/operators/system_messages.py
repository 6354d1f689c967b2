"""System messages (`sys`) to a process that an operator has named; what can go wrong is an ApiError."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from api.http.errors import ApiError
from runtime import Exit, Pid, gen_server
from runtime.observe import process_info, term

TIMEOUT_MS: Final = 2000


def is_a(pid: Pid, behaviour: type) -> bool:
    """Whether the process runs this behaviour; False once it is dead."""
    return issubclass(process_info.behaviour(pid) or type(None), behaviour)


def require_behaviour(pid: Pid) -> None:
    """Raises ApiError 409 for a process that takes no system messages."""
    if not is_a(pid, gen_server.GenServer):
        raise ApiError(409, "Only behaviours (GenServer and the like) take system messages")


async def result_of(request: Awaitable[Any]) -> Any:
    """The result of a request of `sys`. Raises ApiError: 404 if the process has ended, 409 if it is busy or refuses."""
    try:
        return await request
    except Exit as error:
        reason = error.reason[0] if isinstance(error.reason, tuple) and error.reason else error.reason
        if reason == "noproc":
            raise ApiError(404, "There is no such process") from None
        if reason == "timeout":
            raise ApiError(409, "The process did not answer in time: it is busy with a message") from None
        raise ApiError(409, f"The process does not take system messages: {term.text(reason)}") from None
