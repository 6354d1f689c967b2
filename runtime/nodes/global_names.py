"""`global`: names and locks that are valid on all connected nodes. Import the module: `global_names.register_name(...)`.

The server `global_name_server` on each node holds the whole name table and the set of *known* nodes, whose tables equal its own.
A registration locks all known nodes (`global_locks`), checks that the name is free, and is applied on all of them.

When two nodes connect that do not know each other, a process on the one whose name sorts lower locks both parts of the cluster,
merges their tables (`global_merge`) and sends the changes to all their nodes. When a node is lost, the names of its processes
are removed and it is no longer known. Source: OTP's `global`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from runtime.core.engine import current_engine
from runtime.core.exits import Error, Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.nodes import codec, net_kernel
from runtime.nodes.global_locks import (
    GLOBAL,
    SERVER,
    Acquire,
    DelLock,
    LockId,
    Locks,
    SetLock,
    del_lock,
    set_lock,
    trans,
    under_lock,
)
from runtime.nodes.global_merge import Names, Operations, Resolver, merged
from runtime.nodes.multi_call import multi_call
from runtime.otp import erlang, gen_server
from runtime.otp.erlang import Down
from runtime.otp.gen_server import GenServer, NoReply, Reply

__all__ = [
    "RESOLVERS", "SERVER", "GlobalNameServer", "LockId", "Resolver", "del_lock", "re_register_name", "register_name",
    "registered_names", "send", "set_lock", "start_link", "trans", "unregister_name", "whereis_name",
]  # fmt: skip

Known = dict[str, int]  # node -> its incarnation


@codec.register
@dataclass(frozen=True, slots=True)
class _Change:
    """Changes to the table, sent by the holder of the lock; afterwards the nodes in `known` have the same table."""

    holder: Pid
    operations: Operations
    known: Known


@codec.register
@dataclass(frozen=True, slots=True)
class _GetKnown:
    """A call that returns the known nodes, including the called one."""


@codec.register
@dataclass(frozen=True, slots=True)
class _GetNames:
    """A call that returns the name table."""


@dataclass(frozen=True, slots=True)
class _Forget:
    """A node that other nodes reported as known cannot be reached."""

    node: str
    creation: int


def _by_node(one: Pid, other: Pid) -> tuple[Pid, Pid]:
    return (one, other) if net_kernel.node(one) < net_kernel.node(other) else (other, one)


def random_exit_name(name: str, theirs: Pid, ours: Pid) -> Pid | None:
    """The default: the process on the node that sorts higher is killed."""
    low, high = _by_node(theirs, ours)
    erlang.exit(high, "kill")
    return low


def random_notify_name(name: str, theirs: Pid, ours: Pid) -> Pid | None:
    """The process on the node that sorts higher is notified, and loses the name."""
    low, high = _by_node(theirs, ours)
    erlang.send(high, ("global_name_conflict", name))
    return low


def notify_all_name(name: str, theirs: Pid, ours: Pid) -> Pid | None:
    """Both processes are notified, and neither keeps the name."""
    erlang.send(theirs, ("global_name_conflict", name, ours))
    erlang.send(ours, ("global_name_conflict", name, theirs))
    return None


def none(name: str, theirs: Pid, ours: Pid) -> Pid | None:
    """Neither process keeps the name or is notified."""
    return None


RESOLVERS: Final[dict[str, Resolver]] = {
    fn.__name__: fn for fn in (random_exit_name, random_notify_name, notify_all_name, none)
}


class GlobalNameServer(GenServer):
    """The server of this node. If it crashes, the names registered on this node are lost."""

    def init(self) -> None:
        self.names: dict[str, tuple[Pid, str, Ref]] = {}
        self.known: Known = {}
        self.locks = Locks()
        node = net_kernel.this_node()
        if node is not None:
            node.global_names = sys.modules[__name__]
        if _is_cluster():
            net_kernel.monitor_nodes(True)
            for name in net_kernel.nodes():
                self._meet(name)

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case SetLock(id, holder):
                return Reply(self.locks.set(id, holder))
            case Acquire(id, holder):
                return Reply(True) if self.locks.acquire(id, holder, from_) else NoReply()
            case DelLock(id, holder):
                self.locks.delete(id, holder)
                return Reply(True)
            case _Change(holder, operations, known):
                # Without the lock the change is from before a disconnection, and the other nodes have changed since.
                if self.locks.holds(GLOBAL, holder):
                    self._change(operations, known)
                return Reply("ok")
            case _GetKnown():
                return Reply(self.with_known())
            case _GetNames():
                return Reply(self.table())
        return NoReply()

    def handle_info(self, message: Any) -> Any:
        match message:
            case ("nodeup", str() as node):
                self._meet(node)
            case ("nodedown", str() as node):
                self.known.pop(node, None)
            case _Forget(node, creation):
                if self.known.get(node) == creation and node not in net_kernel.nodes():
                    del self.known[node]
            case Down(ref=ref):
                self.locks.ended(ref)
                for name, entry in list(self.names.items()):
                    if entry[2] is ref:
                        del self.names[name]

    # ---- the table

    def table(self) -> Names:
        """The name table."""
        return {name: (pid, method) for name, (pid, method, _) in self.names.items()}

    def with_known(self) -> Known:
        """The known nodes and this one."""
        return {net_kernel.node(): _creation(net_kernel.node()), **self.known}

    def _change(self, operations: Operations, known: Known) -> None:
        for name, pid, method in operations:
            entry = self.names.pop(name, None)
            if entry is not None:
                erlang.demonitor(entry[2], flush=True)
            if pid is not None:
                self.names[name] = (pid, method, erlang.monitor(pid))
        for node, creation in known.items():
            if node != net_kernel.node() and self.known.get(node) != creation:
                self.known[node] = creation
                if node not in net_kernel.nodes():
                    erlang.spawn(_reach, erlang.self_(), node, creation)

    # ---- other parts of the cluster

    def _meet(self, node: str) -> None:
        if net_kernel.node() < node and not self._knows(node):
            erlang.spawn(self._merge, node)

    def _knows(self, node: str) -> bool:
        return self.known.get(node) == _creation(node)

    async def _merge(self, node: str) -> None:
        """Body of the process that merges two parts; if the other node is lost meanwhile, its next connection starts over."""
        try:
            while not self._knows(node) and node in net_kernel.nodes():
                theirs: Known = await gen_server.call((SERVER, node), _GetKnown(), None)
                nodes = {*self.with_known(), *theirs}
                await under_lock(sorted(nodes), lambda: self._exchange(node, nodes))  # noqa: B023
        except Exit:
            return

    async def _exchange(self, node: str, locked: set[str]) -> None:
        theirs: Known = await gen_server.call((SERVER, node), _GetKnown(), None)
        ours = self.with_known()
        if self._knows(node) or not locked.issuperset({*ours, *theirs}):
            return  # another merge was faster: there are more nodes to lock now
        names: Names = await gen_server.call((SERVER, node), _GetNames(), None)
        here, there = merged(self.table(), names, lambda method: RESOLVERS.get(method, random_exit_name))
        me = net_kernel.node()
        for part, operations, end, other in ((ours, here, me, node), (theirs, there, node, me)):
            # Only the two that connected certainly have the same table: others may have lost names by another disconnection.
            change = _Change(erlang.self_(), operations, {})
            await multi_call(SERVER, change, nodes=sorted(part.keys() - {end}))
            change = _Change(erlang.self_(), operations, {other: _creation(other)})
            await multi_call(SERVER, change, nodes=[end])


async def _reach(server: Pid, node: str, creation: int) -> None:
    if not await net_kernel.connect_node(node):
        erlang.send(server, _Forget(node, creation))


def _creation(name: str) -> int:
    node = current_engine().node
    if node is None:
        return 0
    return node.creation if name == node.name else node.connection(name).creation


def _is_cluster() -> bool:
    node = current_engine().node
    return node is not None and node.config.connect_all


def _server() -> GlobalNameServer:
    cell = current_engine().names.get(SERVER)
    if cell is None:
        raise Error("badarg")
    return cell.actor


async def start_link() -> Pid | None:
    """Starts this node's server."""
    return await GlobalNameServer.start_link(name=SERVER)


async def register_name(name: str, pid: Pid, resolver: str = "random_exit_name") -> str:
    """`global:register_name/3`: `"yes"`, or `"no"` if the name is taken or the process has another one.

    A dead pid may be registered; the name is freed at once. `resolver` is a key of `RESOLVERS`, the same on all nodes.
    """

    async def register(nodes: Iterable[str]) -> str:
        if whereis_name(name) is not None or any(entry[0] is pid for entry in _server().names.values()):
            return "no"
        await _apply(nodes, name, pid, resolver)
        return "yes"

    return await _transaction(register)


async def re_register_name(name: str, pid: Pid, resolver: str = "random_exit_name") -> str:
    """`global:re_register_name/3`: moves the name to `pid` without a notification."""

    async def register(nodes: Iterable[str]) -> str:
        await _apply(nodes, name, pid, resolver)
        return "yes"

    return await _transaction(register)


async def unregister_name(name: str) -> None:
    """`global:unregister_name/1`: any process may call it."""

    async def unregister(nodes: Iterable[str]) -> str:
        await _apply(nodes, name, None, "")
        return "ok"

    if whereis_name(name) is not None:
        await _transaction(unregister)


async def _apply(nodes: Iterable[str], name: str, pid: Pid | None, resolver: str) -> None:
    change = _Change(erlang.self_(), [(name, pid, resolver)], {})
    await multi_call(SERVER, change, nodes=sorted(nodes))


async def _transaction(step: Callable[[Iterable[str]], Awaitable[str]]) -> str:
    async def checked() -> str | None:
        # Nodes that became known while we waited for the lock must get the change as well.
        return await step(nodes) if nodes.keys() >= _server().with_known().keys() else None

    while True:
        nodes = _server().with_known()
        done = await under_lock(list(nodes), checked)
        if done is not None:
            return done


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
    """`global:send/2`. Raises Exit(("badarg", (name, message))) if the name is not registered."""
    pid = whereis_name(name)
    if pid is None:
        raise Exit(("badarg", (name, message)))
    erlang.send(pid, message)
    return pid
