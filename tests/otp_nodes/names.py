"""Who is who on several nodes: one process is a `Cell` on its own node and a `RemotePid` on the others."""

from __future__ import annotations

from typing import Any

from runtime.core import engine as engines
from runtime.core.exits import CallSite
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.signals import Down
from runtime.nodes.node import Node
from runtime.nodes.remote import Remote, RemotePid, RemoteRef
from tests.otp.terms import Json, Names

Key = tuple[str, int, int]


class _Labels(dict[Any, str]):
    """Labels by pid, whichever object stands for it."""

    def __init__(self, names: NodeNames) -> None:
        super().__init__()
        self._names = names

    def __setitem__(self, pid: Pid, label: str) -> None:
        super().__setitem__(self._names.key(pid), label)

    def __getitem__(self, pid: Pid) -> str:
        return super().__getitem__(self._names.key(pid))

    def get(self, pid: Pid, default: Any = None) -> Any:
        return super().get(self._names.key(pid), default)

    def __contains__(self, pid: object) -> bool:
        return isinstance(pid, Pid) and super().__contains__(self._names.key(pid))


class NodeNames(Names):
    """As `Names`; pids and references are given as the running engine knows them."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[Any, Node] = {}  # by engine, those that are gone included
        self.labels: Any = _Labels(self)
        self.ref_keys: dict[str, Key] = {}
        self.by_key: dict[Key, Cell] = {}
        self.requests: dict[str, Any] = {}
        self.requested: dict[Key, str] = {}  # the id of what a spawn_request is to make
        self.unanswered: dict[Key, str] = {}  # labels of what one has made, and whose reply is not taken yet

    def here(self) -> Node:
        """The node that runs now."""
        return self.nodes[engines.current_engine()]

    def key(self, pid: Pid) -> Key:
        if isinstance(pid, RemotePid):
            return (pid.node_name, pid.creation or 0, pid.id)
        node = self.nodes[pid.cell.execution.engine]
        return (node.name, node.creation, pid.id)

    def add(self, id: str, pid: Pid) -> int:
        key = self.key(pid)
        if isinstance(pid, Cell):
            self.by_key[key] = pid
        else:
            for node in self.nodes.values():
                if (node.name, node.creation) == key[:2]:
                    cell = node.engine.table.get(key[2])
                    if cell is not None:
                        self.by_key[key] = cell
        return super().add(id, pid)

    def add_new(self, id: str, pid: Pid) -> None:
        """Both ends of a spawn name the process; the first that knows it does."""
        if pid not in self.labels:
            self.add(id, pid)

    def find(self, who: str) -> Pid | None:
        pid = super().find(who)
        return None if pid is None else self._as_seen_here(pid)

    def _as_seen_here(self, pid: Pid) -> Pid:
        key, here = self.key(pid), self.here()
        cell = self.by_key.get(key)
        if cell is not None and self.nodes[cell.execution.engine] is here:
            return cell
        return here.pid_named(*key)

    def home_of(self, who: str) -> tuple[Cell | None, Node | None]:
        """The process that a step is for, on its own node."""
        pid = super().find(who)
        cell = None if pid is None else self.by_key.get(self.key(pid))
        return cell, None if cell is None else self.nodes[cell.execution.engine]

    # ---- references

    def add_ref(self, name: str | None, ref: Any) -> None:
        if name is not None:
            self.refs[name] = ref
            self.ref_keys[name] = self.here().name_of_ref(ref)

    def add_requested(self, ref: Ref, id: str, mailbox: list[Any]) -> None:
        """A spawn_request was made. What it spawns on the own node is there already, and its reply waits in the mailbox.

        Until the reply is taken nobody can name the process by its id, but terms show it.
        """
        self.requested[self.here().name_of_ref(ref)] = id
        for message in mailbox:
            match message:
                case ("spawn_reply", answered, "ok", Pid() as pid) if (
                    answered is ref and pid not in self.labels
                ):
                    self.unanswered[self.key(pid)] = f"{id}#{self.generations.get(id, 0) + 1}"

    def ref(self, name: str) -> Any:
        ref = super().ref(name)
        key, here = self.ref_keys[name], self.here()
        return ref if key[:2] == (here.name, here.creation) else here.ref_named(*key)

    def _ref_name(self, ref: Ref) -> str:
        if isinstance(ref, RemoteRef):
            key: Key = (ref.node_name, ref.creation, ref.address)
            return next((name for name, known in self.ref_keys.items() if known == key), "?")
        return next((name for name, known in self.refs.items() if known is ref), "?")

    # ---- JSON and Python

    def decode(self, term: Json) -> Any:
        match term:
            case {"node": name}:
                return name
            case {"global": name}:
                return ("global", name)
        return super().decode(term)

    def encode(self, value: Any) -> Json:
        match value:
            case ("spawn_reply", Ref() as ref, "ok", Pid() as pid) if pid not in self.labels:
                self.add_new(self.requested[self.here().name_of_ref(ref)], pid)
            case CallSite(module="gen_server" | "sys", function="stop" | "terminate"):
                return "$stop"
            case Ref():
                return {"ref": self._ref_name(value)}
            case Down(ref=ref, pid=(str() as name, str() as node), reason=reason):
                return {"t": ["DOWN", self.encode(ref), "process", {"t": [name, node]}, self.encode(reason)]}
            case Pid() if not isinstance(value, Remote) or isinstance(value, RemotePid):
                return {"pid": self.labels.get(value) or self.unanswered.get(self.key(value), "?")}
            case (Ref() as ref, "join" | "leave" as what, group, [*pids]):
                members = sorted((self.encode(pid) for pid in pids), key=str)
                return {"t": [self.encode(ref), what, self.encode(group), members]}
        return super().encode(value)
