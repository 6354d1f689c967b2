"""OTP's `gen_event`: a manager process that passes each event to all handlers installed in it.

    class Counter(EventHandler):
        def init(self, start):
            self.n = start

        def handle_event(self, event):
            self.n += 1

    await start_link(name="events")
    await add_handler("events", Counter, 0)
    notify("events", "something happened")

A handler is identified by its class or by `(class, id)`; its state is the instance. A handler that raises is removed and
reported; the others and the manager are not affected. Callbacks are plain functions, not coroutines. All times are milliseconds.
A failed request raises Exit(reason), in `call` Exit((reason, CallSite)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.core import reports
from runtime.core.exits import CallSite, Error, Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.signals import ExitMessage
from runtime.otp import gen_server
from runtime.otp.callback import Raised, run
from runtime.otp.destination import Dest
from runtime.otp.erlang import self_
from runtime.otp.exact_key import same
from runtime.otp.gen import DEFAULT_TIMEOUT
from runtime.otp.gen_server import From, GenServer, NoReply, Reply, start_actor
from runtime.otp.send_request import RequestId

# ---- what callbacks return


@dataclass(frozen=True, slots=True)
class RemoveHandler:
    """`remove_handler`: removes the handler after `terminate("remove_handler")`; `reply` is for handle_call."""

    reply: Any = None


@dataclass(frozen=True, slots=True)
class SwapHandler:
    """`{swap_handler, Args1, State, Handler2, Args2}`: replaces the handler; `reply` is for handle_call."""

    args1: Any
    handler2: Any
    args2: Any
    reply: Any = None


class EventHandler:
    """The callbacks of a handler, all of them optional."""

    def init(self, args: Any) -> Any:
        """Sets the state up. Returns None or "ok"; anything else refuses and is the result of `add_handler`.

        In a swap `args` is `(args2, result of the old handler's terminate)`.
        """

    def handle_event(self, event: Any) -> Any:
        """Handles an event: None, RemoveHandler or SwapHandler."""

    def handle_call(self, request: Any) -> Any:
        """Handles a `call`: `Reply(value)`, RemoveHandler(reply) or SwapHandler(..., reply)."""
        return Reply(("error", "bad_call"))

    def handle_info(self, message: Any) -> Any:
        """Handles any other message to the manager; results as of handle_event."""

    def terminate(self, arg: Any) -> Any:
        """Cleans up before the handler is removed.

        `arg` is the argument of delete_handler or of a swap, "stop" when the manager stops, "remove_handler",
        `("stop", reason)` when the process that added it by add_sup_handler has ended, `("error", reason)` after an invalid
        result, and `("error", ("EXIT", reason))` after an exception.
        """


# ---- requests


@dataclass(frozen=True, slots=True)
class _Notify:
    event: Any


@dataclass(frozen=True, slots=True)
class _Add:
    handler: Any
    args: Any
    supervisor: Pid | None


@dataclass(frozen=True, slots=True)
class _Delete:
    handler: Any
    args: Any


@dataclass(frozen=True, slots=True)
class _Swap:
    handler1: Any
    args1: Any
    handler2: Any
    args2: Any
    supervisor: Pid | None


@dataclass(frozen=True, slots=True)
class _Call:
    handler: Any
    request: Any


class _Which:
    pass


class _Handler:
    __slots__ = ("handler", "instance", "supervisor")

    def __init__(self, handler: Any, instance: EventHandler, supervisor: Cell | None) -> None:
        self.handler = handler
        self.instance = instance
        self.supervisor = supervisor


class Manager(GenServer):
    """The manager. It owns the handlers, newest first, and traps exits of the processes that called add_sup_handler.

    As in OTP the link to such a process stays when its handler is removed or was refused. When the manager ends it unlinks the
    processes that still have a handler; the others receive its exit signal.
    """

    def init(self) -> None:
        self._myRef.own_relations().trap_exit = True
        self.handlers: list[_Handler] = []

    def handle_cast(self, request: Any) -> None:
        match request:
            case _Notify(event):
                self._all(lambda handler: handler.handle_event(event))

    def handle_info(self, message: Any) -> None:
        if isinstance(message, ExitMessage):
            for one in [one for one in self.handlers if one.supervisor is message.pid]:
                self.handlers.remove(one)
                self._ended(one, ("stop", message.reason), "shutdown")
        self._all(lambda handler: handler.handle_info(message))

    def handle_call(self, request: Any, from_: From) -> NoReply:
        from_.answer(self._answer(request), False)  # gen_event does not trace its replies
        return NoReply()

    def _answer(self, request: Any) -> Any:
        match request:
            case _Notify(event):
                self._all(lambda handler: handler.handle_event(event))
                return "ok"
            case _Add(handler, args, supervisor):
                return self._add(handler, args, supervisor)
            case _Delete(handler, args):
                one = self._find(handler)
                if one is None:
                    return ("error", "module_not_found")
                self.handlers.remove(one)
                return self._ended(one, args, "normal")
            case _Swap(handler1, args1, handler2, args2, supervisor):
                return self._swap(self._find(handler1), args1, handler2, args2, supervisor)
            case _Call(handler, request):
                return self._call(handler, request)
            case _Which():
                return [one.handler for one in self.handlers]
        return ("error", "bad_call")

    def terminate(self, reason: Any) -> None:
        """Calls `terminate("stop")` of each handler, whatever the reason."""
        handlers, self.handlers = self.handlers, []
        for one in handlers:
            self._ended(one, "stop", "shutdown")
        for one in handlers:
            if one.supervisor is not None and one.supervisor is not self._myRef.relations.parent:
                self._myRef.unlink(one.supervisor)

    # ---- handlers

    def _find(self, handler: Any) -> _Handler | None:
        return next((one for one in self.handlers if same(one.handler, handler)), None)

    def _add(self, handler: Any, args: Any, supervisor: Pid | None) -> Any:
        """Adds a handler at the front: "ok", or the result with which `init` refused."""
        cell = None if supervisor is None else supervisor.cell
        if cell is not None:
            self._myRef.link(cell)
        result, instance = _started(handler, args)
        if instance is None:
            return result
        self.handlers.insert(0, _Handler(handler, instance, cell))
        return "ok"

    def _all(self, callback: Callable[[EventHandler], Any]) -> None:
        for one in list(self.handlers):
            self._apply_result(one, run(callback, one.instance))

    def _apply_result(self, one: _Handler, result: Any) -> None:
        """Removes or swaps a handler as the result of its callback says; a swap keeps the position."""
        match result:
            case None | "ok" | Reply():
                return
            case SwapHandler(args1, handler2, args2):
                last = self._ended(one, args1, ("swapped", handler2, one.supervisor))
                why, instance = _started(handler2, (args2, last))
                if instance is not None:
                    new = _Handler(handler2, instance, one.supervisor)
                    self.handlers[self.handlers.index(one)] = new
                else:
                    self.handlers.remove(one)
                    self._crashed(handler2, one.supervisor, why, "crash")
                return
        self.handlers.remove(one)
        match result:
            case RemoveHandler() | "remove_handler":
                self._ended(one, "remove_handler", "normal")
            case _:
                why = _why(result)
                run(one.instance.terminate, ("error", why))
                self._crashed(one.handler, one.supervisor, why, why)

    def _call(self, handler: Any, request: Any) -> Any:
        one = self._find(handler)
        if one is None:
            return ("error", "bad_module")
        result = run(one.instance.handle_call, request)
        self._apply_result(one, result)
        match result:
            case Reply(value) | RemoveHandler(value) | SwapHandler(reply=value):
                return value
        return ("error", _why(result))

    def _ended(self, one: _Handler, arg: Any, reason: Any) -> Any:
        """Terminates a removed handler and sends `reason` to its supervisor. Returns the result of `terminate`."""
        last = _why(run(one.instance.terminate, arg))
        if one.supervisor is not None:
            one.supervisor.deliver(("gen_event_EXIT", one.handler, reason))
        return last

    def _crashed(self, handler: Any, supervisor: Cell | None, why: Any, reason: Any) -> None:
        """Reports a handler that has crashed, or that has refused to start in a swap, for which OTP sends only "crash"."""
        reports.supervisor(self._myRef, "handler_crashed", why, handler, None)
        if supervisor is not None:
            supervisor.deliver(("gen_event_EXIT", handler, reason))

    def _swap(
        self, one: _Handler | None, args1: Any, handler2: Any, args2: Any, supervisor: Pid | None
    ) -> Any:
        """A swap by request: adds the new handler at the front, even if the old one does not exist."""
        last: Any = "error"
        if one is not None:
            supervisor = supervisor or one.supervisor  # inherited by the new handler
            self.handlers.remove(one)
            last = self._ended(one, args1, ("swapped", handler2, supervisor))
        result = self._add(handler2, (args2, last), supervisor)
        return result if result == "ok" else ("error", result)


def _why(result: Any) -> Any:
    """The result of a callback, or `{'EXIT', Reason}` if it has raised, as with Erlang's `catch`."""
    return ("EXIT", result.reason) if isinstance(result, Raised) else result


def _started(handler: Any, args: Any) -> tuple[Any, EventHandler | None]:
    """Creates and initialises a handler: ("ok", instance), or (result, None) if `init` refused."""
    kind: Any = handler[0] if isinstance(handler, tuple) and len(handler) == 2 else handler
    instance = run(kind)
    result = run(instance.init, args) if isinstance(instance, EventHandler) else instance
    if result is None or result == "ok":
        return "ok", instance
    return _why(result), None


# ---- the functions of the module


async def start_link(*, name: Any = None, timeout: float | None = None) -> Pid | None:
    """`gen_event:start_link/1`. Raises StartError."""
    return await start_actor(Manager(), (), link=True, name=name, timeout=timeout)


async def start(*, name: Any = None, timeout: float | None = None) -> Pid | None:
    """`gen_event:start/1`."""
    return await start_actor(Manager(), (), link=False, name=name, timeout=timeout)


async def start_monitor(*, name: Any = None, timeout: float | None = None) -> tuple[Pid, Ref] | None:
    """`gen_event:start_monitor/1`: as start, monitored by the caller: `(pid, ref)`."""
    return await Manager.start_monitor(name=name, timeout=timeout)


def notify(manager: Dest, event: Any) -> None:
    """`gen_event:notify/2`: sends an event without waiting. Raises Error("badarg") for a name that is not registered."""
    if isinstance(manager, str) and gen_server.whereis(manager) is None:
        raise Error("badarg")
    gen_server.cast(manager, _Notify(event))


async def _rpc(manager: Dest, request: Any) -> Any:
    """A request that fails with the bare reason, as in all functions here but `call`."""
    try:
        return await gen_server.call(manager, request, None)
    except Exit as failed:
        raise Exit(failed.reason[0]) from None


async def sync_notify(manager: Dest, event: Any) -> Any:
    """`gen_event:sync_notify/2`: returns "ok" when all handlers have handled the event."""
    return await _rpc(manager, _Notify(event))


async def add_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:add_handler/3`: "ok", the result with which `init` refused, or ("EXIT", reason)."""
    return await _rpc(manager, _Add(handler, args, None))


async def add_sup_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:add_sup_handler/3`: as add_handler, supervised by the caller.

    The handler is removed when the caller ends, and the caller gets `("gen_event_EXIT", handler, reason)` when the handler is
    removed.
    """
    return await _rpc(manager, _Add(handler, args, self_()))


async def delete_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:delete_handler/3`: the result of `terminate(args)`, or ("error", "module_not_found")."""
    return await _rpc(manager, _Delete(handler, args))


async def swap_handler(manager: Dest, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:
    """`gen_event:swap_handler/3`: replaces `(handler1, args1)` by `(handler2, args2)`; see `EventHandler.init`."""
    return await _rpc(manager, _Swap(*old, *new, None))


async def swap_sup_handler(manager: Dest, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:
    """`gen_event:swap_sup_handler/3`."""
    return await _rpc(manager, _Swap(*old, *new, self_()))


async def call(manager: Dest, handler: Any, request: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`gen_event:call/4`: the reply, ("error", "bad_module") if there is no such handler, or ("error", ("EXIT", reason))."""
    try:
        return await gen_server.call(manager, _Call(handler, request), timeout)
    except Exit as failed:
        site = CallSite("gen_event", "call", (manager, handler, request, timeout))
        raise Exit((failed.reason[0], site)) from None


def send_request(manager: Dest, handler: Any, request: Any) -> RequestId:
    """`gen_event:send_request/3`: as `call`; the reply is read by the functions of `runtime.otp.request_ids`."""
    return gen_server.send_request(manager, _Call(handler, request))


async def which_handlers(manager: Dest) -> list[Any]:
    """`gen_event:which_handlers/1`: the handlers, newest first."""
    return await _rpc(manager, _Which())


async def stop(manager: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """`gen_event:stop/3`: calls `terminate("stop")` of each handler."""
    await gen_server.stop(manager, reason, timeout)
