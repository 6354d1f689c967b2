"""A gen_event handler that does what events say; `erlang/listener.erl` is the same for real OTP.

An event, a call or a message is `{act, [who, ACT]}` (a call `{act, ACT}`), where who is a handler's id or `all`. ACT is one of
`["ok"]`, `["hibernate"]`, `["remove"]`, `["swap", argument, spec]`, `["bad"]`, and `["error" | "exit" | "throw", reason]`. A
spec is `{"id", "init", "terminate"}`. Beside the events of the scenarios there are `["added", manager, id, ...]`,
`["hear", manager, kind, id, what]` and `["gone", manager, id, argument]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.core.exits import Error, Exit, Throw
from runtime.otp.gen_event import EventHandler, RemoveHandler, SwapHandler
from runtime.otp.gen_server import Reply

from .terms import Act, Json

if TYPE_CHECKING:
    from .processes import Processes

RAISES = {"error": Error, "exit": Exit, "throw": Throw}


class Listener(EventHandler):
    """Started with `(processes, spec)`, after a swap with `((processes, spec), last)`."""

    def init(self, args: Any) -> Any:
        match args:
            case ((processes, spec), last):
                details = [last]
            case _:
                (processes, spec), details = args, []
        self.processes: Processes = processes
        self.spec: Json = spec
        self.log("added", spec["id"], *details)
        match spec.get("init", "ok"):
            case "ok" | "hibernate":
                return None
            case ["return", term]:
                return self.decode(term)
            case [raises, reason]:
                raise RAISES[raises](self.decode(reason))

    def log(self, *event: Any) -> None:
        self.processes.operations.log(*event)

    def decode(self, term: Json) -> Any:
        return self.processes.names.decode(term)

    def handle_event(self, event: Any) -> Any:
        return self.hear("event", event)

    def handle_info(self, message: Any) -> Any:
        return self.hear("info", message)

    def hear(self, kind: str, event: Any) -> Any:
        id = self.spec["id"]
        match event:
            case Act([who, act]) if who in (id, "all"):
                self.log("hear", kind, id, act[0])
                return self.perform(act)
            case Act():
                return None
        self.log("hear", kind, id, event)
        return None

    def handle_call(self, request: Any) -> Any:
        self.log("hear", "call", self.spec["id"], request.action[0])
        result = self.perform(request.action, called=True)
        return Reply(("answer", self.spec["id"])) if result is None else result

    def perform(self, act: Json, called: bool = False) -> Any:
        match act:
            case ["ok"] | ["hibernate"]:
                return None
            case ["remove"]:
                return RemoveHandler("removed" if called else None)
            case ["swap", argument, spec]:
                new = (Listener, spec["id"])
                return SwapHandler(argument, new, (self.processes, spec), "swapped" if called else None)
            case ["bad"]:
                return "bad"
            case [raises, reason]:
                raise RAISES[raises](self.decode(reason))

    def terminate(self, arg: Any) -> Any:
        self.log("gone", self.spec["id"], arg)
        match self.spec.get("terminate", "ok"):
            case "ok":
                return ("last", self.spec["id"])
            case [raises, reason]:
                raise RAISES[raises](self.decode(reason))
