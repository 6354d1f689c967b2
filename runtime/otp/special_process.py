"""OTP's special processes: plain functions, started by `proc_lib`, that handle system messages themselves.

Such a process receives a `SystemMessage` like any other message and passes it with its state to `handle_system_msg`, which
returns the new state. That function suspends, traces and counts; a `Special` says what the state is and how to terminate. As in
OTP a request that is never received times out.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import Any, Literal

from runtime.core.exits import CallSite, Exit, reason_of
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import current_process
from runtime.core.signals import ExitMessage, SystemMessage
from runtime.otp.debug import debug_of
from runtime.otp.erlang import receive
from runtime.otp.gen import TerminateRequest
from runtime.otp.sys import SystemRequest, Termination, status_of

__all__ = ["Special", "SystemMessage", "handle_debug", "handle_system_msg"]


class Special:
    """The callbacks of a special process (`system_get_state/1` and the like). Subclass it to change the defaults."""

    def system_get_state(self, state: Any) -> Any:
        """`Module:system_get_state/1`: the result of `sys.get_state`."""
        return state

    def system_replace_state(self, shown: Any, state: Any) -> Any:
        """`Module:system_replace_state/2`: the new state; `shown` is the replaced result of `system_get_state`."""
        return shown

    def system_code_change(self, state: Any, module: Any, old_version: Any, extra: Any) -> Any:
        """`Module:system_code_change/4`: the state for the new code. An exception refuses the change."""
        return state

    def system_terminate(self, reason: Any, state: Any) -> Any:
        """`Module:system_terminate/4`: cleans up; may be `async def`. If it returns, the process ends with `reason`."""

    def format_status(self, state: Any) -> Any:
        """`Module:format_status/2`: the state as shown by `sys.get_status`; override it to hide secrets."""
        return self.system_get_state(state)


async def handle_system_msg(message: SystemMessage, special: Special, state: Any) -> Any:
    """`sys:handle_system_msg/6`: handles a system message and returns the state to continue with.

    While the process is suspended it does not return, and receives system messages and the exit of the parent only.
    Raises Exit(reason) after `system_terminate`. Works only inside a process started by `proc_lib`.
    """
    cell = current_process()
    parent = cell.relations.parent

    def passes(message: Any) -> bool:
        return isinstance(message, SystemMessage) or (
            isinstance(message, ExitMessage) and message.pid is parent
        )

    taken: Any = message
    while True:
        match taken:
            case Termination() | TerminateRequest() | ExitMessage():
                reason = taken.reason
                if isinstance(taken, Termination):
                    taken.finish(None, None)
                elif isinstance(taken, TerminateRequest):
                    taken.accepted = True
                ended = special.system_terminate(reason, state)
                if isawaitable(ended):
                    await ended
                raise Exit(reason)
            case SystemRequest():
                state = _answer(cell, taken, special, state)
        if not cell.execution.suspended:
            return state
        taken = await receive(passes)


def _answer(cell: Cell, request: SystemRequest, special: Special, state: Any) -> Any:
    """Handles one request and returns the new state."""
    site = request.site
    assert isinstance(site, CallSite)
    value: Any = None
    error: Exception | None = None
    match site.function, site.args[1:]:
        case "get_state", _:
            value = special.system_get_state(state)
        case "replace_state", (change,):
            try:
                state = special.system_replace_state(value := change(special.system_get_state(state)), state)
            except Exception as exc:
                error = Exit(("callback_failed", reason_of(exc)))
        case "get_status", _:
            value = {**status_of(cell), "state": special.format_status(state)}
        case "change_code", args if not cell.execution.suspended:
            value = ("error", ("unknown_system_msg", ("change_code", *args)))
        case "change_code", (module, old_version, extra):
            try:
                state, value = special.system_code_change(state, module, old_version, extra), "ok"
            except Exception as exc:
                value = ("error", reason_of(exc))
        case _:
            request.perform(cell)
            return state
    request.finish(value, error)
    return state


def handle_debug(kind: Literal["in", "out"], message: Any, peer: Pid | None = None) -> None:
    """`sys:handle_debug/4`: traces, counts and logs a message received ("in"), or sent to `peer` ("out")."""
    cell = current_process()
    debug = debug_of(cell)
    if debug is None:
        return
    if kind == "in":
        debug.message_in(cell, message)
    else:
        debug.message_out(cell, message, None if peer is None else peer.cell)
