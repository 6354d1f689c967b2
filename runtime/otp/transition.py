"""The results of a `StateMachine`'s callbacks, and the transition actions in them (gen_statem's `action()`)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from runtime.otp.gen_server import From

Event = Any  # a string, or ("call", from_), or ("timeout", name)


# ---- actions


@dataclass(frozen=True, slots=True)
class Postpone:
    """`postpone`: handles the event again after the next change of state."""


@dataclass(frozen=True, slots=True)
class NextEvent:
    """`{next_event, Type, Content}`: inserts an event before all queued ones."""

    event: Event
    content: Any = None


@dataclass(frozen=True, slots=True)
class EventTimeout:
    """`{timeout, Ms, Content}`: event `"timeout"` after `ms` ms, unless another event comes first.

    `ms` None cancels it. With `abs`, `ms` is a time of `erlang.monotonic_time()`.
    """

    ms: float | None
    content: Any = None
    abs: bool = False


@dataclass(frozen=True, slots=True)
class StateTimeout:
    """`{state_timeout, Ms, Content}`: event `"state_timeout"` after `ms` ms, unless the state changes first.

    `ms` None and `abs` as of EventTimeout.
    """

    ms: float | None
    content: Any = None
    abs: bool = False


@dataclass(frozen=True, slots=True)
class GenericTimeout:
    """`{{timeout, Name}, Ms, Content}`: event `("timeout", name)` after `ms` ms; another one with this name replaces it.

    `ms` None and `abs` as of EventTimeout.
    """

    name: Any
    ms: float | None
    content: Any = None
    abs: bool = False


@dataclass(frozen=True, slots=True)
class CancelTimeout:
    """`{Timeout, cancel}`; `timeout` is the event: `"timeout"`, `"state_timeout"` or `("timeout", name)`."""

    timeout: Event


@dataclass(frozen=True, slots=True)
class UpdateTimeout:
    """`{Timeout, update, Content}`: changes the content of a running timer; if none is running it fires at once."""

    timeout: Event
    content: Any = None


@dataclass(frozen=True, slots=True)
class ReplyAction:
    """`{reply, From, Value}`: replies to an event `("call", from_)`."""

    from_: From
    value: Any = None


@dataclass(frozen=True, slots=True)
class Hibernate:
    """`hibernate`: accepted without effect, as an idle process has neither stack nor mailbox."""


@dataclass(frozen=True, slots=True)
class ChangeCallbackModule:
    """`{change_callback_module, Module}`: changes the class of the machine; state and data are kept."""

    module: type


@dataclass(frozen=True, slots=True)
class PushCallbackModule:
    """`{push_callback_module, Module}`: as ChangeCallbackModule; PopCallbackModule restores the old class."""

    module: type


@dataclass(frozen=True, slots=True)
class PopCallbackModule:
    """`pop_callback_module`: restores the class before the last PushCallbackModule."""


CallbackAction = ChangeCallbackModule | PushCallbackModule | PopCallbackModule
TimeoutAction = EventTimeout | StateTimeout | GenericTimeout | CancelTimeout | UpdateTimeout
Action = Postpone | NextEvent | ReplyAction | Hibernate | CallbackAction | TimeoutAction


# ---- validation


def timeout_event(action: TimeoutAction) -> Event:
    """The event of a timeout action."""
    match action:
        case EventTimeout():
            return "timeout"
        case StateTimeout():
            return "state_timeout"
        case GenericTimeout(name=name):
            return ("timeout", name)
        case CancelTimeout(event) | UpdateTimeout(event, _):
            return event


def _is_event(event: Any) -> bool:
    """True for an event that NextEvent may insert: any but `enter`."""
    match event:
        case "cast" | "info" | "internal" | "timeout" | "state_timeout" | ("timeout", _):
            return True
        case ("call", from_):
            return isinstance(from_, From)
    return False


def is_valid(action: Any) -> bool:
    """True for an action with valid fields. Unlike in OTP times may have fractions."""
    match action:
        case Postpone() | Hibernate() | PopCallbackModule():
            return True
        case NextEvent(event, _):
            return _is_event(event)
        case ReplyAction(from_, _):
            return isinstance(from_, From)
        case (
            EventTimeout(ms, _, absolute) | StateTimeout(ms, _, absolute) | GenericTimeout(_, ms, _, absolute)
        ):
            return isinstance(absolute, bool) and _is_time(ms, absolute)
        case CancelTimeout(event) | UpdateTimeout(event, _):
            return _is_timeout(event)
        case ChangeCallbackModule(module) | PushCallbackModule(module):
            return isinstance(module, type)
    return False


def _is_time(ms: Any, absolute: bool) -> bool:
    if ms is None:
        return True
    if not isinstance(ms, int | float) or isinstance(ms, bool) or not isfinite(ms):
        return False
    return absolute or ms >= 0


def _is_timeout(event: Any) -> bool:
    return (
        event in ("timeout", "state_timeout")
        if isinstance(event, str)
        else _is_event(event) and event[0] == "timeout"
    )


# ---- results


class _Result:
    __slots__ = ("actions",)

    def __init__(self, *actions: Action) -> None:
        self.actions = actions

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.actions!r}"


class InitialState(_Result):
    """`{ok, State, Data, Actions}`: the result of init."""

    __slots__ = ("state",)

    def __init__(self, state: Any, *actions: Action) -> None:
        super().__init__(*actions)
        self.state = state


class NextState(_Result):
    """`{next_state, State, Data, Actions}`; no change of state if it is the current one."""

    __slots__ = ("state",)

    def __init__(self, state: Any, *actions: Action) -> None:
        super().__init__(*actions)
        self.state = state


class KeepState(_Result):
    """`{keep_state, Data, Actions}`; returning None is `KeepState()`."""

    __slots__ = ()


class RepeatState(_Result):
    """`{repeat_state, Data, Actions}`: as KeepState, but repeats the `"enter"` call."""

    __slots__ = ()


class StopAndReply:
    """`{stop_and_reply, Reason, Replies}`."""

    __slots__ = ("reason", "replies")

    def __init__(self, reason: Any, *replies: ReplyAction) -> None:
        self.reason = reason
        self.replies = replies

    def __repr__(self) -> str:
        return f"StopAndReply{(self.reason, *self.replies)!r}"
