"""Links and monitors (`erlang:link/1`, `erlang:monitor/2`).

Both processes of a link refer to each other, and so do the owner and the target of a monitor. `Exiting.terminate` sends signals
over them; `Exiting.exit_signal` and `Monitor.fire` receive these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.core.control_block import RareState, Relations
from runtime.core.pid import Pid
from runtime.core.signals import Monitor
from runtime.core.small_set import including, without

if TYPE_CHECKING:
    from runtime.core.process import Cell


class Linked(Pid):
    """The part of a `Cell` that holds its links and monitors."""

    __slots__ = ("relations",)

    if TYPE_CHECKING:
        relations: Relations

    def own_relations(self) -> Relations:
        """Its own `Relations`, for writing."""
        relations = self.relations
        if relations.shared:
            self.relations = relations = Relations(relations.page)
        return relations

    def own_rare(self) -> RareState:
        """Its own rare state, for writing."""
        relations = self.own_relations()
        if relations.rare is None:
            relations.rare = RareState()
        return relations.rare

    def tidy_rare(self) -> None:
        """Drops its rare state if no field is set any more."""
        rare = self.relations.rare
        if rare is not None and rare.blank():
            self.relations.rare = None

    def link(self, other: Cell) -> None:
        """Links two living processes; nothing changes if they are linked."""
        relations = self.relations
        if relations.shared:
            relations = self.own_relations()
        relations.links = including(relations.links, other)
        relations = other.relations
        if relations.shared:
            relations = other.own_relations()
        relations.links = including(relations.links, self)

    def unlink(self, pid: Pid) -> None:
        """Removes the link on both sides; no exit signal arrives over it any more."""
        other = pid.cell
        if other in self.relations.links:
            self.relations.links = without(self.relations.links, other)
            other.unlink_from(self)

    def unlink_from(self, other: Linked) -> None:
        """Removes this side of a link that `other` has removed."""
        self.relations.links = without(self.relations.links, other)

    def monitor(self, target: Cell, name: str | tuple[str, str] | None = None) -> Monitor:
        """Creates a monitor of `target` that this process owns."""
        return self.monitored(Monitor(self, target, name), target)  # type: ignore[arg-type]

    def monitored(self, monitor: Monitor, target: Cell) -> Monitor:
        """As `monitor`, with an existing monitor."""
        relations = self.relations
        if relations.shared:
            relations = self.own_relations()
        relations.monitors = including(relations.monitors, monitor)
        target.add_monitor(monitor)
        return monitor

    def drop(self, monitor: Any) -> None:
        """Removes a monitor, or a pending request, that it owns."""
        relations = self.relations
        if relations.monitors:
            relations.monitors = without(relations.monitors, monitor)

    def add_monitor(self, monitor: Any) -> None:
        """Adds a Watcher: `monitor.fire(pid, reason)` is called once, when this process ends."""
        relations = self.relations
        if relations.shared:
            relations = self.own_relations()
        relations.monitored_by = including(relations.monitored_by, monitor)

    def drop_monitor(self, monitor: Any) -> None:
        """Undoes `add_monitor`."""
        relations = self.relations
        if relations.monitored_by:
            relations.monitored_by = without(relations.monitored_by, monitor)
            page = relations.page
            if relations.blank() and not isinstance(page, int):
                self.relations = page.shared()

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """Calls `hook(pid)` when this process ends, before links and monitors are notified (for Registry and PubSub)."""
        relations = self.relations
        if relations.shared:
            relations = self.own_relations()
        if relations.exit_hooks is None:
            relations.exit_hooks = [hook]
        else:
            relations.exit_hooks.append(hook)
