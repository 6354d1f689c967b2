"""What stands for a process of another node: its pid, or its registered name there.

Both take what a `Cell` takes from others (`deliver`, `exit_signal`, links, monitors) and pass it on as signals over the
connection. So the paths between local processes know nothing of nodes, and pay nothing for them.
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
    """Somebody on the node `node_name`. `address` is how that node knows it: a number, or a registered name."""

    __slots__ = ("address", "creation", "home", "node_name")

    # Read by code that looks for a name or a parent; a remote process has none.
    relations: ClassVar[Relations] = Relations(0, shared=True)

    def __init__(self, home: Node, node_name: str, creation: int | None, address: int | str) -> None:
        self.home = home  # the node on which this object is
        self.node_name = node_name
        self.creation = creation  # None: whichever incarnation is there
        self.address = address

    @property
    def connection(self) -> Connection:
        """The way there, made if there is none."""
        return self.home.connection(self.node_name)

    @property
    def execution(self) -> ExecutionState:
        """That of somebody who lives, as far as we know; it leads to our own engine."""
        return self.home.remote_execution

    @property
    def engine(self) -> Engine:
        return self.home.engine

    @property
    def pid(self) -> Pid:
        return self

    # ---- what a Cell has as well

    def deliver(self, message: Any) -> bool:
        """Sends a message there; it is lost if it cannot be brought. Raises TypeError for what cannot travel."""
        self.connection.send(self, message)
        return True

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """Passes an exit signal on: of `exit/2`, or (`linked`) of the end of a process here."""
        if linked:
            self.connection.linked_exit(self, source, reason)
        else:
            self.connection.exit(self, source, reason)

    def link(self, other: Cell) -> None:
        """A link with a process of this node. If it cannot be, the process gets the EXIT signal that says so."""
        self.connection.link_up(self, other)

    def unlink_from(self, other: Cell) -> None:
        """`other` has taken back its side of the link."""
        self.connection.unlink(self, other)

    def add_monitor(self, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once: when it ends, if it is not there, if its node is lost."""
        self.connection.monitor(self, monitor)

    def drop_monitor(self, monitor: Any) -> None:
        """Takes back `add_monitor`."""
        self.connection.demonitor(monitor)


class RemotePid(Remote):
    """The pid of a process of another node, or of an earlier incarnation of this one. One object a process and node."""

    __slots__ = ()

    @property
    def id(self) -> int:
        """Its number on its own node."""
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
    """A reference made on another node. One object a reference and node; as a destination it is an alias."""

    __slots__ = ("address", "creation", "home", "node_name")
    is_external: ClassVar[bool] = True

    def __init__(self, home: Node, node_name: str, creation: int, number: int) -> None:
        super().__init__()
        self.home = home
        self.node_name = node_name
        self.creation = creation
        self.address = number

    def deliver(self, message: Any) -> bool:
        """A message to an alias of the other node."""
        self.home.connection(self.node_name).send_alias(self.creation, self.address, message)
        return True

    def __repr__(self) -> str:
        return f"#Ref<{self.node_name}.{self.creation}.{self.address}>"


def tie(cell: Cell, remote: Remote) -> None:
    """The local side of a link."""
    relations = cell.own_relations()
    relations.links = including(relations.links, remote)


def untie(cell: Cell, remote: Remote) -> None:
    """Takes back `tie`."""
    if remote in cell.relations.links:
        cell.relations.links = without(cell.relations.links, remote)
