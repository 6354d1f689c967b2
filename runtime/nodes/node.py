"""A node: an engine with a name, a creation (its incarnation) and connections to other nodes.

`Node(engine, "a@host", fabric, secret).start()` makes an engine a node and sets `engine.node`. An engine without a node is
Erlang's `nonode@nohost`, and runs none of this package's code.

The node maps pids and references to their external names `(node, creation, number)`, and keeps exactly one object for each as
long as it is referenced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from runtime.core.actor import FunctionProcess
from runtime.core.control_block import ExecutionState, Relations
from runtime.core.engine import Engine
from runtime.core.exits import Error
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply
from runtime.core.signals import NODE
from runtime.core.timers import Timer
from runtime.nodes import erpc
from runtime.nodes import link as links
from runtime.nodes.codec import Codec
from runtime.nodes.connection import Connection, encoded_for_name
from runtime.nodes.fabric import Fabric
from runtime.nodes.membership import Membership
from runtime.nodes.remote import Remote, RemoteName, RemotePid, RemoteRef

ANNOUNCE: Final = b"N"
ALL_NODES: Final = "*"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of Erlang's kernel application, by their names there.

    `net_ticktime` is in seconds: a node that is silent for so long is disconnected. `announce` (an addition): when the fabric
    comes up, this node announces itself, and the others connect to it.
    """

    net_ticktime: float = 12.0
    auto_connect: bool = True
    connect_all: bool = True
    prevent_overlapping_partitions: bool = False
    announce: bool = True


class Node:
    """One node on a fabric. Its methods do not block."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        fabric: Fabric,
        secret: bytes,
        *,
        creation: int | None = None,
        config: NodeConfig | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.fabric = fabric
        self.key = links.cluster_key(secret)
        self.creation = creation or int.from_bytes(engine.unique_bytes(4), "big") or 1
        self.config = config or NodeConfig()
        self.codec = Codec(self)
        self.membership = Membership(self)
        self.exports: dict[str, tuple[Callable[..., Any], type[FunctionProcess]]] = {}
        for exported, function in erpc.EXPORTS.items():
            self.export(exported, function, erpc.Execution)
        self.global_names: Any = None  # the module `global_names`, once its server runs here
        self.stopped = False
        self.remote_execution = ExecutionState(engine, shared=True)
        self._connections: dict[str, Connection] = {}
        self._up: tuple[Connection, ...] = ()  # those that are up, by name
        self._sessions: dict[bytes, Connection] = {}
        self._pids: WeakValueDictionary[tuple[str, int, int], Pid] = WeakValueDictionary()
        self._refs: WeakValueDictionary[tuple[str, int, int], Ref] = WeakValueDictionary()
        self._ref_numbers: WeakKeyDictionary[Ref, int] = WeakKeyDictionary()
        self._next_ref = 0
        self._ticker: Timer | None = None

    # ---- start and stop

    def start(self) -> Node:
        """Joins the fabric. Raises RuntimeError if the engine already is a node."""
        if self.engine.node is not None:
            raise RuntimeError(f"the engine is the node {self.engine.node_name} already")
        self.engine.node = self
        self.engine.node_name = self.name
        self.fabric.subscribe(self.name, self)
        self._tick()
        return self

    def stop(self) -> None:
        """Disconnects from all nodes and leaves the fabric. Links and monitors fire with `noconnection` at once."""
        for connection in list(self._connections.values()):
            connection.disconnect()
        self.stopped = True
        if self._ticker is not None:
            self._ticker.cancel()
        self.fabric.unsubscribe()
        self.engine.node = None
        self.engine.node_name = NODE

    def _tick(self) -> None:
        for connection in list(self._connections.values()):
            connection.tick()
        if not self.stopped:
            self._ticker = self.engine.call_later(self.config.net_ticktime / 4, self._tick)

    # ---- FabricListener

    def up(self) -> None:
        """The fabric is connected: the node announces itself."""
        if self.config.announce:
            self.fabric.publish(None, links.sealed(self.key, ANNOUNCE, [self.name, ALL_NODES, self.creation]))

    def down(self) -> None:
        """Does nothing: links notice lost frames."""

    def received(self, frame: bytes) -> None:
        """Handles a frame from another node; drops one that is not authentic."""
        if self.stopped:
            return
        kind = frame[:1]
        if kind in links.HANDSHAKES or kind == ANNOUNCE:
            fields = links.read_handshake(self.key, frame)
            if fields is None or fields[0] == self.name:
                return
            if kind == ANNOUNCE:
                self.membership.discovered([fields[0]])
            elif fields[1] == self.name:
                self.connection(fields[0]).received_handshake(kind, fields)
            return
        connection = self._sessions.get(links.session_of(frame))
        if connection is not None:
            connection.received(frame)

    def unreachable(self, node: str) -> None:
        """The fabric reports that `node` is not there."""
        connection = self._connections.get(node)
        if connection is not None:
            connection.unreachable()

    def connected(self, connection: Connection, session: bytes) -> None:
        """A connection is up."""
        self._sessions = {key: one for key, one in self._sessions.items() if one is not connection}
        self._sessions[session] = connection
        self.membership.up(connection.name)

    def disconnected(self, connection: Connection, reason: str, was_up: bool) -> None:
        """A connection is lost, or could not be made."""
        self._sessions = {key: one for key, one in self._sessions.items() if one is not connection}
        self.membership.down(connection.name, reason, was_up)

    # ---- other nodes

    def connection(self, name: str) -> Connection:
        """The connection to the node `name`, which need not be up."""
        connection = self._connections.get(name)
        if connection is None:
            connection = self._connections[name] = Connection(self, name)
        return connection

    def connections(self) -> tuple[Connection, ...]:
        """The connections that are up, by name."""
        return self._up

    def connections_changed(self) -> None:
        """A connection has come up or gone down; called before anybody is notified of it."""
        up = (connection for connection in self._connections.values() if connection.is_up)
        self._up = tuple(sorted(up, key=lambda one: one.name))

    def nodes(self) -> list[str]:
        """`erlang:nodes/0`, sorted."""
        return [connection.name for connection in self._up]

    def reaches(self, name: str) -> bool:
        """True if the connection to the node is up or being made."""
        connection = self._connections.get(name)
        return connection is not None and (connection.is_up or connection.link.is_being_made)

    def connect(self, name: str) -> PendingReply:
        """`net_kernel:connect_node/1`: True once connected (or for itself), False if it cannot be."""
        if name == self.name:
            reply = PendingReply()
            reply.resolve(True)
            return reply
        return self.connection(name).connect()

    def disconnect(self, name: str) -> bool:
        """`erlang:disconnect_node/1`: False if it was not connected."""
        connection = self._connections.get(name)
        return connection is not None and connection.disconnect()

    def destination(self, name: str, node: str) -> Pid | None:
        """`{Name, Node}`: the process registered there; None if the node is this one and the name is not registered."""
        if node == self.name:
            return self.engine.names.get(name)
        return RemoteName(self, node, None, name)

    def send_to_others(self, name: str, message: Any) -> None:
        """Sends to the processes of this name on all connected nodes. Raises TypeError for what cannot be encoded."""
        if self._up:
            request = encoded_for_name(self.codec, name, message)
            for connection in self._up:
                connection.send_encoded(request)

    def whereis_global(self, name: str) -> Pid | None:
        """`{global, Name}`: the process with this global name."""
        return None if self.global_names is None else self.global_names.whereis_name(name)

    # ---- external names

    def name_of_pid(self, pid: Pid) -> tuple[str, int, int]:
        """`(node, creation, number)`."""
        if isinstance(pid, RemotePid):
            assert isinstance(pid.address, int) and pid.creation is not None
            return (pid.node_name, pid.creation, pid.address)
        if isinstance(pid, Remote):
            raise TypeError("a name on another node is a destination, not a term")
        name = (self.name, self.creation, pid.id)
        self._pids[name] = pid  # it may be sent back after the process has ended
        return name

    def pid_named(self, node: str, creation: int, number: int) -> Pid:
        """The object for this process."""
        name = (node, creation, number)
        pid = self._pids.get(name)
        if pid is None:
            if node == self.name and creation == self.creation:
                pid = self.engine.table.get(number) or self._dead(number)
            pid = self._pids[name] = pid or RemotePid(self, node, creation, number)
        return pid

    def _dead(self, number: int) -> Cell:
        # A process of this node that has ended and was forgotten: a link or monitor must fire with noproc.
        cell = Cell.__new__(Cell)
        cell.actor, cell.execution, cell.relations = None, self.engine.dead, Relations(number)
        return cell

    def name_of_ref(self, ref: Ref) -> tuple[str, int, int]:
        """`(node, creation, number)`."""
        if isinstance(ref, RemoteRef):
            return (ref.node_name, ref.creation, ref.address)
        number = self._ref_numbers.get(ref)
        if number is None:
            self._next_ref += 1
            number = self._ref_numbers[ref] = self._next_ref
            self._refs[self.name, self.creation, number] = ref
        return (self.name, self.creation, number)

    def ref_named(self, node: str, creation: int, number: int) -> Ref:
        """The object for this reference."""
        name = (node, creation, number)
        ref = self._refs.get(name)
        if ref is None:
            ref = self._refs[name] = RemoteRef(self, node, creation, number)
        return ref

    def deliver_to_alias(self, number: int, message: Any) -> None:
        """Delivers a message to an alias of this node; drops it if the alias is not active any more."""
        ref = self._refs.get((self.name, self.creation, number))
        if ref is not None:
            ref.deliver(message)

    # ---- processes for other nodes

    def export(
        self, name: str, function: Callable[..., Any], process: type[FunctionProcess] = FunctionProcess
    ) -> None:
        """Allows other nodes to spawn processes that run this function and to call it by `erpc`.

        Raises Error("badarg") if the name is taken.
        """
        if name in self.exports:
            raise Error("badarg")
        self.exports[name] = (function, process)

    def name_of_function(self, function: Callable[..., Any]) -> str | None:
        """The name under which the function is exported, as in Erlang's `fun Module:Function/Arity`; None if it is not."""
        return next((name for name, (one, _) in self.exports.items() if one == function), None)

    def function_named(self, name: str) -> Callable[..., Any] | None:
        """The function exported under this name; None if there is none."""
        exported = self.exports.get(name)
        return None if exported is None else exported[0]

    def spawn_exported(self, name: str, args: tuple[Any, ...], parent: Pid | None) -> Cell:
        """Spawns a process for a parent on another node."""
        body, process = self.exports[name]
        cell = self.engine.spawn_actor(process(body, args))
        if parent is not None:
            cell.own_relations().parent = parent
        return cell
