"""Links and monitors: what binds one process to others (`erlang:link/1`, `erlang:monitor/2`).

Both sides of a link know each other, the owner and the target of a monitor as well. What comes over them when a process ends
is `Cell.terminate`'s affair, what it does to those who hear of it `Cell.exit_signal`'s and the monitor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.core.control_block import Ties, including, without
from runtime.core.pid import Pid, Ref
from runtime.core.signals import Monitor

if TYPE_CHECKING:
    from runtime.core.process import Cell


class Linked(Pid):
    """A process as others are bound to it: the part of a `Cell` that holds its `Ties`."""

    __slots__ = ("ties",)

    if TYPE_CHECKING:
        ties: Ties

    def own_ties(self) -> Ties:
        """Its `Ties`, to be written to."""
        ties = self.ties
        if ties.shared:
            self.ties = ties = Ties(ties.page)
        return ties

    def own_extra(self) -> dict[str, Any]:
        """The rare state in its `Ties`, to be written to."""
        ties = self.own_ties()
        if ties.extra is None:
            ties.extra = {}
        return ties.extra

    def link(self, other: Cell) -> None:
        """Makes the one link there may be between two living processes."""
        ties = self.own_ties()
        ties.links = including(ties.links, other)
        ties = other.own_ties()
        ties.links = including(ties.links, self)

    def unlink(self, pid: Pid) -> None:
        """Removes the link on both sides; no EXIT comes from it any more."""
        other = pid.cell
        if other in self.ties.links:
            self.ties.links = without(self.ties.links, other)
            other.ties.links = without(other.ties.links, self)

    def monitor(self, target: Cell, name: str | None = None) -> Monitor:
        """A new monitor of `target`, owned by this process."""
        monitor = Monitor(self.cell, target, name)
        ties = self.own_ties()
        ties.monitors = including(ties.monitors, monitor)
        target.add_monitor(monitor)
        return monitor

    def drop(self, monitor: Ref) -> None:
        """A monitor of its own is over."""
        ties = self.ties
        if ties.monitors:
            ties.monitors = without(ties.monitors, monitor)

    def add_monitor(self, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once, when this process ends."""
        ties = self.own_ties()
        ties.monitored_by = including(ties.monitored_by, monitor)

    def drop_monitor(self, monitor: Any) -> None:
        """Takes back `add_monitor`."""
        ties = self.ties
        if ties.monitored_by:
            ties.monitored_by = without(ties.monitored_by, monitor)
            page = ties.page
            if ties.blank() and not isinstance(page, int):
                self.ties = page.shared()

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """`hook(pid)` runs the moment this process ends, before any other process hears of it (Registry, PubSub)."""
        ties = self.own_ties()
        if ties.exit_hooks is None:
            ties.exit_hooks = []
        ties.exit_hooks.append(hook)
