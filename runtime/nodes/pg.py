"""`pg`: process groups over all nodes.

A scope is a server with the scope's name on each node. It owns the memberships of its node's processes and keeps a copy of the
other nodes' memberships, each received from the scope that owns it. Groups are compared as in Erlang: 1, 1.0 and True are three.

Messages between scopes: `("discover", peer)`, `("sync", peer, groups)`, `("join", peer, group, pids)`, `("leave", peer, pids,
groups)`. When a scope crashes, its memberships are removed on all nodes; the processes must join again. Source: OTP's `pg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.nodes import net_kernel
from runtime.otp import erlang, gen_server
from runtime.otp.erlang import Down
from runtime.otp.exact_key import ExactDict, exact
from runtime.otp.gen_server import GenServer, Reply, StartError

DEFAULT_SCOPE = "pg"
Groups = ExactDict[list[Pid]]


@dataclass(frozen=True, slots=True)
class _Join:
    group: Any
    pids: list[Pid]


@dataclass(frozen=True, slots=True)
class _Leave:
    group: Any
    pids: list[Pid]


@dataclass(frozen=True, slots=True)
class _Monitor:
    caller: Pid
    group: Any = None
    all: bool = False


@dataclass(frozen=True, slots=True)
class _Demonitor:
    ref: Ref


class Scope(GenServer):
    """The server of one scope on one node."""

    def init(self, scope: str) -> None:
        self.scope = scope
        self.local: Groups = ExactDict()  # a pid is listed once for each of its joins
        self.watched: dict[Pid, Ref] = {}  # members on this node, and their monitors
        self.peers: dict[Pid, tuple[Ref, Groups]] = {}
        self.monitors: dict[Ref, tuple[Pid, _Monitor]] = {}
        net_kernel.monitor_nodes(True)
        for node in net_kernel.nodes():
            erlang.send((scope, node), ("discover", erlang.self_()))

    def members(self, group: Any) -> list[Pid]:
        """The members of a group on all nodes."""
        found = list(self.local.get(group, ()))
        for _, groups in self.peers.values():
            found += groups.get(group, ())
        return found

    def groups(self) -> list[Any]:
        """The groups that have members."""
        found: ExactDict[None] = ExactDict()
        for groups in (self.local, *(groups for _, groups in self.peers.values())):
            for group in groups:
                found[group] = None
        return list(found)

    # ---- requests

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case _Join(group, pids):
                for pid in pids:
                    if pid not in self.watched:
                        self.watched[pid] = erlang.monitor(pid)
                _add(self.local, group, pids)
                self._notify("join", group, pids)
                self._broadcast(("join", erlang.self_(), group, pids))
                return Reply("ok")
            case _Leave(group, pids):
                if not _remove(self.local, group, pids):
                    return Reply("not_joined")
                self._unwatch(pids)
                self._notify("leave", group, pids)
                self._broadcast(("leave", erlang.self_(), pids, [group]))
                return Reply("ok")
            case _Monitor(caller, group, everything):
                ref = erlang.monitor(caller)
                self.monitors[ref] = (caller, request)
                return Reply((ref, self._all() if everything else self.members(group)))
            case _Demonitor(ref):
                known = self.monitors.pop(ref, None) is not None
                if known:
                    erlang.demonitor(ref, flush=True)
                return Reply(known)
        return super().handle_call(request, from_)

    def _all(self) -> Groups:
        return _groups((group, self.members(group)) for group in self.groups())

    def _unwatch(self, pids: Sequence[Pid]) -> None:
        for pid in pids:
            if pid in self.watched and not any(pid in members for members in self.local.values()):
                erlang.demonitor(self.watched.pop(pid), flush=True)

    # ---- other nodes, and ended processes

    def handle_info(self, message: Any) -> Any:
        match message:
            case ("discover", Pid() as peer):
                self._introduce(peer)
                if peer not in self.peers:
                    self.peers[peer] = (erlang.monitor(peer), ExactDict())
                    self._send(peer, ("discover", erlang.self_()))
            case ("sync", Pid() as peer, dict() as groups):
                self._sync(peer, _groups(groups.items()))
            case ("join", Pid() as peer, group, pids) if peer in self.peers:
                _add(self.peers[peer][1], group, pids)
                self._notify("join", group, pids)
            case ("leave", Pid() as peer, pids, groups) if peer in self.peers:
                for group in groups:
                    _remove(self.peers[peer][1], group, pids)
                    self._notify("leave", group, pids)
            case ("nodeup", str() as node):
                self._send_scope(node, ("discover", erlang.self_()))
            case Down(ref=ref, pid=pid):
                self._ended(ref, pid)

    def _introduce(self, peer: Pid) -> None:
        """Sends the peer the memberships of this node."""
        first = dict(self.local.items())  # one of those groups that a dict holds for the same
        self._send(
            peer,
            (
                "sync",
                erlang.self_(),
                {group: pids for group, pids in self.local.items() if first[group] is pids},
            ),
        )
        for group, pids in self.local.items():
            if first[group] is not pids:
                self._send(peer, ("join", erlang.self_(), group, pids))

    def _sync(self, peer: Pid, groups: Groups) -> None:
        ref, old = self.peers.get(peer) or (erlang.monitor(peer), ExactDict())
        self.peers[peer] = (ref, groups)
        for group in _groups((*old.items(), *groups.items())):
            before, after = old.get(group, []), groups.get(group, [])
            left, joined = _difference(before, after), _difference(after, before)
            if left:
                self._notify("leave", group, left)
            if joined:
                self._notify("join", group, joined)

    def _ended(self, ref: Ref, pid: Any) -> None:
        if ref in self.monitors:
            del self.monitors[ref]
        elif pid in self.watched and self.watched[pid] is ref:
            del self.watched[pid]
            groups = [group for group, members in self.local.items() for member in members if member is pid]
            for group in groups:
                _remove(self.local, group, [pid])
                self._notify("leave", group, [pid])
            self._broadcast(("leave", erlang.self_(), [pid], groups))
        elif pid in self.peers:
            for group, pids in self.peers.pop(pid)[1].items():
                self._notify("leave", group, pids)

    def _notify(self, what: str, group: Any, pids: list[Pid]) -> None:
        place = exact(group)
        for ref, (owner, wanted) in self.monitors.items():
            if wanted.all or exact(wanted.group) == place:
                erlang.send(owner, (ref, what, group, list(pids)))

    def _broadcast(self, message: Any) -> None:
        for peer in self.peers:
            self._send(peer, message)

    def _send(self, peer: Pid, message: Any) -> None:
        net_kernel.send(peer, message, ["noconnect"])

    def _send_scope(self, node: str, message: Any) -> None:
        net_kernel.send((self.scope, node), message, ["noconnect"])


def _groups(items: Iterable[tuple[Any, list[Pid]]]) -> Groups:
    groups: Groups = ExactDict()
    for group, pids in items:
        groups[group] = pids
    return groups


def _add(groups: Groups, group: Any, pids: list[Pid]) -> None:
    groups.setdefault(group, []).extend(pids)


def _remove(groups: Groups, group: Any, pids: list[Pid]) -> bool:
    members, removed = groups.get(group, []), False
    for pid in pids:
        if pid in members:
            members.remove(pid)
            removed = True
    if not members:
        groups.pop(group, None)
    return removed


def _difference(these: list[Pid], those: list[Pid]) -> list[Pid]:
    left = list(those)
    return [pid for pid in these if pid not in left or left.remove(pid)]  # type: ignore[func-returns-value]


def _scope(scope: str) -> Scope | None:
    cell = current_engine().names.get(scope)
    return cell.actor if cell is not None and isinstance(cell.actor, Scope) else None


def _local_pids(pids: Pid | Sequence[Pid]) -> list[Pid]:
    found = [pids] if isinstance(pids, Pid) else list(pids)
    for pid in found:
        if not isinstance(pid, Cell):
            raise Error(("nolocal", pid))
    return found


async def start(scope: str = DEFAULT_SCOPE) -> Pid:
    """`pg:start/1`: without a link. Raises StartError(("already_started", pid))."""
    pid = await Scope.start(scope, name=scope)
    assert pid is not None
    return pid


async def start_link(scope: str = DEFAULT_SCOPE) -> Pid:
    """`pg:start_link/1`."""
    pid = await Scope.start_link(scope, name=scope)
    assert pid is not None
    return pid


async def join(scope: str, group: Any, pids: Pid | Sequence[Pid]) -> str:
    """`pg:join/3`: `"ok"`. Raises Error(("nolocal", pid)) for processes of other nodes."""
    return await gen_server.call(scope, _Join(group, _local_pids(pids)), None)


async def leave(scope: str, group: Any, pids: Pid | Sequence[Pid]) -> str:
    """`pg:leave/3`: `"ok"` or `"not_joined"`. A process that joined twice leaves once."""
    return await gen_server.call(scope, _Leave(group, _local_pids(pids)), None)


def get_members(scope: str, group: Any) -> list[Pid]:
    """`pg:get_members/2`; empty without such a scope."""
    server = _scope(scope)
    return [] if server is None else server.members(group)


def get_local_members(scope: str, group: Any) -> list[Pid]:
    """`pg:get_local_members/2`."""
    server = _scope(scope)
    return [] if server is None else list(server.local.get(group, ()))


def which_groups(scope: str) -> list[Any]:
    """`pg:which_groups/1`. Raises Error("badarg") without such a scope."""
    server = _scope(scope)
    if server is None:
        raise Error("badarg")
    return server.groups()


def which_local_groups(scope: str) -> list[Any]:
    """`pg:which_local_groups/1`: those with a member on this node. Raises Error("badarg") without such a scope."""
    server = _scope(scope)
    if server is None:
        raise Error("badarg")
    return list(server.local)


async def monitor(scope: str, group: Any) -> tuple[Ref, list[Pid]]:
    """`pg:monitor/2`: the members now; `(ref, "join" | "leave", group, pids)` come from now on."""
    return await gen_server.call(scope, _Monitor(erlang.self_(), group), None)


async def monitor_scope(scope: str) -> tuple[Ref, Groups]:
    """`pg:monitor_scope/1`: as `monitor`, for all groups: the members of each."""
    return await gen_server.call(scope, _Monitor(erlang.self_(), all=True), None)


async def demonitor(scope: str, ref: Ref) -> Literal["ok", False]:
    """`pg:demonitor/2`: `"ok"`; False if there was no such monitor. No message comes any more, nor is one left."""
    known = await gen_server.call(scope, _Demonitor(ref), None)
    if not known:
        return False
    while (
        await erlang.receive(lambda m: isinstance(m, tuple) and len(m) == 4 and m[0] is ref, 0)
        is not erlang.TIMEOUT
    ):
        pass
    return "ok"


__all__ = [
    "DEFAULT_SCOPE", "Scope", "StartError", "demonitor", "get_local_members", "get_members", "join", "leave", "monitor",
    "monitor_scope", "start", "start_link", "which_groups", "which_local_groups",
]  # fmt: skip
