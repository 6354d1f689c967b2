"""Links and monitors: what binds one process to others (`erlang:link/1`, `erlang:monitor/2`).

Both sides of a link know each other, the owner and the target of a monitor as well. What comes over them when a process ends
is `Cell.terminate`'s affair, what it does to those who hear of it `Cell.exit_signal`'s and the monitor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.core.control_block import RareState, Relations
from runtime.core.pid import Pid, Ref
from runtime.core.signals import Monitor
from runtime.core.small_set import including, without

if TYPE_CHECKING:
    from runtime.core.process import Cell


class Linked(Pid):
    """A process as others are bound to it: the part of a `Cell` that holds its `Relations`."""

    __slots__ = ("relations",)

    if TYPE_CHECKING:
        relations: Relations

    def own_relations(self) -> Relations:
        """Its `Relations`, to be written to."""
        relations = self.relations
        if relations.shared:
            self.relations = relations = Relations(relations.page)
        return relations

    def own_rare(self) -> RareState:
        """The rare state in its `Relations`, to be written to."""
        relations = self.own_relations()
        if relations.rare is None:
            relations.rare = RareState()
        return relations.rare

    def tidy_rare(self) -> None:
        """A part of its rare state was taken away: without the last there is none."""
        rare = self.relations.rare
        if rare is not None and rare.blank():
            self.relations.rare = None

    def link(self, other: Cell) -> None:
        """Makes the one link there may be between two living processes."""
        relations = self.own_relations()
        relations.links = including(relations.links, other)
        relations = other.own_relations()
        relations.links = including(relations.links, self)

    def unlink(self, pid: Pid) -> None:
        """Removes the link on both sides; no EXIT comes from it any more."""
        other = pid.cell
        if other in self.relations.links:
            self.relations.links = without(self.relations.links, other)
            other.unlink_from(self)

    def unlink_from(self, other: Linked) -> None:
        """`other` has taken back its side of the link."""
        self.relations.links = without(self.relations.links, other)

    def monitor(self, target: Cell, name: str | tuple[str, str] | None = None) -> Monitor:
        """A new monitor of `target`, owned by this process."""
        return self.monitored(Monitor(self.cell, target, name), target)

    def monitored(self, monitor: Monitor, target: Cell) -> Monitor:
        """As `monitor`, with a monitor that is made already."""
        relations = self.own_relations()
        relations.monitors = including(relations.monitors, monitor)
        target.add_monitor(monitor)
        return monitor

    def drop(self, monitor: Ref) -> None:
        """A monitor of its own is over."""
        relations = self.relations
        if relations.monitors:
            relations.monitors = without(relations.monitors, monitor)

    def add_monitor(self, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once, when this process ends."""
        relations = self.own_relations()
        relations.monitored_by = including(relations.monitored_by, monitor)

    def drop_monitor(self, monitor: Any) -> None:
        """Takes back `add_monitor`."""
        relations = self.relations
        if relations.monitored_by:
            relations.monitored_by = without(relations.monitored_by, monitor)
            page = relations.page
            if relations.blank() and not isinstance(page, int):
                self.relations = page.shared()

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """`hook(pid)` runs the moment this process ends, before any other process hears of it (Registry, PubSub)."""
        relations = self.own_relations()
        if relations.exit_hooks is None:
            relations.exit_hooks = []
        relations.exit_hooks.append(hook)
