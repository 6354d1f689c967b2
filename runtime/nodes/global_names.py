"""`global`: names and locks that hold on all connected nodes. Imported as a module it reads `global_names.register_name(...)`.

A server of the name `global_name_server` on each node holds the whole table; a registration takes a lock on all
nodes, looks whether the name is free here, and is told to all. When nodes come together each tells the other the names of its
own processes; of two processes with one name the registration's resolver says who keeps it (the lower node of the two
does what it says, and tells all). When a node is lost its processes' names are forgotten. Source: OTP's `global`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.core.engine import current_engine
from runtime.core.exits import Error, Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.nodes import codec, net_kernel
from runtime.nodes.multi_call import multi_call
from runtime.otp import erlang
from runtime.otp.erlang import Down
from runtime.otp.gen_server import GenServer, NoReply, Reply

SERVER: Final = "global_name_server"
RETRY_MS: Final = 250  # the longest first wait for a lock that somebody else has

Resolver = Callable[[str, Pid, Pid], Pid | None]
LockId = tuple[Any, Any]


@codec.register
@dataclass(frozen=True, slots=True)
class _Register:
    name: str
    pid: Pid
    resolver: str


@codec.register
@dataclass(frozen=True, slots=True)
class _Unregister:
    name: str


@codec.register
@dataclass(frozen=True, slots=True)
class _SetLock:
    id: LockId
    holder: Pid


@codec.register
@dataclass(frozen=True, slots=True)
class _DelLock:
    id: LockId
    holder: Pid


def random_exit_name(name: str, low: Pid, high: Pid) -> Pid | None:
    """The default: the process on the node that sorts higher is killed."""
    erlang.exit(high, "kill")
    return low


def random_notify_name(name: str, low: Pid, high: Pid) -> Pid | None:
    """The process on the node that sorts higher is told, and loses the name."""
    erlang.send(high, ("global_name_conflict", name))
    return low


def notify_all_name(name: str, low: Pid, high: Pid) -> Pid | None:
    """Both are told, and nobody keeps the name."""
    erlang.send(low, ("global_name_conflict", name, high))
    erlang.send(high, ("global_name_conflict", name, low))
    return None


def none(name: str, low: Pid, high: Pid) -> Pid | None:
    """Nobody keeps the name, and nobody is told."""
    return None


RESOLVERS: Final[dict[str, Resolver]] = {
    fn.__name__: fn for fn in (random_exit_name, random_notify_name, notify_all_name, none)
}


class GlobalNameServer(GenServer):
    """The names and locks as this node knows them. A crash of it is a crash of the node's part: its names are lost."""

    def init(self) -> None:
        self.names: dict[str, tuple[Pid, str, Ref]] = {}
        self.locks: dict[Any, tuple[Any, list[tuple[Pid, Ref]]]] = {}
        node = net_kernel.this_node()
        if node is not None:
            node.global_names = sys.modules[__name__]
        if _is_cluster():
            net_kernel.monitor_nodes(True)
            for node in net_kernel.nodes():
                self._send_names(node)

    # ---- names

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case _Register(name, pid, resolver):
                self._insert(name, pid, resolver)
                return Reply("yes")
            case _Unregister(name):
                self._delete(name)
                return Reply("ok")
            case _SetLock(id, holder):
                return Reply(self._set_lock(id, holder))
            case _DelLock(id, holder):
                self._del_lock(id, holder)
                return Reply(True)
        return NoReply()

    def _insert(self, name: str, pid: Pid, resolver: str) -> None:
        self._delete(name)
        self.names[name] = (pid, resolver, erlang.monitor(pid))

    def _delete(self, name: str) -> None:
        entry = self.names.pop(name, None)
        if entry is not None:
            erlang.demonitor(entry[2], flush=True)

    def handle_info(self, message: Any) -> Any:
        match message:
            case ("nodeup", str() as node):
                self._send_names(node)
            case ("names", str() as node, list() as entries):
                for name, pid, resolver in entries:
                    self._merge_name(node, name, pid, resolver)
            case ("resolved", str() as name, Pid() as pid, str() as resolver):
                self._insert(name, pid, resolver)
            case ("resolved", str() as name, None, _):
                self._delete(name)
            case Down(ref=ref):
                self._ended(ref)

    def _send_names(self, node: str) -> None:
        mine = [
            (name, pid, resolver)
            for name, (pid, resolver, _) in self.names.items()
            if net_kernel.node(pid) == net_kernel.node()
        ]
        net_kernel.send((SERVER, node), ("names", net_kernel.node(), mine), ["noconnect"])

    def _merge_name(self, node: str, name: str, theirs: Pid, resolver: str) -> None:
        if name not in self.names:
            self._insert(name, theirs, resolver)
            return
        ours, method, _ = self.names[name]
        if ours is theirs or net_kernel.node(ours) != net_kernel.node() or net_kernel.node() > node:
            return  # somebody else's to resolve: the two nodes whose processes they are meet as well
        resolve = RESOLVERS.get(method, random_exit_name)
        winner = resolve(name, ours, theirs)
        for other in [net_kernel.node(), *net_kernel.nodes()]:
            erlang.send((SERVER, other), ("resolved", name, winner, method))

    def _ended(self, ref: Ref) -> None:
        for name, entry in list(self.names.items()):
            if entry[2] is ref:
                del self.names[name]
        for resource, (requester, holders) in list(self.locks.items()):
            left = [holder for holder in holders if holder[1] is not ref]
            if left:
                self.locks[resource] = (requester, left)
            else:
                del self.locks[resource]

    # ---- locks

    def _set_lock(self, id: LockId, holder: Pid) -> bool:
        resource, requester = id
        held = self.locks.get(resource)
        if held is not None and held[0] != requester:
            return False
        holders = [] if held is None else held[1]
        if any(one[0] is holder for one in holders):
            return True  # it has it already, and has it once
        self.locks[resource] = (requester, [*holders, (holder, erlang.monitor(holder))])
        return True

    def _del_lock(self, id: LockId, holder: Pid) -> None:
        resource, requester = id
        held = self.locks.get(resource)
        if held is None or held[0] != requester:
            return
        for one in held[1]:
            if one[0] is holder:
                erlang.demonitor(one[1], flush=True)
                held[1].remove(one)
                break
        if not held[1]:
            del self.locks[resource]


def _is_cluster() -> bool:
    node = current_engine().node
    return node is not None and node.config.connect_all


def _everywhere() -> list[str]:
    return [net_kernel.node(), *net_kernel.nodes()] if _is_cluster() else [net_kernel.node()]


def _server() -> GlobalNameServer:
    cell = current_engine().names.get(SERVER)
    if cell is None:
        raise Error("badarg")
    return cell.actor


async def start_link() -> Pid | None:
    """Starts this node's server, once."""
    return await GlobalNameServer.start_link(name=SERVER)


async def register_name(name: str, pid: Pid, resolver: str = "random_exit_name") -> str:
    """`global:register_name/3`: `"yes"`, or `"no"` if the name is taken or the process has one. A dead pid may have one, shortly.

    `resolver` is the name of one in `RESOLVERS`, on every node.
    """

    async def register() -> str:
        names = _server().names
        if name in names or any(entry[0] is pid for entry in names.values()):
            return "no"
        await multi_call(SERVER, _Register(name, pid, resolver), nodes=_everywhere())
        return "yes"

    return await _transaction(register)


async def re_register_name(name: str, pid: Pid, resolver: str = "random_exit_name") -> str:
    """`global:re_register_name/3`: moves the name; nobody is told."""

    async def register() -> str:
        await multi_call(SERVER, _Register(name, pid, resolver), nodes=_everywhere())
        return "yes"

    return await _transaction(register)


async def unregister_name(name: str) -> None:
    """`global:unregister_name/1`: anybody may."""

    async def unregister() -> str:
        await multi_call(SERVER, _Unregister(name), nodes=_everywhere())
        return "ok"

    if name in _server().names:
        await _transaction(unregister)


async def _transaction(step: Callable[[], Any]) -> str:
    id = ("global", erlang.self_())
    nodes = _everywhere()
    await set_lock(id, nodes)
    try:
        return await step()
    finally:
        await del_lock(id, nodes)


def whereis_name(name: str) -> Pid | None:
    """`global:whereis_name/1`."""
    entry = _server().names.get(name)
    if entry is None:
        return None
    pid = entry[0]
    return None if isinstance(pid, Cell) and not erlang.is_process_alive(pid) else pid


def registered_names() -> list[str]:
    """`global:registered_names/0`, sorted."""
    return sorted(_server().names)


def send(name: str, message: Any) -> Pid:
    """`global:send/2`. Raises Exit(("badarg", (name, message))) if nobody has the name."""
    pid = whereis_name(name)
    if pid is None:
        raise Exit(("badarg", (name, message)))
    erlang.send(pid, message)
    return pid


async def set_lock(id: LockId, nodes: Sequence[str] | None = None, retries: int | None = None) -> bool:
    """`global:set_lock/3`: `(resource, requester)`; the same requester may have it again. False after so many retries."""
    asked = _everywhere() if nodes is None else list(nodes)
    holder = erlang.self_()
    tries = 0
    while True:
        replies, _ = await multi_call(SERVER, _SetLock(id, holder), nodes=sorted(asked))
        if all(answer for _, answer in replies):
            return True
        got = [node for node, answer in replies if answer]
        await multi_call(SERVER, _DelLock(id, holder), nodes=got)
        if retries is not None and tries >= retries:
            return False
        tries += 1
        spread = int.from_bytes(current_engine().unique_bytes(2), "big") / 65536
        await erlang.sleep(min(8000, RETRY_MS * 2 ** min(tries - 1, 5)) * spread)


async def del_lock(id: LockId, nodes: Sequence[str] | None = None) -> bool:
    """`global:del_lock/2`: True, also for a stranger's lock, which stays."""
    asked = _everywhere() if nodes is None else list(nodes)
    await multi_call(SERVER, _DelLock(id, erlang.self_()), nodes=asked)
    return True
