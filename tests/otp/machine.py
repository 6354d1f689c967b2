"""A state machine that does what its events say; `erlang/machine.erl` is the same for real OTP.

An event's content is `{"tag": name, "do": [RESULT, ...]}`: the k-th handling of that tag returns the k-th result, so a
postponed event can do something else the next time. Beside the events of the scenarios there are `["event", who, type, tag,
state]` and `["enter", who, old, state]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.core.exits import Error, Exit, Throw
from runtime.otp import erlang
from runtime.otp.gen_server import Stop
from runtime.otp.state_machine import (
    CancelTimeout,
    EventTimeout,
    GenericTimeout,
    Hibernate,
    InitialState,
    KeepState,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    ReplyAction,
    StateMachine,
    StateTimeout,
    StopAndReply,
    UpdateTimeout,
)

from .terms import Act, Json

if TYPE_CHECKING:
    from .processes import Processes

RAISES = {"error": Error, "exit": Exit, "throw": Throw}


class Machine(StateMachine):
    """`mode`, `enter`, `init: [state, actions]`, and `enters`: what enter calls of a state return."""

    def init(self, processes: Processes, spec: Json) -> Any:
        self.names = processes.names
        self.operations = processes.operations
        self.names.add(spec["id"], erlang.self_())
        if spec.get("trap_exit", False):
            erlang.trap_exit(True)
        self.callback_mode = spec["mode"]  # type: ignore[misc]
        self.state_enter = spec.get("enter", False)  # type: ignore[misc]
        self.enters = spec.get("enters", {})
        self.kept: dict[str, Any] = {}
        self.handled: dict[Any, int] = {}
        self.log("init")
        state, actions = spec["init"]
        return InitialState(state, *self.actions(actions, None))

    def log(self, *event: Any) -> None:
        self.operations.log(*event)

    def a(self, event: Any, content: Any) -> Any:
        return self.handle_event(event, content, "a")

    def b(self, event: Any, content: Any) -> Any:
        return self.handle_event(event, content, "b")

    def c(self, event: Any, content: Any) -> Any:
        return self.handle_event(event, content, "c")

    def handle_event(self, event: Any, content: Any, state: Any) -> Any:
        if event == "enter":
            self.log("enter", content, state)
            return self.result(("enter", state), self.enters.get(state, []), None)
        from_ = None
        kind: Any = event
        match event:
            case ("call", from_):
                kind = "call"
            case ("timeout", name):
                kind = ["timeout", name]
        if not isinstance(content, Act) or isinstance(content.action, list):  # the latter is for a worker
            self.log("event", kind, content, state)
            return None
        action: Any = content.action
        if from_ is not None:
            self.kept[action["tag"]] = from_
        self.log("event", kind, action["tag"], state)
        return self.result(action["tag"], action["do"], from_)

    def terminate(self, reason: Any) -> None:
        self.log("terminate", reason, self.state)

    def result(self, key: Any, results: list[Json], from_: Any) -> Any:
        """What the k-th handling returns; whatever comes after the last of them keeps the state."""
        k = self.handled[key] = self.handled.get(key, 0) + 1
        if k > len(results):
            return None
        match results[k - 1]:
            case ["next_state", state, actions]:
                return NextState(state, *self.actions(actions, from_))
            case ["same_state", actions]:
                return NextState(self.state, *self.actions(actions, from_))
            case ["keep_state", actions]:
                return KeepState(*self.actions(actions, from_))
            case ["repeat_state", actions]:
                return RepeatState(*self.actions(actions, from_))
            case ["stop", reason]:
                return Stop(self.names.decode(reason))
            case ["stop_and_reply", reason, actions]:
                replies = [a for a in self.actions(actions, from_) if isinstance(a, ReplyAction)]
                return StopAndReply(self.names.decode(reason), *replies)
            case ["bad"]:
                return "bad"
            case [raises, reason]:
                raise RAISES[raises](self.names.decode(reason))

    def actions(self, actions: list[Json], from_: Any) -> list[Any]:
        """Transition actions of their descriptions; a reply to nobody is none."""
        return [made for action in actions if (made := self.action(action, from_)) is not None]

    def action(self, action: Json, from_: Any) -> Any:
        match action:
            case ["postpone"]:
                return Postpone()
            case ["hibernate"]:
                return Hibernate()
            case ["next_event", kind, content]:
                return NextEvent(_event(kind), Act(content))
            case ["timeout", ms, content]:
                return EventTimeout(_ms(ms), Act(content))
            case ["state_timeout", ms, content]:
                return StateTimeout(_ms(ms), Act(content))
            case ["named", name, ms, content]:
                return GenericTimeout(name, _ms(ms), Act(content))
            case ["cancel", kind]:
                return CancelTimeout(_event(kind))
            case ["update", kind, content]:
                return UpdateTimeout(_event(kind), Act(content))
            case ["reply", key, value]:
                to = from_ if key == "self" else self.kept.get(key)
                return None if to is None else ReplyAction(to, value)
        return action[0]  # "bad": no such action


def _event(kind: Json) -> Any:
    return tuple(kind) if isinstance(kind, list) else kind


def _ms(value: Json) -> float | None:
    return None if value == "infinity" else value
