"""Proxies of processes on other nodes, by pid or by registered name.

They have the methods by which a `Cell` receives signals (`deliver`, `exit_signal`, links, monitors), and send the signals over
the connection. So the code for local processes does not know about nodes, and is not slowed down by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from runtime.core.control_block import ExecutionState, Relations
from runtime.core.pid import Pid, Ref
from runtime.core.small_set import including, without

if TYPE_CHECKING:
    from runtime.core.engine import Engine
    from runtime.core.process import Cell
    from runtime.nodes.connection import Connection
    from runtime.nodes.node import Node


class Remote(Pid):
    """A process on the node `node_name`. `address` is its number or registered name there."""

    __slots__ = ("address", "creation", "home", "node_name")

    # Read by code that looks up names and parents, which a remote process does not have.
    relations: ClassVar[Relations] = Relations(0, shared=True)

    def __init__(self, home: Node, node_name: str, creation: int | None, address: int | str) -> None:
        self.home = home  # the local node
        self.node_name = node_name
        self.creation = creation  # None: the current incarnation
        self.address = address

    @property
    def connection(self) -> Connection:
        """The connection to its node."""
        return self.home.connection(self.node_name)

    @property
    def execution(self) -> ExecutionState:
        """The shared execution state of remote processes, which count as alive and belong to the local engine."""
        return self.home.remote_execution

    @property
    def engine(self) -> Engine:
        return self.home.engine

    @property
    def pid(self) -> Pid:
        return self

    # ---- the receiving side of a Cell

    def deliver(self, message: Any) -> bool:
        """Sends a message; it is lost if the node cannot be reached. Raises TypeError for what cannot be encoded."""
        self.connection.send(self, message)
        return True

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """Sends an exit signal: of `exit/2`, or, with `linked`, of the exit of a linked local process."""
        if linked:
            self.connection.linked_exit(self, source, reason)
        else:
            self.connection.exit(self, source, reason)

    def link(self, other: Cell) -> None:
        """Links it with a local process, which gets an EXIT signal if that fails."""
        self.connection.link_up(self, other)

    def unlink_from(self, other: Cell) -> None:
        """`other`, a local process, has removed its side of the link."""
        self.connection.unlink(self, other)

    def add_monitor(self, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once: if the process ends, does not exist, or its node is lost."""
        self.connection.monitor(self, monitor)

    def drop_monitor(self, monitor: Any) -> None:
        """Undoes `add_monitor`."""
        self.connection.demonitor(monitor)


class RemotePid(Remote):
    """The pid of a process on another node, or on an earlier incarnation of this one. Unique per process on each node."""

    __slots__ = ()

    @property
    def id(self) -> int:
        """The process's number on its own node."""
        assert isinstance(self.address, int)
        return self.address

    def __str__(self) -> str:
        return f"<{self.node_name}.{self.creation}.{self.address}>"

    __repr__ = __str__


class RemoteName(Remote):
    """`{Name, Node}`, as a destination."""

    __slots__ = ()

    @property
    def is_connected(self) -> bool:
        return self.connection.is_up

    def __str__(self) -> str:
        return f"{{{self.address}, {self.node_name}}}"

    __repr__ = __str__


class RemoteRef(Ref):
    """A reference created on another node, unique per reference on each node. As a destination it is an alias."""

    __slots__ = ("address", "creation", "home", "node_name")
    is_external: ClassVar[bool] = True

    def __init__(self, home: Node, node_name: str, creation: int, number: int) -> None:
        super().__init__()
        self.home = home
        self.node_name = node_name
        self.creation = creation
        self.address = number

    def deliver(self, message: Any) -> bool:
        """Sends a message to an alias on the other node."""
        self.home.connection(self.node_name).send_alias(self.creation, self.address, message)
        return True

    def __repr__(self) -> str:
        return f"#Ref<{self.node_name}.{self.creation}.{self.address}>"


def tie(cell: Cell, remote: Remote) -> None:
    """Adds the local side of a link."""
    relations = cell.own_relations()
    relations.links = including(relations.links, remote)


def untie(cell: Cell, remote: Remote) -> None:
    """Removes the local side of a link."""
    if remote in cell.relations.links:
        cell.relations.links = without(cell.relations.links, remote)
