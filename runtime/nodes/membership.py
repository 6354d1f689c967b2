"""Connected nodes: `monitor_node`, `monitor_nodes`, the full mesh, prevention of overlapping partitions.

Sources: `erlang:monitor_node/2`, `net_kernel:monitor_nodes/2`, and `global`'s `connect_all` and
`prevent_overlapping_partitions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.core.modes import DEAD
from runtime.core.process import Cell

if TYPE_CHECKING:
    from runtime.core.pid import Pid
    from runtime.nodes.node import Node

Options = tuple[str, ...] | None


class Membership:
    """The subscriptions to `nodeup` and `nodedown` on one node, and its part in keeping the mesh."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._node_monitors: dict[str, list[Cell]] = {}
        self._subscribers: list[tuple[Cell, Options]] = []
        self._hooked: set[Cell] = set()  # processes whose subscriptions are removed when they end

    # ---- subscriptions

    def monitor_node(self, cell: Cell, name: str, flag: bool) -> None:
        """`erlang:monitor_node/2`: each True adds one `("nodedown", name)` message, each False removes one."""
        monitors = self._node_monitors.setdefault(name, [])
        if not flag:
            if cell in monitors:
                monitors.remove(cell)
            return
        if name == self._node.name:
            return
        self._hook(cell)
        monitors.append(cell)
        connection = self._node.connection(name)
        if connection.is_up:
            return
        if not self._node.config.auto_connect:
            self._fire_node_monitors(name)
        else:
            connection.connect()

    def monitor_nodes(self, cell: Cell, flag: bool, options: Options) -> None:
        """`net_kernel:monitor_nodes/1,2`: each True adds a copy of every message, False removes all."""
        if flag:
            self._hook(cell)
            self._subscribers.append((cell, options))
        else:
            self._subscribers = [one for one in self._subscribers if one != (cell, options)]

    def _hook(self, cell: Cell) -> None:
        if cell not in self._hooked:
            self._hooked.add(cell)
            cell.on_exit(self._forget)

    def _forget(self, pid: Pid) -> None:
        self._hooked.discard(pid.cell)
        self._subscribers = [one for one in self._subscribers if one[0] is not pid]
        for name, monitors in list(self._node_monitors.items()):
            self._node_monitors[name] = [cell for cell in monitors if cell is not pid]

    # ---- events

    def up(self, name: str) -> None:
        """A connection is up: subscribers are notified before the first message over it is delivered."""
        self._notify("nodeup", name, ())
        if self._node.config.connect_all:
            others = [other for other in self._node.nodes() if other != name]
            self._node.connection(name).send_nodes(others)

    def down(self, name: str, reason: str, was_up: bool) -> None:
        """A connection is lost, or (`was_up` False) could not be made."""
        self._fire_node_monitors(name)
        if not was_up:
            return
        self._notify("nodedown", name, (("nodedown_reason", reason),))
        config = self._node.config
        if config.connect_all and config.prevent_overlapping_partitions:
            for other in self._node.nodes():
                self._node.connection(other).send_lost(name)

    def _fire_node_monitors(self, name: str) -> None:
        for cell in self._node_monitors.pop(name, ()):
            cell.deliver(("nodedown", name))

    def _notify(self, what: str, name: str, info: tuple[tuple[str, str], ...]) -> None:
        for cell, options in list(self._subscribers):
            if cell.execution.mode == DEAD:
                continue
            message: tuple[Any, ...] = (what, name)
            if options is not None:
                message = (what, name, [item for item in info if item[0] in options])
            cell.deliver(message)

    # ---- the mesh

    def discovered(self, names: list[str]) -> None:
        """Connects to `names`, the nodes that a connected node is connected to."""
        if self._node.config.connect_all:
            for name in names:
                if name != self._node.name and not self._node.connection(name).is_up:
                    self._node.connection(name).connect()

    def lost_elsewhere(self, by: str, name: str) -> None:
        """`by` has lost `name`, which has ended or is cut off from `by`. If we are connected to it, a probe decides."""
        if self._node.config.prevent_overlapping_partitions and self._node.connection(name).is_up:
            self._node.connection(name).send_probe(by)

    def partitioned(self, by: str, name: str) -> None:
        """`name` has answered the probe, though `by` has lost it. Disconnects both rather than bridge the partition.

        OTP's `global` has both of them disconnect: `nodedown_reason` is "disconnect" there, "connection_closed" here.
        """
        ends = (self._node.connection(name), self._node.connection(by))
        if all(connection.is_up for connection in ends):
            for connection in ends:
                connection.disconnect(as_other=True)
