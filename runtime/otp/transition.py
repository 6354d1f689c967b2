"""What the callbacks of a `StateMachine` return: a result, and in it transition actions (gen_statem's
`action()`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.otp.gen_server import From

Event = Any  # a string, or ("call", from_), or ("timeout", name)


# ---- actions


@dataclass(frozen=True, slots=True)
class Postpone:
    """`postpone`: the event is handled again after the next change of state."""


@dataclass(frozen=True, slots=True)
class NextEvent:
    """`{next_event, Type, Content}`: handled next, before all events that wait."""

    event: Event
    content: Any = None


@dataclass(frozen=True, slots=True)
class EventTimeout:
    """`{timeout, Ms, Content}`: event `"timeout"`, unless any event comes before. None as `ms` cancels."""

    ms: float | None
    content: Any = None


@dataclass(frozen=True, slots=True)
class StateTimeout:
    """`{state_timeout, Ms, Content}`: event `"state_timeout"`, unless the state changes before. None as `ms`
    cancels.
    """

    ms: float | None
    content: Any = None


@dataclass(frozen=True, slots=True)
class GenericTimeout:
    """`{{timeout, Name}, Ms, Content}`: event `("timeout", name)`; nothing cancels it but a new one. None as
    `ms` cancels.
    """

    name: Any
    ms: float | None
    content: Any = None


@dataclass(frozen=True, slots=True)
class CancelTimeout:
    """`{Timeout, cancel}`; `timeout` is the event: `"timeout"`, `"state_timeout"` or `("timeout", name)`."""

    timeout: Event


@dataclass(frozen=True, slots=True)
class UpdateTimeout:
    """`{Timeout, update, Content}`: new content for a running timer; if none runs it fires at once."""

    timeout: Event
    content: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`{reply, From, Value}`: answers the event `("call", from_)`, now or whenever."""

    from_: From
    value: Any = None


@dataclass(frozen=True, slots=True)
class Hibernate:
    """`hibernate`: accepted and without effect; an idle process here holds no stack and no mailbox anyway."""


TimeoutAction = EventTimeout | StateTimeout | GenericTimeout | CancelTimeout | UpdateTimeout
Action = Postpone | NextEvent | Reply | Hibernate | TimeoutAction


# ---- what callbacks return


class _Result:
    __slots__ = ("actions",)

    def __init__(self, *actions: Action) -> None:
        self.actions = actions

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.actions!r}"


class Ok(_Result):
    """`{ok, State, Data, Actions}` from init."""

    __slots__ = ("state",)

    def __init__(self, state: Any, *actions: Action) -> None:
        super().__init__(*actions)
        self.state = state


class NextState(_Result):
    """`{next_state, State, Data, Actions}`. The same state again is no change of state."""

    __slots__ = ("state",)

    def __init__(self, state: Any, *actions: Action) -> None:
        super().__init__(*actions)
        self.state = state


class KeepState(_Result):
    """`{keep_state, Data, Actions}`; returning None is `KeepState()`."""

    __slots__ = ()


class RepeatState(_Result):
    """`{repeat_state, Data, Actions}`: as KeepState, and the `"enter"` call is made again."""

    __slots__ = ()


class Stop:
    """`{stop, Reason}`, or `{stop_and_reply, Reason, Replies}`."""

    __slots__ = ("reason", "replies")

    def __init__(self, reason: Any = "normal", *replies: Reply) -> None:
        self.reason = reason
        self.replies = replies

    def __repr__(self) -> str:
        return f"Stop({self.reason!r})"
