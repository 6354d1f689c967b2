"""OTP's `gen_event`: one manager process, in which any number of handlers hear each event.

    class Counter(EventHandler):
        def init(self, start):
            self.n = start

        def handle_event(self, event):
            self.n += 1

    await start_link(name="events")
    await add_handler("events", Counter, 0)
    notify("events", "something happened")

A handler is named by its class, or `(class, id)`; its state is the instance. One that raises is removed and reported, the others
and the manager go on. Callbacks are plain functions. All times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.core import reports
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.signals import ExitMessage
from runtime.otp import gen_server
from runtime.otp.callback import Raised, run
from runtime.otp.erlang import self_
from runtime.otp.gen import DEFAULT_TIMEOUT, Dest
from runtime.otp.gen_server import From, GenServer, Reply, start_actor
from runtime.otp.send_request import RequestId

# ---- what callbacks return


@dataclass(frozen=True, slots=True)
class RemoveHandler:
    """`remove_handler`: the handler goes, after `terminate("remove_handler")`. From handle_call with a `reply`."""

    reply: Any = None


@dataclass(frozen=True, slots=True)
class SwapHandler:
    """`{swap_handler, Args1, State, Handler2, Args2}`: another takes its place. From handle_call with a `reply`."""

    args1: Any
    handler2: Any
    args2: Any
    reply: Any = None


class EventHandler:
    """A handler's callbacks. All but `init` may be left out."""

    def init(self, args: Any) -> Any:
        """None or "ok" if it is there; anything else is why it is not, and what `add_handler` returns.

        After a swap `args` is `(args2, what terminate of the old one returned)`.
        """

    def handle_event(self, event: Any) -> Any:
        """Hears an event: None, RemoveHandler or SwapHandler."""

    def handle_call(self, request: Any) -> Any:
        """Answers `call`: `gen_server.Reply(value)`, RemoveHandler(reply) or SwapHandler(..., reply)."""
        return Reply(("error", "bad_call"))

    def handle_info(self, message: Any) -> Any:
        """Any other message of the manager: as handle_event."""

    def terminate(self, arg: Any) -> Any:
        """Last words: `arg` is delete_handler's or a swap's, "stop", "remove_handler", ("stop", reason) or ("error", reason).

        A handler that raised gets ("error", ("EXIT", reason)); ("stop", reason) one whose supervisor has ended.
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
    """The manager. It owns the handlers, newest first, and traps exits to hear of those who added one with add_sup_handler."""

    def init(self) -> None:
        self._myRef.own_relations().trap_exit = True
        self.handlers: list[_Handler] = []

    def handle_cast(self, request: Any) -> None:
        match request:
            case _Notify(event):
                self._all(lambda handler: handler.handle_event(event), event)

    def handle_info(self, message: Any) -> None:
        if isinstance(message, ExitMessage):
            for one in [one for one in self.handlers if one.supervisor is message.pid]:
                self._remove(one, ("stop", message.reason), "shutdown")
        self._all(lambda handler: handler.handle_info(message), message)

    def handle_call(self, request: Any, from_: From) -> Any:
        match request:
            case _Notify(event):
                self._all(lambda handler: handler.handle_event(event), event)
                return Reply("ok")
            case _Add(handler, args, supervisor):
                return Reply(self._add(handler, args, supervisor))
            case _Delete(handler, args):
                one = self._find(handler)
                if one is None:
                    return Reply(("error", "module_not_found"))
                return Reply(self._remove(one, args, "normal"))
            case _Swap(handler1, args1, handler2, args2, supervisor):
                return Reply(self._swap(self._find(handler1), args1, handler2, args2, supervisor))
            case _Call(handler, request):
                return Reply(self._call(handler, request))
            case _Which():
                return Reply([one.handler for one in self.handlers])
        return Reply(("error", "bad_call"))

    def terminate(self, reason: Any) -> None:
        for one in list(self.handlers):
            self._remove(one, "stop", "shutdown")  # whatever the reason

    # ---- handlers

    def _find(self, handler: Any) -> _Handler | None:
        return next((one for one in self.handlers if one.handler == handler), None)

    def _add(self, handler: Any, args: Any, supervisor: Pid | None) -> Any:
        kind = handler[0] if isinstance(handler, tuple) else handler
        instance = run(kind)
        result = run(instance.init, args) if isinstance(instance, EventHandler) else instance
        if isinstance(result, Raised):
            return ("EXIT", result.reason)
        if result is not None and result != "ok":
            return result
        cell = None if supervisor is None else supervisor.cell
        if cell is not None:
            self._myRef.link(cell)
        self.handlers.insert(0, _Handler(handler, instance, cell))
        return "ok"

    def _all(self, hear: Callable[[EventHandler], Any], event: Any) -> None:
        for one in list(self.handlers):
            result = run(hear, one.instance)
            if isinstance(result, Raised):
                self._crashed(one, ("EXIT", result.reason))
            else:
                self._follow(one, result)

    def _follow(self, one: _Handler, result: Any) -> None:
        match result:
            case None | "ok" | Reply():
                pass
            case RemoveHandler() | "remove_handler":
                self._remove(one, "remove_handler", "normal")
            case SwapHandler(args1, handler2, args2):
                self._swap(one, args1, handler2, args2, one.supervisor)
            case _:
                self._crashed(one, result)

    def _call(self, handler: Any, request: Any) -> Any:
        one = self._find(handler)
        if one is None:
            return ("error", "bad_module")
        result = run(one.instance.handle_call, request)
        if isinstance(result, Raised):
            self._crashed(one, ("EXIT", result.reason))
            return ("error", ("EXIT", result.reason))
        self._follow(one, result)
        match result:
            case Reply(value) | RemoveHandler(value) | SwapHandler(reply=value):
                return value
        return ("error", result)

    def _crashed(self, one: _Handler, reason: Any) -> None:
        reports.supervisor(self._myRef, "handler_crashed", reason, one.handler, None)
        self._remove(one, ("error", reason), reason)

    def _remove(self, one: _Handler, arg: Any, told: Any) -> Any:
        """Takes a handler out, after its last words, and returns those; its supervisor hears `told`."""
        if one not in self.handlers:
            return None
        self.handlers.remove(one)
        last = run(one.instance.terminate, arg)
        if isinstance(last, Raised):
            last = ("EXIT", last.reason)
        if one.supervisor is not None:
            one.supervisor.deliver(("gen_event_EXIT", one.handler, told))
            if all(other.supervisor is not one.supervisor for other in self.handlers):
                self._myRef.unlink(one.supervisor)
        return last

    def _swap(
        self, one: _Handler | None, args1: Any, handler2: Any, args2: Any, supervisor: Pid | None
    ) -> Any:
        last: Any = "error"
        if one is not None:
            supervisor = supervisor or one.supervisor  # it passes on with the place
            last = self._remove(one, args1, ("swapped", handler2, supervisor))
        return self._add(handler2, (args2, last), supervisor)


# ---- the functions of the module


async def start_link(*, name: Any = None, timeout: float | None = None) -> Pid | None:
    """`gen_event:start_link/1`. Raises StartError."""
    return await start_actor(Manager(), (), link=True, name=name, timeout=timeout)


async def start(*, name: Any = None, timeout: float | None = None) -> Pid | None:
    """`gen_event:start/1`."""
    return await start_actor(Manager(), (), link=False, name=name, timeout=timeout)


async def start_monitor(*, name: Any = None, timeout: float | None = None) -> tuple[Pid, Ref] | None:
    """`gen_event:start_monitor/1`: as start, and the caller monitors it: `(pid, ref)`."""
    return await Manager.start_monitor(name=name, timeout=timeout)


def notify(manager: Dest, event: Any) -> None:
    """`gen_event:notify/2`: without waiting."""
    gen_server.cast(manager, _Notify(event))


async def sync_notify(manager: Dest, event: Any) -> Any:
    """`gen_event:sync_notify/2`: "ok" once all handlers have heard it."""
    return await gen_server.call(manager, _Notify(event), None)


async def add_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:add_handler/3`: "ok", what `init` returned instead, or ("EXIT", reason)."""
    return await gen_server.call(manager, _Add(handler, args, None), None)


async def add_sup_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:add_sup_handler/3`: handler and caller are bound to each other.

    The handler goes with the caller, and the caller is told by a message `("gen_event_EXIT", handler, reason)` if the handler
    goes.
    """
    return await gen_server.call(manager, _Add(handler, args, self_()), None)


async def delete_handler(manager: Dest, handler: Any, args: Any = None) -> Any:
    """`gen_event:delete_handler/3`: what its `terminate(args)` returned, or ("error", "module_not_found")."""
    return await gen_server.call(manager, _Delete(handler, args), None)


async def swap_handler(manager: Dest, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:
    """`gen_event:swap_handler/3`: `(handler1, args1)` by `(handler2, args2)`; see `EventHandler.init`."""
    return await gen_server.call(manager, _Swap(*old, *new, None), None)


async def swap_sup_handler(manager: Dest, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:
    """`gen_event:swap_sup_handler/3`."""
    return await gen_server.call(manager, _Swap(*old, *new, self_()), None)


async def call(manager: Dest, handler: Any, request: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`gen_event:call/4`: its answer, ("error", "bad_module") if it is not there, ("error", ("EXIT", reason)) if it raised."""
    return await gen_server.call(manager, _Call(handler, request), timeout)


def send_request(manager: Dest, handler: Any, request: Any) -> RequestId:
    """`gen_event:send_request/3`: as `call`; its answer is fetched by the functions of `runtime.otp.request_ids`."""
    return gen_server.send_request(manager, _Call(handler, request))


async def which_handlers(manager: Dest) -> list[Any]:
    """`gen_event:which_handlers/1`: the newest first."""
    return await gen_server.call(manager, _Which(), None)


async def stop(manager: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """`gen_event:stop/3`: each handler gets `terminate("stop")`."""
    await gen_server.stop(manager, reason, timeout)
