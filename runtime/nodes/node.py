"""A node: an engine that is one of several, with a name, an incarnation and connections to the others.

`Node(engine, "a@host", fabric, secret).start()` makes the engine a node; `engine.node` is it then. An engine without
one is Erlang's `nonode@nohost`: it has no others, and nothing of this room runs.

The node knows pids and references by their names on the wire, `(node, creation, number)`, and keeps one object for
each, as long as somebody here holds it.
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
EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What Erlang's kernel application has as settings. `net_ticktime` in seconds: a node silent for so long is given up.

    `announce`: on the fabric's coming up all others are told of this node, and connect to it.
    """

    net_ticktime: float = 12.0
    auto_connect: bool = True
    connect_all: bool = True
    prevent_overlapping_partitions: bool = False
    announce: bool = True


class Node:
    """One node on a fabric. Its functions act at once; what they lead to comes as frames, messages and signals."""

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
        self._sessions: dict[bytes, Connection] = {}
        self._pids: WeakValueDictionary[tuple[str, int, int], Pid] = WeakValueDictionary()
        self._refs: WeakValueDictionary[tuple[str, int, int], Ref] = WeakValueDictionary()
        self._ref_numbers: WeakKeyDictionary[Ref, int] = WeakKeyDictionary()
        self._next_ref = 0
        self._ticker: Timer | None = None

    # ---- life

    def start(self) -> Node:
        """Joins the fabric. Raises RuntimeError if the engine is a node already."""
        if self.engine.node is not None:
            raise RuntimeError(f"the engine is the node {self.engine.node_name} already")
        self.engine.node = self
        self.engine.node_name = self.name
        self.fabric.subscribe(self.name, self)
        self._tick()
        return self

    def stop(self) -> None:
        """Leaves: the other nodes are notified at once, and so are processes here that are linked to or monitor theirs."""
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

    # ---- the fabric's side

    def up(self) -> None:
        """Frames can be sent: the node makes itself known."""
        if self.config.announce:
            self.fabric.publish(None, links.sealed(self.key, ANNOUNCE, [self.name, EVERYBODY, self.creation]))

    def down(self) -> None:
        """Nothing to do: links notice what they lose."""

    def received(self, frame: bytes) -> None:
        """A frame from another node. What is not authentic is dropped."""
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

    def nobody(self, node: str) -> None:
        """The fabric knows that `node` is not there."""
        connection = self._connections.get(node)
        if connection is not None:
            connection.nobody()

    def connected(self, connection: Connection, session: bytes) -> None:
        """A connection is up."""
        self._sessions = {key: one for key, one in self._sessions.items() if one is not connection}
        self._sessions[session] = connection
        self.membership.up(connection.name)

    def disconnected(self, connection: Connection, reason: str, was_up: bool) -> None:
        """A connection is over, or could not be made."""
        self._sessions = {key: one for key, one in self._sessions.items() if one is not connection}
        self.membership.down(connection.name, reason, was_up)

    # ---- other nodes

    def connection(self, name: str) -> Connection:
        """What there is between this node and another; it need not be up."""
        connection = self._connections.get(name)
        if connection is None:
            connection = self._connections[name] = Connection(self, name)
        return connection

    def connections(self) -> list[Connection]:
        """Those that are up, by name."""
        return sorted((one for one in self._connections.values() if one.is_up), key=lambda one: one.name)

    def nodes(self) -> list[str]:
        """`erlang:nodes/0`, sorted."""
        return [connection.name for connection in self.connections()]

    def reaches(self, name: str) -> bool:
        """Whether what is sent to the node goes over a connection that is up or is being made."""
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
        """`{Name, Node}`: whoever has the name there; None if it is this node, and nobody has it."""
        if node == self.name:
            return self.engine.names.get(name)
        return RemoteName(self, node, None, name)

    def send_to_others(self, name: str, message: Any) -> None:
        """To the processes of this name on all connected nodes, encoded once. Raises TypeError for what cannot travel."""
        connections = self.connections()
        if connections:
            request = encoded_for_name(self.codec, name, message)
            for connection in connections:
                connection.send_encoded(request)

    def whereis_global(self, name: str) -> Pid | None:
        """`{global, Name}`: whoever has the name in the whole cluster."""
        return None if self.global_names is None else self.global_names.whereis_name(name)

    # ---- names on the wire

    def name_of_pid(self, pid: Pid) -> tuple[str, int, int]:
        """`(node, creation, number)`."""
        if isinstance(pid, RemotePid):
            assert isinstance(pid.address, int) and pid.creation is not None
            return (pid.node_name, pid.creation, pid.address)
        if isinstance(pid, Remote):
            raise TypeError("a name on another node is a destination, not a term")
        name = (self.name, self.creation, pid.id)
        self._pids[name] = pid  # it may come back when it is dead
        return name

    def pid_named(self, node: str, creation: int, number: int) -> Pid:
        """The one object for this process."""
        name = (node, creation, number)
        pid = self._pids.get(name)
        if pid is None:
            if node == self.name and creation == self.creation:
                pid = self.engine.table.get(number) or self._dead(number)
            pid = self._pids[name] = pid or RemotePid(self, node, creation, number)
        return pid

    def _dead(self, number: int) -> Cell:
        # Nobody here remembers it, but it is a process of this node, and whoever asks is to hear noproc.
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
        """The one object for this reference."""
        name = (node, creation, number)
        ref = self._refs.get(name)
        if ref is None:
            ref = self._refs[name] = RemoteRef(self, node, creation, number)
        return ref

    def deliver_to_alias(self, number: int, message: Any) -> None:
        """A message to an alias that was made here; one that is over swallows it."""
        ref = self._refs.get((self.name, self.creation, number))
        if ref is not None:
            ref.deliver(message)

    # ---- processes for other nodes

    def export(
        self, name: str, function: Callable[..., Any], process: type[FunctionProcess] = FunctionProcess
    ) -> None:
        """Lets other nodes spawn processes that run this function, and call it by `erpc`.

        Raises Error("badarg") if the name is taken.
        """
        if name in self.exports:
            raise Error("badarg")
        self.exports[name] = (function, process)

    def name_of_function(self, function: Callable[..., Any]) -> str | None:
        """The name under which it is exported, if it is: Erlang's `fun Module:Function/Arity`."""
        return next((name for name, (one, _) in self.exports.items() if one == function), None)

    def function_named(self, name: str) -> Callable[..., Any] | None:
        """What is exported under this name; None if nothing is."""
        exported = self.exports.get(name)
        return None if exported is None else exported[0]

    def spawn_exported(self, name: str, args: tuple[Any, ...], parent: Pid | None) -> Cell:
        """A process of this node whose parent is elsewhere."""
        body, process = self.exports[name]
        cell = self.engine.spawn_actor(process(body, args))
        if parent is not None:
            cell.own_relations().parent = parent
        return cell
