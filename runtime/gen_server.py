"""OTP's `gen_server`: a process that serves calls and casts, one at a time.

    class Counter(GenServer):
        def init(self, start: int) -> None:
            self.n = start

        def handle_call(self, request, from_):
            match request:
                case Next():
                    self.n += 1
                    return Reply(self.n)

    pid = await Counter.start_link(0, name="counter")
    await call("counter", Next())

The state is the instance. Each callback may be `async def`: the process waits, the others run. Times are
milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutine
from types import NoneType
from typing import Any, ClassVar, Final

from runtime import scheduling
from runtime.engine import Timer, current_engine
from runtime.exits import CallSite, Exit, Throw, Unwind, is_atom, is_shutdown, reason_of
from runtime.pid import Pid, Ref
from runtime.process import Cell, Process
from runtime.scheduling import DEAD, TIMEOUT
from runtime.scheduling import Reply as _Reply
from runtime.signals import DownReply, ExitMessage, SystemMessage

Dest = Any  # a Pid, a registered name, or ("via", registry, key)

DEFAULT_TIMEOUT: Final = 5000  # ms, gen_server:call/2


# ---- what callbacks return


@dataclass(slots=True)
class Ok:
    """`{ok, State}` from init; `timeout` in ms, `continue_` is handed to handle_continue."""

    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


@dataclass(slots=True)
class Reply:
    """`{reply, Value, State}` from handle_call."""

    value: Any = None
    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


@dataclass(slots=True)
class NoReply:
    """`{noreply, State}`: from handle_call the answer comes later by `reply(from_, value)`."""

    timeout: float | None = None
    continue_: Any = None
    hibernate: bool = False


_NO_REPLY: Final = object()


@dataclass(slots=True)
class Stop:
    """`{stop, Reason, State}`, or `{stop, Reason, Reply, State}` if a `reply` is given."""

    reason: Any = "normal"
    reply: Any = _NO_REPLY


@dataclass(slots=True)
class Ignore:
    """`ignore` from init: the process ends with `normal`, start returns None."""


class StartError(Exception):
    """`{error, Reason}` of a start function."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


# ---- calls


class Call(_Reply):
    """One call: the request in the server's mailbox, the `From` of handle_call, and what the caller awaits.

    It is also the caller's monitor of the server. While it is pending it lies in `target.monitored_by`.
    """

    __slots__ = ("alias", "caller", "request", "site", "target", "timer")

    def __init__(self, target: Cell, request: Any, site: CallSite | tuple[Any, ...], alias: bool) -> None:
        self.done = False
        self.value = None
        self.error = None
        self.waiter = None
        self.target = target
        self.request = request
        self.site = site
        self.alias = alias
        self.caller = scheduling.current
        self.timer: Timer | None = None

    def __repr__(self) -> str:
        return f"Call({self.request!r})"

    @property
    def pid(self) -> Pid | None:
        """Who called (the pid in Erlang's `From`); None for code outside of processes."""
        return None if self.caller is None else self.caller.pid

    def answer(self, value: Any) -> None:
        """`gen_server:reply/2`. After the first one, or after the call timed out, it is late and dropped.

        A call without timeout uses no alias in OTP: a second reply to it arrives as a stray message `(from,
        value)`.
        """
        if self.done:
            if not self.alias and self.caller is not None:
                self.caller.deliver((self, value))
            return
        self._settle()
        extra = self.target.extra
        if extra is not None and "debug" in extra:
            extra["debug"].said(self.target, value, self.caller)
        self.resolve(value)

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The server ended before it answered."""
        if not self.done:
            self._settle()
            self.resolve(None, Exit((reason, self._call_site())))

    def expire(self) -> None:
        """The caller's patience ended before the server answered."""
        if not self.done:
            self._settle()
            self.resolve(None, Exit(("timeout", self._call_site())))

    def abandon(self) -> None:
        if not self.done:
            self.done = True
            self._settle()

    def _settle(self) -> None:
        monitored_by = self.target.monitored_by
        if monitored_by is not None:
            monitored_by.pop(self, None)
        timer = self.timer
        if timer is not None:
            self.timer = None
            timer.cancel()

    def _call_site(self) -> CallSite:
        site = self.site
        return site if isinstance(site, CallSite) else CallSite("gen_server", "call", site)


From = Call


class Failed(_Reply):
    """A call that failed before it was sent; raises where it is awaited."""

    __slots__ = ()

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.resolve(None, error)


class Cast:
    """`{'$gen_cast', Request}`."""

    __slots__ = ("request",)

    def __init__(self, request: Any) -> None:
        self.request = request

    def __repr__(self) -> str:
        return f"Cast({self.request!r})"


def resolve(dest: Dest) -> Cell | None:
    """The control block behind a pid, a registered name or `("via", registry, key)`; None if there is none."""
    if isinstance(dest, Pid):
        return dest.cell
    if isinstance(dest, tuple) and len(dest) == 3 and dest[0] == "via":
        pid = dest[1].whereis_name(dest[2])
        return None if pid is None else pid.cell
    name: Any = dest
    return current_engine().names.get(name)


def call(dest: Dest, request: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Awaitable[Any]:
    """`gen_server:call/3`: await it for the reply. `timeout` in ms, None waits for ever.

    Sent when called, not when awaited. Raises, where awaited, `Exit((reason, CallSite))`: `noproc` if there
    is no such process, `timeout`, `calling_self`, `overload` if its bounded mailbox is full, or the reason it
    died of meanwhile.
    """
    cell = dest.cell if type(dest) is Pid else resolve(dest)
    site = (dest, request, timeout)
    if cell is None or cell.mode == DEAD:
        # Without patience the news of its death comes too late; that a name is free is known at once.
        reason = "timeout" if cell is not None and timeout is not None and timeout <= 0 else "noproc"
        return Failed(Exit((reason, CallSite("gen_server", "call", site))))
    if cell is scheduling.current:
        return Failed(Exit(("calling_self", CallSite("gen_server", "call", site))))
    if cell.overload and cell.full():
        cell.engine.refused += 1
        return Failed(Exit(("overload", CallSite("gen_server", "call", site))))
    pending = Call(cell, request, site, timeout is not None)
    monitored_by = cell.monitored_by
    if monitored_by is None:
        cell.monitored_by = {pending: None}
    else:
        monitored_by[pending] = None
    if timeout is not None:
        if timeout <= 0:  # sent, but nobody waits for the answer
            cell.deliver(pending)
            pending.expire()
            return pending
        pending.timer = cell.engine.call_later(timeout / 1000, pending.expire)
    cell.deliver(pending)
    return pending


def cast(dest: Dest, request: Any) -> None:
    """`gen_server:cast/2`: fire and forget; a dead or missing server swallows it."""
    cell = resolve(dest)
    if cell is not None:
        cell.deliver(Cast(request))


def reply(from_: From, value: Any) -> None:
    """`gen_server:reply/2`: answers a call whose handle_call returned `NoReply`."""
    from_.answer(value)


def send_request(dest: Dest, request: Any) -> Awaitable[Any]:
    """`gen_server:send_request/2`: the request is sent, `receive_response` awaits the answer."""
    return call(dest, request, None)


async def receive_response(request_id: Awaitable[Any], timeout: float | None = None) -> Any:
    """`gen_server:receive_response/2`: `("reply", value)` or `("error", reason)`; TIMEOUT after `timeout` ms,
    the request is then void.
    """
    assert isinstance(request_id, _Reply)
    timer = None
    if timeout is not None and not request_id.done:
        timer = current_engine().call_later(timeout / 1000, _expire_response, request_id)
    try:
        value = await request_id
    except Exit as exc:
        reason = exc.reason
        return ("error", reason[0] if isinstance(reason, tuple) and len(reason) == 2 else reason)
    finally:
        if timer is not None:
            timer.cancel()
    return TIMEOUT if value is TIMEOUT else ("reply", value)


def _expire_response(request_id: _Reply) -> None:
    if isinstance(request_id, Call):
        request_id._settle()
        request_id.alias = True
    request_id.resolve(TIMEOUT)


class _Terminate(SystemMessage):
    __slots__ = ("heard", "reason")

    def __init__(self, reason: Any) -> None:
        self.reason = reason
        self.heard = False

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        self.heard = True
        return cell.actor._stop(self.reason)


async def stop(dest: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """`gen_server:stop/3`: the server runs `terminate` behind the mail it has, and ends with `reason`.

    Raises Exit("noproc") if there is none, Exit(other) if it ended with another reason, Exit((other,
    CallSite)) if it ended before it came to this request, Exit("timeout") after `timeout` ms: it still ends
    when it comes to it.
    """
    cell = resolve(dest)
    if cell is None or cell.mode == DEAD:
        raise Exit("noproc" if cell is None or timeout is None or timeout > 0 else "timeout")
    site = CallSite("sys", "terminate", (cell.pid, reason, "infinity" if timeout is None else timeout))
    if cell is scheduling.current:
        raise Exit(("calling_self", site))
    request = _Terminate(reason)
    down = DownReply(cell)
    cell.deliver(request)
    if timeout is not None and timeout <= 0:
        down.abandon()
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
    if not request.heard:
        raise Exit(got if is_atom(got, "noproc") else (got, site))
    if got is not reason and got != reason:
        raise Exit(got)


# ---- starting


class StartReply(DownReply):
    """`proc_lib:start_link`'s wait for `init_ack`. If the process dies before, its reason is the error."""

    __slots__ = ("starter",)

    def __init__(self, target: Cell, starter: Cell | None) -> None:
        super().__init__(target)
        self.starter = starter

    def take_exit(self, pid: Pid, reason: Any) -> bool:
        # As sync_start_link does: any EXIT message of the process is the answer, also one it sent by exit/2.
        if self.done or self.starter is None or pid is not self.target.pid:
            return False
        self.target.drop_monitor(self)
        self.resolve(None, StartError(reason))
        return True

    def fire(self, pid: Pid | None, reason: Any) -> None:
        mailbox = None if self.starter is None else self.starter.mailbox
        for index, message in enumerate(mailbox or ()):
            if isinstance(message, ExitMessage) and message.pid is pid:
                assert mailbox is not None
                del mailbox[index]
                break
        self.resolve(None, StartError(reason))

    def acknowledge(self, value: Any, error: StartError | None = None) -> None:
        """`proc_lib:init_ack/2`."""
        self.target.drop_monitor(self)
        self.resolve(value, error)


async def start_actor(
    actor: GenServer,
    args: tuple[Any, ...],
    *,
    link: bool,
    name: Any = None,
    timeout: float | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Pid | None:
    """`gen:start/6`: spawns the process and waits until its init is done. See `GenServer.start_link`."""
    if name is not None:
        taken = resolve(name)
        if taken is not None:
            raise StartError(("already_started", taken.pid))
    parent = scheduling.current
    engine = current_engine()
    linked = link and parent is not None
    cell = engine.spawn_actor(actor, parent, linked)
    cell.overload = actor.max_mailbox or 0
    if not link:
        cell.parent = None
    started = StartReply(cell, parent if linked else None)
    cell.extra = {"init": (partial(actor._init, *args, **(kwargs or {})), name, started)}
    if timeout is None:
        return await started
    timer = engine.call_later(timeout / 1000, _start_timeout, started)
    try:
        return await started
    finally:
        timer.cancel()


def _start_timeout(started: StartReply) -> None:
    if started.done:
        return
    cell = started.target
    if started.starter is not None:
        started.starter.unlink(cell.pid)
    cell.drop_monitor(started)
    started.resolve(None, StartError("timeout"))
    cell.exit_signal(cell.pid, "kill", False)


class Raised:
    """A callback raised: what its exception means for the server."""

    __slots__ = ("reason",)

    def __init__(self, exc: BaseException) -> None:
        self.reason = reason_of(exc)


def outcome(exc: BaseException) -> Any:
    # throw(X) in a callback is the return value X.
    return exc.value if isinstance(exc, Throw) else Raised(exc)


class GenServer(Process):
    """The behaviour. Subclasses define the callbacks they need, with OTP's names; each may be `async def`.

    `max_mailbox` bounds the mailbox: a call to a full one fails at once with `overload`, other messages are
    dropped and counted.
    """

    max_mailbox: ClassVar[int | None] = None

    # ---- callbacks

    def init(self, *args: Any) -> Any:
        """Sets the state up. Returns None or `Ok(...)`, `Ignore()`, `Stop(reason)`; raising is a failed
        start.
        """

    def handle_call(self, request: Any, from_: From) -> Any:
        """Answers a call: `Reply(value)`, `NoReply()` to answer later, `Stop(reason, reply)`."""
        return Stop(("bad_call", request))

    def handle_cast(self, request: Any) -> Any:
        """Takes a cast: None, `NoReply(...)` or `Stop(reason)`."""
        return Stop(("bad_cast", request))

    def handle_info(self, message: Any) -> Any:
        """Takes any other message, `"timeout"` and `ExitMessage`s included: None, `NoReply(...)` or
        `Stop(reason)`.
        """

    def handle_continue(self, continue_: Any) -> Any:
        """Goes on with what a callback put into `continue_`, before any mail: None, `NoReply(...)` or
        `Stop(reason)`.
        """
        return Stop(("bad_continue", continue_))

    def terminate(self, reason: Any) -> Any:
        """Last words: after Stop, an exception, or the parent's exit if the server traps exits. The result is
        ignored.
        """

    def format_status(self) -> Any:
        """The state as `sys:get_status` and crash reports show it; override to hide secrets."""
        return self._get_state()

    # ---- starting

    @classmethod
    async def start_link(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """`gen_server:start_link/4`: runs `init(*args)` in a new process linked to the caller; returns when
        init has.

        Returns the pid, None for `ignore`. `name` registers it (a string, or `("via", registry, key)`).
        Raises StartError: `("already_started", pid)`, init's reason, or `"timeout"` after `timeout` ms (it is
        then killed).
        """
        return await start_actor(cls(), args, link=True, name=name, timeout=timeout)

    @classmethod
    async def start(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """`gen_server:start/4`: as start_link, without the link."""
        return await start_actor(cls(), args, link=False, name=name, timeout=timeout)

    # ---- the engine's side

    def _init(self, *args: Any, **kwargs: Any) -> Any:
        return self.init(*args, **kwargs)

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        extra = cell.extra
        if extra is None or "init" not in extra:  # made by Thespian's createActor: nobody waits for init
            return self._initialise(self._init, None, None)
        init, name, started = extra.pop("init")
        if not extra:
            cell.extra = None
        return self._initialise(init, name, started)

    def _initialise(
        self, init: Callable[[], Any], name: Any, started: StartReply | None
    ) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        if name is not None:
            taken = resolve(name)
            if taken is not None:
                if started is not None:
                    started.acknowledge(None, StartError(("already_started", taken.pid)))
                raise Exit("normal")
            if isinstance(name, tuple):
                name[1].register_name(name[2], cell.pid)
            else:
                cell.engine.register(name, cell)
        try:
            result = init()
        except Unwind:
            raise
        except BaseException as exc:
            result = outcome(exc)
        if iscoroutine(result):
            return self._await_init(result, name, started)
        return self._initialised(result, name, started)

    async def _await_init(self, coro: Awaitable[Any], name: Any, started: StartReply | None) -> None:
        try:
            result = await coro
        except (Unwind, GeneratorExit):
            raise
        except BaseException as exc:
            if self._myRef.mode == DEAD:  # killed meanwhile, its code is only cleaning up
                raise
            result = outcome(exc)
        follow = self._initialised(result, name, started)
        if follow is not None:
            await follow

    def _initialised(
        self, result: Any, name: Any, started: StartReply | None
    ) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        match result:
            case None | Ok():
                if started is not None:
                    started.acknowledge(cell.pid)
                if result is None:
                    return None
                return self._options(result)
            case Ignore():
                self._fail_init(name, started, None, "normal")
            case Stop():
                self._fail_init(name, started, StartError(result.reason), result.reason)
            case Raised():
                self._fail_init(name, started, StartError(result.reason), result.reason)
            case _:
                reason = ("bad_return_value", result)
                self._fail_init(name, started, StartError(reason), reason)
        return None

    def _fail_init(
        self, name: Any, started: StartReply | None, error: StartError | None, reason: Any
    ) -> None:
        cell = self._myRef
        if isinstance(name, tuple):
            name[1].unregister_name(name[2])
        elif name is not None:
            cell.engine.unregister(name)
        if started is not None:
            started.acknowledge(None, error)
        cell.terminate(reason)

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        if cell.extra is not None and not self._hear(cell.extra, message):
            return None
        try:
            if type(message) is Call:
                result = self.handle_call(message.request, message)
                if type(result) is Reply:  # the common case, without the detour
                    message.answer(result.value)
                    if result.timeout is None and result.continue_ is None:
                        return None
                    return self._options(result)
                if iscoroutine(result):
                    return self._await(result, message)
                return self._apply(result, message)
            if type(message) is Cast:
                result = self.handle_cast(message.request)
            elif isinstance(message, SystemMessage):
                return self._system(message)
            elif type(message) is ExitMessage and message.pid is (cell.parent or cell.pid):
                return self._stop(message.reason)
            elif type(message) is _ServerTimeout:
                if message.stale:
                    return None
                result = self.handle_info("timeout")
            else:
                result = self.handle_info(message)
        except Unwind:
            raise
        except BaseException as exc:
            result = outcome(exc)
        if result is None:
            return None
        if iscoroutine(result):
            return self._await(result, None)
        return self._apply(result, message if type(message) is Call else None)

    async def _await(self, coro: Awaitable[Any], from_: Call | None) -> None:
        try:
            result = await coro
        except (Unwind, GeneratorExit):
            raise
        except BaseException as exc:
            if self._myRef.mode == DEAD:  # killed meanwhile, its code is only cleaning up
                raise
            result = outcome(exc)
        follow = self._apply(result, from_)
        if follow is not None:
            await follow

    def _apply(self, result: Any, from_: Call | None) -> Coroutine[Any, Any, Any] | None:
        """Does what a callback's return value says."""
        kind = type(result)
        if kind is Reply and from_ is not None:
            from_.answer(result.value)
            return self._options(result)
        if kind is NoReply:
            return self._options(result)
        if kind is NoneType and from_ is None:
            return None
        if kind is Stop:
            if from_ is not None and result.reply is not _NO_REPLY:
                return self._stop(result.reason, (from_, result.reply))
            if result.reply is _NO_REPLY:
                return self._stop(result.reason)
        if kind is Raised:
            return self._stop(result.reason)
        return self._stop(("bad_return_value", result))

    def _options(self, result: Ok | Reply | NoReply) -> Coroutine[Any, Any, Any] | None:
        if result.continue_ is not None:
            return self._continue(result.continue_)
        if result.timeout is not None:
            cell = self._myRef
            # A message that waits already makes the timeout void.
            if not cell.mailbox:
                marker = _ServerTimeout(result.timeout)
                if cell.extra is None:
                    cell.extra = {}
                cell.extra["timeout"] = marker
                marker.arm(cell)
        return None

    def _continue(self, argument: Any) -> Coroutine[Any, Any, Any] | None:
        try:
            result = self.handle_continue(argument)
        except Unwind:
            raise
        except BaseException as exc:
            result = outcome(exc)
        if iscoroutine(result):
            return self._await(result, None)
        return self._apply(result, None)

    def _hear(self, extra: dict[str, Any], message: Any) -> bool:
        """Something came: a pending timeout is void, a trace is told, statistics count. False if it is
        nothing at all.
        """
        if isinstance(message, SystemMessage):
            return True  # sys stands beside the protocol: it is neither traced nor does it end a timeout
        if type(message) is _ServerTimeout and message.stale:
            return False
        marker = extra.get("timeout")
        if marker is not None:
            del extra["timeout"]
            if marker is not message:
                marker.cancel()
            if not extra:
                self._myRef.extra = None
        debug = extra.get("debug")
        if debug is not None:
            debug.heard(self._myRef, message)
        return True

    def _system(self, message: SystemMessage) -> Coroutine[Any, Any, None] | None:
        cell = self._myRef
        follow = message.perform(cell)
        if cell.extra is not None:
            marker = cell.extra.get("timeout")
            if marker is not None:  # as in OTP, the time starts anew
                marker.cancel()
                cell.extra["timeout"] = marker = _ServerTimeout(marker.ms)
                marker.arm(cell)
        return follow

    def _stop(self, reason: Any, answer: tuple[Call, Any] | None = None) -> Coroutine[Any, Any, Any] | None:
        """`terminate`, then the end. terminate may change the reason by failing; a throw in it is harmless."""
        try:
            result = self.terminate(reason)
        except Unwind:
            raise
        except BaseException as exc:
            result = outcome(exc)
        if iscoroutine(result):
            return self._await_terminate(result, reason, answer)
        self._end(result, reason, answer)
        return None

    async def _await_terminate(
        self, coro: Awaitable[Any], reason: Any, answer: tuple[Call, Any] | None
    ) -> None:
        try:
            result = await coro
        except (Unwind, GeneratorExit):
            raise
        except BaseException as exc:
            if self._myRef.mode == DEAD:  # killed meanwhile, its code is only cleaning up
                raise
            result = outcome(exc)
        self._end(result, reason, answer)

    def _end(self, result: Any, reason: Any, answer: tuple[Call, Any] | None) -> None:
        if answer is not None:
            answer[0].answer(answer[1])
        self._myRef.terminate(result.reason if type(result) is Raised else reason)

    # ---- sys

    def _get_state(self) -> Any:
        return {key: value for key, value in vars(self).items() if key != "_myRef"}

    def _replace_state(self, change: Callable[[Any], Any]) -> Any:
        state = change(self._get_state())
        ref = self._myRef
        vars(self).clear()
        self._myRef = ref
        vars(self).update(state)
        return state


class _ServerTimeout:
    """The timeout of a callback's return value; void as soon as any message comes."""

    __slots__ = ("ms", "stale", "timer")

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.stale = False
        self.timer: Timer | None = None

    def arm(self, cell: Cell) -> None:
        """Starts the clock; with 0 the timeout is the next thing the server sees."""
        if self.ms == 0:
            cell.deliver(self)
        else:
            self.timer = cell.engine.call_later(self.ms / 1000, self._fire, cell)

    def _fire(self, cell: Cell) -> None:
        if not cell.mailbox:
            cell.deliver(self)

    def cancel(self) -> None:
        self.stale = True
        if self.timer is not None:
            self.timer.cancel()


__all__ = [
    "DEFAULT_TIMEOUT", "TIMEOUT", "Call", "CallSite", "Cast", "Exit", "From", "GenServer", "Ignore", "NoReply", "Ok",
    "Pid", "Ref", "Reply", "StartError", "Stop", "call", "cast", "is_shutdown", "receive_response", "reply",
    "send_request", "start_actor", "stop",
]  # fmt: skip
