"""OTP's `gen`, the base of all behaviours: calls and replies, starting and stopping.

Applications use these functions through `gen_server` and `state_machine`. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar, overload

from msgspec import Struct

from runtime.core import telemetry
from runtime.core.bad_argument import bad_argument
from runtime.core.durations import MAX_MS, check_timeout
from runtime.core.eager_task import EagerTask
from runtime.core.engine import current_engine
from runtime.core.exits import CallSite, Error, Exit, is_atom
from runtime.core.mailbox import Mailbox
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.reports import module_of
from runtime.core.scheduling import TIMEOUT, PendingReply, scheduler
from runtime.core.signals import DownReply, SystemMessage
from runtime.core.small_set import SmallSet, without
from runtime.core.timers import Timer
from runtime.otp.destination import Dest, lost, not_there, resolve
from runtime.otp.erlang import yield_
from runtime.otp.init_ack import StartError, StartReply, acknowledged_within
from runtime.otp.unread_answer import UnreadAnswer

R = TypeVar("R", covariant=True)

DEFAULT_TIMEOUT: Final = 5000  # ms, gen_server:call/2
CALL: Final = telemetry.Span("gen", "call")


class Call(PendingReply):
    """A call: the request in the server's mailbox, the `From` of handle_call, and the awaitable of the caller.

    It is also the caller's monitor of the server: while pending it is the server's `execution.watcher` or in its
    `relations.monitored_by`.
    """

    name: ClassVar[None] = None  # as a monitor it is of a process

    target: Cell
    request: Any
    site: CallSite | tuple[Any, ...]
    alias: bool
    caller: Cell | None
    due: float | None = None  # when the call times out; the timer is set when the caller has to wait
    timer: Timer | None = None

    def __repr__(self) -> str:
        return f"Call({self.request!r})"

    def __await__(self) -> Generator[Any, None, Any]:
        # All in one generator: a nested one would add a tenth to the cost of a call.
        span = self._span() if CALL.active else None
        try:
            if self.done:
                if isinstance(self.waiter, UnreadAnswer):
                    self.waiter.fetch()
            else:
                if self.waiter is not None:
                    self._is_awaited()
                caller, target = scheduler.current, self.target
                engine = target.execution.engine
                if caller is not None and engine.queue:
                    engine.hand_over(caller, target)
                if not self.done:
                    if self.due is not None:
                        self.timer = engine.call_at(self.due, self.expire)
                    waiter = caller or scheduler.eager
                    if waiter is None:
                        yield from super().__await__()
                    else:
                        self.waiter = waiter
                        while not self.done:
                            yield self
            if self.error is not None:
                raise self._failure(self.error)
        except BaseException as error:
            self.abandon()
            if span is not None:
                span.exception(error)
            raise
        if span is not None:
            span.stop()
        return self.value

    def _is_awaited(self) -> None:
        """A request that was sent before is awaited now: its response is no message any more."""
        if isinstance(self.waiter, UnreadAnswer):
            self.waiter.spend()
            self.waiter = None

    def _span(self) -> telemetry.Running:
        cell = self.target
        local = isinstance(cell, Cell)
        return CALL.start(
            {
                "from": self,
                "caller": self.caller,
                "pid": str(cell),
                "server": (cell.relations.name or module_of(cell.actor)) if local else str(cell),
                "request": self.request,
            },
            {"message_queue_len": len(cell.execution.mailbox or ()) if local else 0},
        )

    @property
    def pid(self) -> Pid | None:
        """The caller, as in Erlang's `From`; None for a call from outside of processes."""
        return self.caller

    def answer(self, value: Any, debug: bool = True) -> None:
        """Delivers the reply. A second reply, or one after a timeout, is dropped.

        A call without timeout uses no alias in OTP, so a second reply to it arrives as a stray message `(from, value)`. With
        `debug` the reply is traced and counted by `sys`, as a callback's result is; a reply by `gen_server:reply/2` is not.
        """
        if self.done:
            if not self.alias and self.caller is not None:
                self.caller.deliver((self, value))
            return
        # `settle`, `resolve` and `wake` inlined: every call passes here.
        timer, waiter, relations = self.timer, self.waiter, self.target.relations
        watchers = relations.monitored_by
        if type(watchers) is SmallSet:
            relations.monitored_by = without(watchers, self)
        if timer is not None:
            self.timer = None
            timer.cancel()
        rare = relations.rare
        if debug and rare is not None and rare.debug is not None:
            rare.debug.message_out(self.target, value, self.caller)
        self.done = True
        self.value = value
        if waiter is None:
            return
        if isinstance(waiter, Cell):
            execution = waiter.execution
            if execution.waiting is self and execution.mode != DEAD and not execution.queued:
                execution.queued = True
                engine = execution.engine
                engine.queue.append(waiter)
                if not engine.scheduled:
                    engine.kick()
        elif isinstance(waiter, EagerTask):
            waiter.wake(self)
        elif not waiter.done():
            waiter.set_result(None)

    def wait_for(self, timeout: float) -> None:
        """Sets the timeout of a call that has been sent, in ms; with 0 it times out at once."""
        if timeout <= 0:
            self.expire()
        else:
            self.due = self.target.execution.engine.now() + timeout / 1000

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The server has ended before it replied."""
        if not self.done:
            self.settle()
            # `gen:call` does not of a local server that it calls without timeout.
            if self.alias or not isinstance(self.target, Cell):
                reason = lost(self.target, reason)
            self.resolve(None, Exit((reason, self._call_site())))

    def expire(self) -> None:
        """The call has timed out."""
        if not self.done:
            self.settle()
            self.resolve(None, Exit(("timeout", self._call_site())))

    def abandon(self) -> None:
        if not self.done:
            self.done = True
            self.settle()

    def settle(self) -> None:
        """Removes the monitor and the timer."""
        self.target.drop_monitor(self)
        timer = self.timer
        if timer is not None:
            self.timer = None
            timer.cancel()

    def _failure(self, error: BaseException) -> BaseException:
        """What the caller gets: as `gen:call` does, a lost node counts as known to the registry of a name."""
        site = self._call_site()
        match error, site.args[0]:
            case Exit(reason=(("nodedown", _), _)), ("global" | "via", *_):
                return Exit(("noproc", site))
        return error

    def _call_site(self) -> CallSite:
        site = self.site
        return site if isinstance(site, CallSite) else CallSite("gen_server", "call", site)


From = Call


class CallRequest(Generic[R]):
    """Base class of a request with a typed reply.

    With `class GetHead(CallRequest[Head])` the type of `await call(server, GetHead())` is `Head`; for requests of other types
    it is Any.
    """

    __slots__ = ()


class Failed(PendingReply):
    """A call that has failed before it was sent; raises when awaited."""

    failure: Exception

    def __post_init__(self) -> None:
        self.resolve(None, self.failure)


class Cast(Struct, frozen=True, eq=False):
    """`{'$gen_cast', Request}`."""

    request: Any

    def __repr__(self) -> str:
        return f"Cast({self.request!r})"


@overload
def call(dest: Dest, request: CallRequest[R], timeout: float | None = DEFAULT_TIMEOUT) -> Awaitable[R]: ...
@overload
def call(dest: Dest, request: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Awaitable[Any]: ...
def call(dest: Dest, request: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Awaitable[Any]:
    """`gen_server:call/3`: await it for the reply. `timeout` in ms, None is infinity.

    The request is sent when this is called, not when it is awaited. Awaiting raises `Exit((reason, CallSite))`: "noproc" if there
    is no such process, "timeout", "calling_self", "overload" if its bounded mailbox is full, or its exit reason if it ends
    before it replies. An invalid `dest` or `timeout` raises Error("badarg") at once.
    """
    if timeout is not None and not (type(timeout) is int and 0 <= timeout <= MAX_MS):
        check_timeout(timeout)  # not called for the usual values: that would be a twentieth of a call's cost
    site = (dest, request, timeout)
    if type(dest) is Cell:
        cell: Any = dest
    elif type(dest) is str:
        cell = current_engine().names.get(dest)
    else:
        cell = resolve(dest)
    if (
        type(cell) is Cell
        and (execution := cell.execution) is (engine := execution.engine).rest
        and engine.spare_executions
    ):
        # `deliver` to a server at rest, inlined: nearly every call passes here.
        pending = Call(cell, request, site, timeout is not None, scheduler.current)
        cell.execution = execution = engine.spare_executions.pop()
        execution.watcher = pending
        if execution.mailbox is None:
            spare = engine.spare_mailboxes
            execution.mailbox = spare.pop() if spare else Mailbox()
        execution.mailbox.append(pending)
        execution.queued = True
        engine.queue.append(cell)
        if not engine.scheduled:
            engine.kick()
        if timeout:
            pending.due = engine.now() + timeout / 1000
        elif timeout is not None:
            pending.expire()
        return pending
    if cell is None or cell.execution.mode == DEAD:
        return Failed(Exit((not_there(dest, cell, timeout), CallSite("gen_server", "call", site))))
    if cell is scheduler.current:
        return Failed(Exit(("calling_self", CallSite("gen_server", "call", site))))
    pending = Call(cell, request, site, timeout is not None, scheduler.current)
    if not cell.deliver(pending):
        return Failed(Exit(("overload", CallSite("gen_server", "call", site))))
    watchers = cell.relations.monitored_by
    if type(watchers) is SmallSet:  # others wait for this server: as `add_monitor`, with two functions less
        watchers.add(pending)
    else:
        cell.add_monitor(pending)
    if timeout is not None:
        pending.wait_for(timeout)
    return pending


def cast(dest: Dest, request: Any) -> None:
    """`gen_server:cast/2`: sends the request without waiting; it is dropped if there is no such process.

    As in OTP it is dropped as well if the registry of a `("via", registry, key)` raises.
    """
    try:
        cell = resolve(dest)
    except (Exit, Error):
        if isinstance(dest, tuple) and dest[0] == "via":
            return
        raise
    if cell is not None:
        cell.deliver(Cast(request))


def reply(from_: From, value: Any) -> None:
    """`gen_server:reply/2`: replies to a call whose handle_call has returned `NoReply`. Not traced by `sys`.

    Raises Error("function_clause") if `from_` is not a `From`.
    """
    if not hasattr(from_, "answer"):
        raise Error("function_clause")
    from_.answer(value, False)


class TerminateRequest(SystemMessage):
    """The system message of `gen_server:stop/3`. `accepted` is True once the process has handled it."""

    __slots__ = ("__weakref__", "accepted", "caller", "reason")

    def __init__(self, reason: Any) -> None:
        self.caller = scheduler.current
        self.reason = reason
        self.accepted = False

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        self.accepted = True
        return cell.actor._stop(self.reason)


class _StopReply(DownReply):
    """`proc_lib:stop`'s wait for the end. `monitors`: `sys:terminate` has one too until the process has come to the request."""

    request: TerminateRequest

    @property
    def monitors(self) -> int:
        return 1 if self.request.accepted else 2


async def stop(dest: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """`gen_server:stop/3`: after the messages before it the server runs `terminate` and ends with `reason`.

    Raises Exit("noproc") if there is no such process, Exit(other) if it ends with another reason, Exit((other, CallSite)) if it
    ends before it handles the request, and Exit("timeout") after `timeout` ms; the server then still stops when it gets to the
    request. Raises Error("badarg"), without a request, if `dest` or `timeout` is invalid.
    """
    check_timeout(timeout)
    cell = resolve(dest)
    if cell is None or cell.execution.mode == DEAD:
        raise Exit(not_there(dest, cell, timeout))
    # As in OTP, {Name, Node} of another node is not resolved.
    there = cell if isinstance(cell, Cell) else dest
    site = CallSite("sys", "terminate", (there, reason, "infinity" if timeout is None else timeout))
    if cell is scheduler.current:
        raise Exit(("calling_self", site))
    request = TerminateRequest(reason)
    down = _StopReply(cell, request)
    cell.deliver(request)
    if timeout is not None and timeout <= 0:
        down.abandon()
        await yield_()  # in OTP a process of its own asks, and the caller waits for the end of that
        raise Exit("timeout")
    timer = None if timeout is None else cell.engine.call_later(timeout / 1000, down.resolve, TIMEOUT)
    try:
        got = await down
    finally:
        if timer is not None:
            timer.cancel()
    if got is TIMEOUT:
        cell.drop_monitor(down)
        raise Exit("timeout")
    if not request.accepted:
        raise Exit(got if is_atom(got, "noproc") else (lost(cell, got), site))
    if got is not reason and got != reason:
        raise Exit(got)


# ---- starting


def start_actor(
    actor: Any,
    args: tuple[Any, ...],
    *,
    link: bool,
    name: Any = None,
    timeout: float | None = None,
    kwargs: dict[str, Any] | None = None,
    watched: list[Ref] | None = None,
) -> Awaitable[Pid | None]:
    """`gen:start/6`: spawns the process; await it until its `init` has returned. See `GenServer.start_link`.

    If `watched` is a list, a monitor of the process by the caller is appended to it.
    """
    if timeout is not None:
        check_timeout(timeout)
    if name is not None:
        if (
            name == "undefined"
            or not isinstance(name, str | tuple)
            or (isinstance(name, tuple) and len(name) != 3 and name[:1] != ("global",))
        ):
            expected = 'a string, ("via", registry, key) or ("global", name)'
            raise bad_argument("name", expected, name, (str, tuple))
        taken = resolve(name)
        if taken is not None:
            raise StartError(("already_started", taken.pid))
    parent = scheduler.current
    engine = current_engine()
    linked = link and parent is not None
    cell = engine.spawn_actor(actor, parent if link else None, linked)
    if actor.max_mailbox:
        cell.own_relations().overload = actor.max_mailbox
    if watched is not None:
        assert parent is not None
        watched.append(parent.monitor(cell))
    execution = cell.own_execution()
    execution.watcher = started = StartReply(cell, parent if linked else None)
    init = partial(actor._init, *args, **(kwargs or {})) if args or kwargs else actor._init
    execution.waiting = (init, name, started)
    return started if timeout is None else acknowledged_within(started, timeout)
