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

The state is the instance. Each callback may be `async def`: the process waits while others run. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from types import CoroutineType, NoneType
from typing import Any, ClassVar, NoReturn

from runtime.core.actor import Process
from runtime.core.control_block import RareState
from runtime.core.durations import check_duration, check_timeout, is_duration
from runtime.core.exits import CallSite, Error, Exit, Unwind, is_shutdown
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import TIMEOUT, current_process
from runtime.core.signals import ExitMessage, NeverRefused, SystemMessage
from runtime.otp.callback import NO_REPLY, Ignore, NoReply, Ok, Raised, Reply, Stop, completed, outcome, run
from runtime.otp.child_spec import SPEC_OPTIONS, ChildSpec, check_options
from runtime.otp.destination import resolve, whereis
from runtime.otp.erlang import demonitor
from runtime.otp.gen import (
    DEFAULT_TIMEOUT,
    Call,
    CallRequest,
    Cast,
    From,
    call,
    cast,
    reply,
    start_actor,
    stop,
)
from runtime.otp.init_ack import StartError, StartReply
from runtime.otp.process_dictionary import ancestors_of
from runtime.otp.send_request import receive_response, send_request, wait_response
from runtime.otp.server_timeout import ServerTimeout, only_system_messages


class GenServer(Process):
    """The behaviour. Subclasses define the callbacks that they need, under OTP's names; each may be `async def`.

    `max_mailbox` bounds the mailbox, in messages: a call to a full one fails at once with "overload", other messages are dropped
    and counted (`Engine.refused`).
    """

    max_mailbox: ClassVar[int | None] = None

    # ---- callbacks

    def init(self, *args: Any) -> Any:
        """Sets the state up. Returns None, `Ok(...)`, `Ignore()` or `Stop(reason)`; an exception fails the start."""

    def handle_call(self, request: Any, from_: From) -> Any:
        """Handles a call: `Reply(value)`, `NoReply()` to reply later, or `Stop(reason, reply)`."""
        return Stop(("bad_call", request))

    def handle_cast(self, request: Any) -> Any:
        """Handles a cast: None, `NoReply(...)` or `Stop(reason)`."""
        return Stop(("bad_cast", request))

    def handle_info(self, message: Any) -> Any:
        """Handles any other message, also `"timeout"` and `ExitMessage`: None, `NoReply(...)` or `Stop(reason)`."""

    def handle_continue(self, continue_: Any) -> Any:
        """Handles the `continue_` of a callback, before the next message: None, `NoReply(...)` or `Stop(reason)`."""
        return Stop(("bad_continue", continue_))

    def terminate(self, reason: Any) -> Any:
        """Cleans up: after Stop, an exception, or the parent's exit if the server traps exits. The result is ignored."""

    def format_status(self) -> Any:
        """The state as shown by `sys:get_status` and crash reports; override it to hide secrets."""
        return self._get_state()

    # ---- starting

    @classmethod
    async def start_link(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """`gen_server:start_link/4`: starts a process linked to the caller; returns when its `init(*args)` has returned.

        Returns the pid, or None for `ignore`. `name` registers it: a string, `("via", registry, key)` or `("global", name)`.
        Raises StartError: `("already_started", pid)`, the reason of `init`, or `"timeout"` after `timeout` ms, which kills it.
        """
        return await start_actor(cls(), args, link=True, name=name, timeout=timeout)

    @classmethod
    async def start(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """`gen_server:start/4`: as start_link, without the link."""
        return await start_actor(cls(), args, link=False, name=name, timeout=timeout)

    @classmethod
    async def start_configured(cls, name: str, arguments: Mapping[str, Any]) -> Pid | None:
        """As start_link, with keyword arguments for `init`: called for a worker in supervisor.toml."""
        return await start_actor(cls(), (), link=True, name=name, kwargs=dict(arguments))

    @classmethod
    async def start_monitor(
        cls, *args: Any, name: Any = None, timeout: float | None = None
    ) -> tuple[Pid, Ref] | None:
        """`gen_server:start_monitor/4`: as start, monitored by the caller: `(pid, ref)`, or None for `ignore`.

        A failed start leaves no monitor behind.
        """
        watched: list[Ref] = []
        try:
            pid = await start_actor(cls(), args, link=False, name=name, timeout=timeout, watched=watched)
        except BaseException:
            for ref in watched:
                demonitor(ref, flush=True)
            raise
        if pid is None:
            demonitor(watched[0], flush=True)
            return None
        return pid, watched[0]

    @classmethod
    def child_spec(cls, *args: Any, id: Any = None, **options: Any) -> ChildSpec:
        """Elixir's `child_spec/1`: the child spec of a server with these arguments.

        Options are those of ChildSpec and those of `start_link`, such as `name`. Raises TypeError for an unknown option.
        """
        starting = {option: options.pop(option) for option in tuple(options) if option not in SPEC_OPTIONS}
        if starting:
            check_options(f"{cls.__name__}.child_spec", cls.start_link, starting)
        start = partial(cls.start_link, **starting) if starting else cls.start_link
        options.setdefault("type", getattr(cls, "kind", "worker"))
        return ChildSpec(cls if id is None else id, (start, args), modules=(cls,), **options)

    def code_change(self, old_module: type, extra: Any) -> Any:
        """`Module:code_change/3`, called by `sys.change_code`: converts the state; the instance already has the new class.

        An exception refuses the change.
        """

    # ---- the loop

    def _init(self, *args: Any, **kwargs: Any) -> Any:
        return self.init(*args, **kwargs)

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        execution = self._myRef.execution
        if execution.waiting is None:  # created by Thespian's createActor, which does not wait for init
            return self._initialise(self._init, None, None)
        init, name, started = execution.waiting
        execution.waiting = None
        return self._initialise(init, name, started)

    def _initialise(
        self, init: Callable[[], Any], name: Any, started: StartReply | None
    ) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        if name is not None:
            taken = resolve(name)
            if taken is not None:
                if started is not None:
                    started.resolve(None, StartError(("already_started", taken.pid)))
                raise Exit("normal")
            if isinstance(name, tuple) and name[0] == "global":
                return self._await_init(self._register_globally(name, init), None, started)
            if isinstance(name, tuple):
                name[1].register_name(name[2], cell)
            else:
                cell.engine.register(name, cell)
        result = run(init)
        if type(result) is CoroutineType:
            return self._await_init(result, name, started)
        return self._initialised(result, name, started)

    async def _register_globally(self, name: tuple[str, str], init: Callable[[], Any]) -> Any:
        """Registers `{global, Name}` on all nodes, then runs init."""
        node = self._myRef.engine.node
        if node is None or node.global_names is None:
            raise Exit("badarg")
        if await node.global_names.register_name(name[1], self._myRef) != "yes":
            taken = resolve(name)
            raise Exit(("already_started", None if taken is None else taken.pid))
        result = init()
        return await result if type(result) is CoroutineType else result

    async def _await_init(self, coro: Awaitable[Any], name: Any, started: StartReply | None) -> None:
        follow = self._initialised(await completed(coro), name, started)
        if follow is not None:
            await follow

    def _initialised(
        self, result: Any, name: Any, started: StartReply | None
    ) -> Coroutine[Any, Any, Any] | None:
        cell = self._myRef
        match result:
            case None | Ok() if result is None or _is_timeout(result.timeout):
                if started is not None:
                    started.resolve(cell)
                    if started.error is not None:
                        started.too_late(("ok", cell))
                if result is None:
                    return None
                return self._options(result)
            case Ignore() | "ignore":  # the latter by throw(ignore)
                self._fail_init(name, started, None, "normal")
            case Stop(reason=reason) | Raised(reason=reason) | ("stop", reason):
                self._fail_init(name, started, StartError(reason), reason)
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
        elif name is not None and cell.relations.name == name:  # unless init has unregistered it
            cell.engine.unregister(name)
        if started is not None:
            started.resolve(None, error)
            if started.error is not None and started.error is not error:
                started.too_late("ignore" if error is None else ("error", error.reason))
        cell.terminate(reason)

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        rare = self._myRef.relations.rare
        if rare is not None and not self._message_taken(rare, message):
            return None
        kind = type(message)
        try:
            if kind is Call:
                result = self.handle_call(message.request, message)
                if type(result) is Reply and result.timeout is None and result.continue_ is None:
                    message.answer(result.value)  # the common case, inlined
                    return None
                if type(result) is NoReply and result.timeout is None and result.continue_ is None:
                    return None
            elif kind is Cast:
                result = self.handle_cast(message.request)
            elif isinstance(message, NeverRefused):
                return self._handle_signal(message)
            else:
                result = self.handle_info(message)
        except BaseException as error:
            result = outcome(error)
        if result is None and kind is not Call:
            return None
        from_: Call | None = message if kind is Call else None  # type: ignore[assignment]
        if type(result) is CoroutineType:
            return self._await(result, from_)
        return self._apply(result, from_)

    def _handle_signal(self, message: NeverRefused) -> Coroutine[Any, Any, Any] | None:
        """Handles a message of the runtime itself."""
        info: Any = message
        if isinstance(message, SystemMessage):
            return self._system(message)
        if type(message) is ExitMessage and message.pid is (self._myRef.relations.parent or self._myRef):
            return self._stop(message.reason)
        if type(message) is ServerTimeout:
            if message.stale:
                return None
            info = "timeout"
        result = run(self.handle_info, info)
        return self._await(result, None) if type(result) is CoroutineType else self._apply(result, None)

    async def _await(self, result: Any, from_: Call | None) -> None:
        while True:
            if type(result) is CoroutineType:
                try:  # as `completed`, with a coroutine less
                    result = await result
                except BaseException as error:
                    result = outcome(error)
            if type(result) is not NoReply or result.continue_ is None:
                break
            result, from_ = run(self.handle_continue, result.continue_), None
        follow = self._apply(result, from_)
        if follow is not None:
            await follow

    def _apply(self, result: Any, from_: Call | None) -> Coroutine[Any, Any, Any] | None:
        """Acts on the result of a callback."""
        kind = type(result)
        if kind is NoReply and result.timeout is None and result.continue_ is None:
            return None  # nearly every result of a coroutine
        if kind is Reply and from_ is not None and (result.timeout is None or _is_timeout(result.timeout)):
            from_.answer(result.value)
            return None if result.timeout is None and result.continue_ is None else self._options(result)
        if kind is NoReply and (result.timeout is None or _is_timeout(result.timeout)):
            return self._options(result)
        if kind is NoneType and from_ is None:
            return None
        if kind is Stop:
            if from_ is not None and result.reply is not NO_REPLY:
                return self._stop(result.reason, (from_, result.reply))
            if result.reply is NO_REPLY:
                return self._stop(result.reason)
        if kind is Raised:
            return self._stop(result.reason)
        return self._stop(("bad_return_value", result))

    def _options(self, result: Ok | Reply | NoReply) -> Coroutine[Any, Any, Any] | None:
        # A loop here and in `_await`: a server may continue without end, so a step must not deepen the stack.
        while result.continue_ is not None:
            follow = run(self.handle_continue, result.continue_)
            if type(follow) is CoroutineType:
                return self._await(follow, None)
            if type(follow) is not NoReply or not _is_timeout(follow.timeout):
                return self._apply(follow, None)
            result = follow
        if result.timeout is not None:
            cell = self._myRef
            # A message that is already waiting voids the timeout, unless it is a system message.
            check_duration(result.timeout)
            if only_system_messages(cell):
                marker = ServerTimeout(result.timeout)
                cell.own_rare().timeout = marker
                marker.arm(cell)
        return None

    def _message_taken(self, rare: RareState, message: Any) -> bool:
        """Cancels a pending timeout, traces and counts. False if the message is a stale timeout, to be ignored."""
        if isinstance(message, SystemMessage):
            return True  # neither traced nor the end of a timeout
        if type(message) is ServerTimeout and message.stale:
            return False
        timeout = rare.timeout
        if timeout is not None:
            rare.timeout = None
            if timeout is not message:
                timeout.cancel()
            self._myRef.tidy_rare()
        if rare.debug is not None:
            rare.debug.message_in(self._myRef, message)
        return True

    def _system(self, message: SystemMessage) -> Coroutine[Any, Any, None] | None:
        cell = self._myRef
        follow = message.perform(cell)
        rare = cell.relations.rare
        if rare is not None and rare.timeout is not None:  # as in OTP, the timeout starts again
            rare.timeout.cancel()
            rare.timeout = timeout = ServerTimeout(rare.timeout.ms)
            timeout.arm(cell)
        return follow

    def _cancel_timers(self) -> None:
        rare = self._myRef.relations.rare
        if rare is not None and rare.timeout is not None:
            rare.timeout.cancel()

    def _stop(self, reason: Any, answer: tuple[Call, Any] | None = None) -> Coroutine[Any, Any, Any] | None:
        """Runs `terminate` and ends the process; an exception in terminate becomes the reason, a throw does not."""
        result = run(self.terminate, reason)
        if type(result) is CoroutineType:
            return self._await_terminate(result, reason, answer)
        self._end(result, reason, answer)
        return None

    async def _await_terminate(
        self, coro: Awaitable[Any], reason: Any, answer: tuple[Call, Any] | None
    ) -> None:
        self._end(await completed(coro), reason, answer)

    def _end(self, result: Any, reason: Any, answer: tuple[Call, Any] | None) -> None:
        if answer is not None:
            answer[0].answer(answer[1])
        self._myRef.terminate(result.reason if type(result) is Raised else reason)

    # ---- sys

    def _get_state(self) -> Any:
        return dict(vars(self))

    def initial_dictionary(self) -> dict[str, Any]:
        return {"$ancestors": ancestors_of(self._myRef)}

    def _status(self) -> dict[str, Any]:
        """What `sys.get_status` shows in addition to the state."""
        return {}

    def _crash_context(self, source: Any) -> dict[str, Any]:
        context = {"state": self.format_status()}
        return {**context, "client": source.pid} if isinstance(source, Call) else context

    def _replace_state(self, change: Callable[[Any], Any]) -> Any:
        state = change(self._get_state())
        vars(self).clear()
        vars(self).update(state)
        return state


def _is_timeout(ms: Any) -> bool:
    """True unless OTP calls the value bad. Infinity and NaN, which are no Erlang terms, pass: they end the server with badarg."""
    return ms is None or is_duration(ms) or isinstance(ms, float)


def enter_loop(server: GenServer, timeout: float | None = None) -> NoReturn:
    """`gen_server:enter_loop/3,4`: turns the calling plain process into `server`, without calling `init`. Never returns.

    `timeout` in ms, as of a callback. Raises Error("badarg") in a process that already is a behaviour.
    """
    cell = current_process()
    if isinstance(cell.actor, GenServer):
        raise Error("badarg")
    check_timeout(timeout)
    cell.become(server)
    server._options(NoReply(timeout))  # pyright: ignore[reportPrivateUsage] - of this module
    raise Unwind


__all__ = [
    "DEFAULT_TIMEOUT", "TIMEOUT", "Call", "CallRequest", "CallSite", "Cast", "Exit", "From", "GenServer", "Ignore", "NoReply",
    "Ok", "Pid", "Ref", "Reply", "StartError", "Stop", "call", "cast", "enter_loop", "is_shutdown", "receive_response",
    "reply", "send_request", "start_actor", "stop", "wait_response", "whereis",
]  # fmt: skip
