"""The JSON form of Erlang terms, and the Python values that the runtime knows them by.

Atoms are strings on both sides. `True`/`False` and `None` come from the runtime only, as `true`/`false`
and `undefined`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.core.exits import CallSite, Error, Stack
from runtime.core.pid import Pid, Ref
from runtime.otp.child_spec import Child
from runtime.otp.erlang import Down, ExitMessage, Timeout
from runtime.otp.gen import TerminateRequest
from runtime.otp.gen_event import EventHandler
from runtime.otp.gen_server import Call, Cast
from runtime.otp.supervisor import ChildSpec, SupervisorRequest

Json = Any


@dataclass(frozen=True, slots=True)
class Act:
    """A request that carries an action: `["reply", X]` and the like."""

    action: list[Json]


class Names:
    """Who is who: ids and generations of processes, names of references."""

    def __init__(self) -> None:
        self.pids: dict[str, Pid] = {}  # "w1#2"
        self.labels: dict[Pid, str] = {}
        self.generations: dict[str, int] = {}
        self.refs: dict[str, Ref] = {}
        self.ref_names: dict[int, str] = {}

    def add(self, id: str, pid: Pid) -> int:
        """A new process with this id: its generation."""
        generation = self.generations.get(id, 0) + 1
        self.generations[id] = generation
        self.pids[f"{id}#{generation}"] = pid
        self.labels[pid] = f"{id}#{generation}"
        return generation

    def add_ref(self, name: str | None, ref: Ref) -> None:
        """An op named a reference with `as`."""
        if name is not None:
            self.refs[name] = ref
            self.ref_names[id(ref)] = name

    def find(self, who: str) -> Pid | None:
        """`"w1"`: the latest incarnation, `"w1#1"`: that one."""
        if "#" not in who:
            who = f"{who}#{self.generations.get(who, 0)}"
        return self.pids.get(who)

    def pid(self, who: str) -> Pid:
        """As `find`; raises Error("unknown_id")."""
        pid = self.find(who)
        if pid is None:
            raise Error("unknown_id")
        return pid

    def ref(self, name: str) -> Any:
        """The reference of that name; raises Error("unknown_ref")."""
        if name not in self.refs:
            raise Error("unknown_ref")
        return self.refs[name]

    # ---- JSON to Python

    def decode(self, term: Json) -> Any:
        """The Python value of a term."""
        match term:
            case list():
                return [self.decode(item) for item in term]
            case {"t": items}:
                return tuple(self.decode(item) for item in items)
            case {"m": pairs}:
                return {self.decode(key): self.decode(value) for key, value in pairs}
            case {"pid": who}:
                return self.pid(who)
            case {"ref": name}:
                return self.ref(name)
        return term

    def message(self, term: Json) -> Any:
        """As `decode`, for a message: in Erlang one that looks like a signal's message is that message."""
        match self.decode(term):
            case ("EXIT", Pid() as pid, reason):
                return ExitMessage(pid, reason)
            case ("DOWN", Ref() as ref, "process", pid, reason):
                return Down(ref, pid, reason)
            case ("$gen_cast", request):
                return Cast(request)
            case message:
                return message

    # ---- Python to JSON

    def encode(self, value: Any) -> Json:
        """The term of a Python value, placeholders included."""
        match value:
            case None:
                return "undefined"
            case bool():
                return "true" if value else "false"
            case str() | int():
                return value
            case Pid():
                return {"pid": self.labels.get(value, str(value))}
            case ExitMessage(pid, reason):
                return self.encode(("EXIT", pid, reason))
            case Down(ref, pid, reason):
                return self.encode(("DOWN", ref, "process", pid, reason))
            case Timeout(ref, message):
                return self.encode(("timeout", ref, message))
            case Ref():
                return {"ref": self.ref_names.get(id(value), "?")}
            case (Call(), reply):
                return {"t": [{"ref": "?"}, self.encode(reply)]}
            case tuple():
                return {"t": [self.encode(item) for item in value]}
            case list():
                return [self.encode(item) for item in value]
            case dict():
                return {"m": sorted([self.encode(key), self.encode(item)] for key, item in value.items())}
            case Act(action):
                return {"t": ["act", _atoms(action)]}
            case Call(request=request, caller=caller):
                from_ = (None if caller is None else caller.pid, Ref())
                return self.encode(("$gen_call", from_, request))
            case Cast(request=request):
                return self.encode(("$gen_cast", request))
            case TerminateRequest(reason=reason):
                return self.encode(("system", (value.caller, Ref()), ("terminate", reason)))
            case SupervisorRequest(function=function, args=args):
                return self.encode((function, *args) if args else function)
            case Stack():
                return "$stack"
            case CallSite(module="gen_server", function="call") | CallSite(module="gen_event"):
                return "$call"
            case CallSite():
                return self.encode((value.module, value.function, list(value.args)))
            case Child():
                return "$child"
            case ChildSpec(start=(_, (node,))):  # as the scenario wrote it: OTP quotes the spec it was given
                fields = {key: node[key] for key in ("restart", "shutdown", "significant") if key in node}
                return self.encode({"id": value.id, "type": value.type, **fields} | {"start": "$mfa"})
            case type() if issubclass(value, EventHandler):
                return "listener"
            case _ if callable(value):
                return "$mfa"
        return repr(value)


def _atoms(value: Json) -> Json:
    """An action as it is sent: to Erlang `true` is an atom."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return [_atoms(item) for item in value]
        case dict():
            return {key: _atoms(item) for key, item in value.items()}
    return value
