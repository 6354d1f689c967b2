"""OTP's `gen_statem`: a process that is a state machine.

    class Door(StateMachine):
        def init(self, code):
            self.code = code
            return InitialState("locked")

        def locked(self, event, content):
            match event, content:
                case "cast", Code(code) if code == self.code:
                    return NextState("open", StateTimeout(10_000))

        def open(self, event, content):
            match event:
                case "state_timeout":
                    return NextState("locked")

The data is the instance, the state is `self.state`. With `callback_mode = "state_functions"` the method named like the state
handles its events; with `"handle_event_function"` the method `handle_event(event, content, state)` handles all events, and a
state may be any value. Callbacks may be `async def`: the machine waits while others run.

An event is `"cast"`, `"info"`, `"internal"`, `"enter"`, `"timeout"`, `"state_timeout"`, `("timeout", name)` or
`("call", from_)`. A callback that raises ends the machine, after `terminate`. Times are milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutine
from typing import Any, ClassVar, Final, Literal, NoReturn, TypeVar, overload

from runtime.core.exits import CallSite, Error, Exit, Stack, Throw, Unwind, reason_of
from runtime.core.scheduling import current_process
from runtime.core.signals import ExitMessage, SystemMessage
from runtime.otp import gen_server
from runtime.otp.callback import Ignore, Raised, Stop, completed, own, run
from runtime.otp.destination import Dest
from runtime.otp.exact_key import exact, same
from runtime.otp.gen import CallRequest, Cast, Failed
from runtime.otp.gen_server import Call, From, GenServer, cast, stop
from runtime.otp.init_ack import StartError, StartReply
from runtime.otp.loop_state import Expired, LoopState
from runtime.otp.transition import (
    Action,
    CallbackAction,
    CancelTimeout,
    ChangeCallbackModule,
    Event,
    EventTimeout,
    GenericTimeout,
    Hibernate,
    InitialState,
    KeepState,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    ReplyAction,
    StateTimeout,
    StopAndReply,
    UpdateTimeout,
    is_valid,
)

R = TypeVar("R")

_EVENTS_AT_ONCE: Final = 256  # handled before other processes get a turn


class StateMachine(GenServer):
    """The behaviour. Set `callback_mode` and `state_enter`, define `init` and the states' functions or `handle_event`.

    With `state_enter` the callback is also called with event `"enter"`, and the old state as content, at the start and at each
    change of state. Such a call may set timeouts and reply, but not change the state, postpone or insert events. Start it
    with `start_link` or `start` (`gen_statem:start_link/4`), use it by this module's `call` and `cast`.
    """

    callback_mode: ClassVar[Literal["state_functions", "handle_event_function"]] = "state_functions"
    state_enter: ClassVar[bool] = False
    _machine: LoopState | None = None

    # ---- callbacks

    def init(self, *args: Any) -> Any:
        """Sets the data up and returns `InitialState(state, *actions)`, `Ignore()` or `Stop(reason)`."""
        raise Error("undef")

    def handle_event(self, event: Event, content: Any, state: Any) -> Any:
        """Handles all events in callback mode `"handle_event_function"`.

        Returns NextState, KeepState, RepeatState, Stop, StopAndReply or None.
        """
        raise Error("undef")

    @property
    def state(self) -> Any:
        """The current state; None before init has returned."""
        return None if self._machine is None else self._machine.state

    # ---- the start

    def _initialised(
        self, result: Any, name: Any, started: StartReply | None
    ) -> Coroutine[Any, Any, Any] | None:
        match result:
            case InitialState():
                self._machine = LoopState(result.state)
                if started is not None:
                    started.resolve(self._myRef)
                    if started.error is not None:
                        started.too_late(("ok", self._myRef))
                return self._loop(None, result)
            case Raised(reason=(error, Stack() as stack)):
                # In gen_statem the starter does not get the stack, but links and the report do.
                self._fail_init(name, started, StartError(error), (error, stack))
                return None
            case Stop() | Ignore() | "ignore" | ("stop", _) | Raised():
                pass
            case _:
                result = Stop(("bad_return_from_init", result))
        return super()._initialised(result, name, started)

    # ---- events

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        cell, machine = self._myRef, self._machine
        assert machine is not None
        if cell.relations.rare is not None:
            self._message_taken(cell.relations.rare, message)
        if type(message) is Call:
            return self._loop((("call", message), message.request))
        if type(message) is Cast:
            return self._loop(("cast", message.request))
        if type(message) is Expired:
            if machine.timers.get(exact(message.event)) is not message:
                return None
            del machine.timers[exact(message.event)]
            return self._loop((message.event, message.content))
        if isinstance(message, SystemMessage):
            return self._system(message)
        if type(message) is ExitMessage and message.pid is (cell.relations.parent or cell):
            return self._stop(message.reason)
        return self._loop(("info", message))

    async def _loop(self, event: tuple[Event, Any] | None, result: Any = None) -> None:
        """Handles an event (at the start None) and all that follow from it, until the next has to come as a message."""
        try:
            await self._handle_events(event, result)
        except BaseException as error:
            reason = reason_of(own(error))
            # gen_statem calls terminate without the stack.
            why = reason if isinstance(error, Exit) else reason[0]
        else:
            return
        last = run(self.terminate, why)
        self._end(await completed(last) if iscoroutine(last) else last, reason, None)

    async def _handle_events(self, event: tuple[Event, Any] | None, result: Any) -> None:
        cell, machine = self._myRef, self._machine
        assert machine is not None
        handled = 0
        if event is None:
            await self._transition(None, result)
            event = machine.next()
        while event is not None:
            machine.cancel("timeout")  # any event cancels the event timeout
            result = await self._call_back(*event)
            await self._transition(event, result)
            event = machine.next()
            handled += 1
            if cell.is_ending:
                return  # by an exit signal
            if handled % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _call_back(self, event: Event, content: Any) -> Any:
        machine = self._machine
        assert machine is not None
        state = machine.state
        try:
            if self.callback_mode == "handle_event_function":
                result = self.handle_event(event, content, state)
            else:
                function = getattr(self, state, None) if isinstance(state, str) and state[:1] != "_" else None
                if function is None:
                    raise Error(("undef", (type(self).__name__, state)))
                result = function(event, content)
            return await result if iscoroutine(result) else result
        except Throw as thrown:
            return thrown.value

    async def _transition(self, event: tuple[Event, Any] | None, result: Any) -> None:
        """Acts on a callback's result, in gen_statem's order: replies, enter call, postponing, new state, timeouts."""
        machine = self._machine
        assert machine is not None
        machine.postpone = False
        old = machine.state
        if isinstance(result, NextState):
            machine.state = result.state  # even if an action fails, `terminate` sees the new state
        match result:
            case None:
                pass
            case InitialState() | KeepState() | RepeatState() | NextState():
                self._act(result.actions)
            case Stop(reason=reason):
                raise Exit(reason)
            case StopAndReply(reason=reason, replies=replies):
                self._reply_all(replies)
                raise Exit(reason)
            case _:
                raise Error(("bad_return_from_state_function", result))
        changed = machine.state is not old and not same(machine.state, old)
        if self.state_enter and (changed or isinstance(result, InitialState | RepeatState)):
            await self._enter(old)
        if machine.postpone and event is not None:
            machine.postponed.append(event)
        if changed:
            machine.change()
        machine.queue.extendleft(reversed(machine.next_events))
        machine.next_events = []
        machine.start(self._myRef)

    async def _enter(self, old: Any) -> None:
        """Makes the state enter call, again while it returns RepeatState."""
        machine = self._machine
        assert machine is not None
        while True:
            try:
                result = await self._call_back("enter", old)
            except Exception:
                machine.state = old  # as in gen_statem: the state was not entered
                raise
            match result:
                case None:
                    return
                case KeepState() | RepeatState():
                    self._act(result.actions, entering=True)
                case NextState() if same(result.state, machine.state):
                    self._act(result.actions, entering=True)
                case Stop(reason=reason):
                    raise Exit(reason)
                case StopAndReply(reason=reason, replies=replies):
                    self._reply_all(replies)
                    raise Exit(reason)
                case NextState():
                    raise Error(("bad_state_enter_return_from_state_function", result))
                case _:
                    raise Error(("bad_return_from_state_function", result))
            if not isinstance(result, RepeatState):
                return

    def _act(self, actions: tuple[Action, ...], entering: bool = False) -> None:
        machine = self._machine
        assert machine is not None
        for action in actions:
            if entering and isinstance(action, Postpone | NextEvent | CallbackAction):
                raise Error(("bad_state_enter_action_from_state_function", action))
            if not is_valid(action):
                raise Error(("bad_action_from_state_function", action))
            match action:
                case ReplyAction(from_, value):
                    from_.answer(value)
                case EventTimeout() | StateTimeout() | GenericTimeout() | CancelTimeout() | UpdateTimeout():
                    machine.timeouts.append(action)
                case Postpone():
                    machine.postpone = True
                case NextEvent(event, content):
                    machine.next_events.append((event, content))
                case ChangeCallbackModule() | PushCallbackModule() | PopCallbackModule():
                    self._change_module(machine, action)

    def _change_module(self, machine: LoopState, action: CallbackAction) -> None:
        match action:
            case ChangeCallbackModule(module):
                pass
            case PushCallbackModule(module):
                machine.modules.append(type(self))
            case PopCallbackModule():
                if not machine.modules:
                    raise Error(("bad_action_from_state_function", action))
                module = machine.modules.pop()
        if not issubclass(module, StateMachine):
            raise Error("undef")
        instance: Any = self
        instance.__class__ = module

    def _reply_all(self, replies: tuple[Any, ...]) -> None:
        """Sends the replies of a StopAndReply."""
        for action in replies:
            if not isinstance(action, ReplyAction) or not is_valid(action):
                raise Error(("bad_reply_action_from_state_function", action))
            action.from_.answer(action.value)

    # ---- sys

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        for expired in () if self._machine is None else self._machine.timers.values():
            if expired.timer is not None:
                expired.timer.cancel()

    def _get_state(self) -> Any:
        data = super()._get_state()
        data.pop("_machine", None)
        return (self.state, data)

    def _status(self) -> dict[str, Any]:
        machine = self._machine
        if machine is None:
            return {}
        timeouts = [(expired.event, expired.content) for expired in machine.timers.values()]
        return {"timeouts": timeouts, "postponed": list(machine.postponed)}

    def _replace_state(self, change: Callable[[Any], Any]) -> Any:
        machine = self._machine
        assert machine is not None
        state, data = change(self._get_state())
        machine.state = state
        super()._replace_state(lambda _data: {**data, "_machine": machine})
        return (state, data)


@overload
def call(dest: Dest, request: CallRequest[R], timeout: float | None = None) -> Awaitable[R]: ...
@overload
def call(dest: Dest, request: Any, timeout: float | None = None) -> Awaitable[Any]: ...
def call(dest: Dest, request: Any, timeout: float | None = None) -> Awaitable[Any]:
    """`gen_statem:call/2,3`: as `gen_server.call`, but the default `timeout` (ms) is infinity."""
    pending = gen_server.call(dest, request, timeout)
    site = CallSite("gen_statem", "call", (dest, request, timeout))
    if isinstance(pending, Call):
        pending.site = site
        return pending
    assert isinstance(pending, Failed) and isinstance(pending.error, Exit)
    return Failed(Exit((pending.error.reason[0], site)))


def reply(from_: From, value: Any) -> None:
    """`gen_statem:reply/2`; a callback can return a `ReplyAction` instead."""
    from_.answer(value, False)


async def enter_loop(machine: StateMachine, state: Any, *actions: Action) -> NoReturn:
    """`gen_statem:enter_loop/4..6`: turns the calling plain process into `machine` in `state`, without calling `init`.

    Raises Error("badarg") in a process that already is a behaviour.
    """
    cell = current_process()
    if isinstance(cell.actor, GenServer):
        raise Error("badarg")
    machine._myRef = cell  # pyright: ignore[reportPrivateUsage] - the name is Thespian's
    machine._machine = LoopState(state)  # pyright: ignore[reportPrivateUsage] - of this module
    await machine._loop(None, InitialState(state, *actions))  # pyright: ignore[reportPrivateUsage] - as above
    cell.become(machine)
    raise Unwind


__all__ = [
    "Action",
    "CancelTimeout",
    "ChangeCallbackModule",
    "EventTimeout",
    "GenericTimeout",
    "Hibernate",
    "Ignore",
    "InitialState",
    "KeepState",
    "NextEvent",
    "NextState",
    "PopCallbackModule",
    "Postpone",
    "PushCallbackModule",
    "RepeatState",
    "ReplyAction",
    "StateMachine",
    "StateTimeout",
    "Stop",
    "StopAndReply",
    "UpdateTimeout",
    "call",
    "cast",
    "enter_loop",
    "reply",
    "stop",
]  # fmt: skip
