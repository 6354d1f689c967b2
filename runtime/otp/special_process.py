"""OTP's special processes: plain functions, started by `proc_lib`, that answer the requests of `sys` themselves.

Such a process takes a `SystemMessage` out of its mailbox like any other message and hands it to `handle_system_msg` with its
state; what comes back is the state to go on with. Suspending, tracing and counting are done there; what a state is, and how to
end, the process says by a `Special`. A request that is never taken runs into the asker's timeout, as in OTP.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import Any, Literal

from runtime.core.exits import CallSite, Exit, reason_of
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.signals import ExitMessage, SystemMessage
from runtime.otp.erlang import receive
from runtime.otp.gen import TerminateRequest
from runtime.otp.sys import SystemRequest, Termination, debug_of, status_of

__all__ = ["Special", "SystemMessage", "handle_debug", "handle_system_msg"]


class Special:
    """What `sys` asks of a special process (`system_get_state/1` and the like). Subclass it where the state needs more."""

    def system_get_state(self, state: Any) -> Any:
        """`Module:system_get_state/1`: what `sys.get_state` shows."""
        return state

    def system_replace_state(self, shown: Any, state: Any) -> Any:
        """`Module:system_replace_state/2`: the new state, of what `sys.replace_state` made of the state shown."""
        return shown

    def system_code_change(self, state: Any, module: Any, old_version: Any, extra: Any) -> Any:
        """`Module:system_code_change/4`: the state for the new code. Raising refuses the change."""
        return state

    def system_terminate(self, reason: Any, state: Any) -> Any:
        """`Module:system_terminate/4`: last words, may be `async def`; the process ends with `reason` if it returns."""

    def format_status(self, state: Any) -> Any:
        """`Module:format_status/2`: the state as `sys.get_status` shows it; override to hide secrets."""
        return self.system_get_state(state)


async def handle_system_msg(message: SystemMessage, special: Special, state: Any) -> Any:
    """`sys:handle_system_msg/6`: answers a request of `sys`; the state to go on with (`Module:system_continue/3`).

    While the process is suspended this takes its system messages and its parent's exit, and leaves other mail where it is.
    Raises Exit(reason) after `system_terminate`. Works only inside a process that `proc_lib` started.
    """
    cell = scheduler.current
    if cell is None:
        raise RuntimeError("this works only inside a process")
    parent = cell.relations.parent

    def passes(mail: Any) -> bool:
        return isinstance(mail, SystemMessage) or (isinstance(mail, ExitMessage) and mail.pid is parent)

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
    """Resolves one request: the state afterwards."""
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
    """`sys:handle_debug/4`: the process took or sent (to `peer`) a message, for those who trace, count or log it."""
    cell = scheduler.current
    if cell is None:
        raise RuntimeError("this works only inside a process")
    debug = debug_of(cell)
    if debug is None:
        return
    if kind == "in":
        debug.message_in(cell, message)
    else:
        debug.message_out(cell, message, None if peer is None else peer.cell)
