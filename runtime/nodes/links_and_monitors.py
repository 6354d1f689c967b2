"""The links and monitors over one connection, in both directions; they end with it.

A call, and a request to spawn a process, is a monitor that may get a reply. This module only keeps the tables; the connection
sends the signals.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from runtime.core.process import Cell
from runtime.nodes.remote import RemotePid, tie
from runtime.otp.gen import TerminateRequest


class LinksAndMonitors:
    """The tables of links, of local monitors of remote processes, and of remote monitors of local processes.

    Monitors are identified by numbers: local ones by numbers from `next_number`, remote ones by numbers of the other node.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[Cell, RemotePid], None] = {}
        self._last_number = 0
        self._monitors: dict[int, Any] = {}  # number -> local monitor, call or spawn request
        self._numbers: dict[Any, int] = {}  # the inverse of `_monitors`
        self._terminates: WeakValueDictionary[int, TerminateRequest] = WeakValueDictionary()
        self._watches: dict[int, tuple[Cell, Any]] = {}  # remote monitors of local processes

    def lost(self) -> None:
        """Fires all of them with `noconnection`: links first, as EXIT comes before DOWN."""
        links, self._links = self._links, {}
        monitors, self._monitors, self._numbers = self._monitors, {}, {}
        watches, self._watches = self._watches, {}
        for cell, watch in watches.values():
            cell.drop_monitor(watch)
        for cell, remote in links:
            cell.exit_signal(remote, "noconnection", True)
        for monitor in monitors.values():
            monitor.fire(getattr(monitor, "target", None), "noconnection")

    # ---- links

    def link(self, cell: Cell, remote: RemotePid) -> bool:
        """Adds a link. Returns False if the processes are linked already."""
        if (cell, remote) in self._links:
            return False
        self._links[cell, remote] = None
        tie(cell, remote)
        return True

    def unlink(self, cell: Cell, remote: RemotePid) -> bool:
        """Removes a link here; the caller removes it from `cell`. Returns False if there is none."""
        return self._links.pop((cell, remote), self) is None

    # ---- local monitors of remote processes

    def next_number(self) -> int:
        """A number that is not in use."""
        self._last_number += 1
        return self._last_number

    def monitor(self, number: int, monitor: Any) -> None:
        """Adds a monitor, until it is fired, answered or withdrawn."""
        self._monitors[number] = monitor
        self._numbers[monitor] = number

    def answered(self, number: int) -> Any:
        """Removes and returns the monitor of this number; None if it was withdrawn."""
        monitor = self._monitors.pop(number, None)
        if monitor is not None:
            del self._numbers[monitor]
        return monitor

    def withdraw(self, monitor: Any) -> int | None:
        """Removes a monitor and returns its number; None if there is none."""
        number = self._numbers.pop(monitor, None)
        if number is not None:
            del self._monitors[number]
        return number

    def fire(self, number: int, reason: Any) -> None:
        """Fires the monitor of this number: the process has ended, or the request has failed."""
        monitor = self.answered(number)
        if monitor is not None:
            monitor.fire(getattr(monitor, "target", None), reason)

    def terminating(self, request: TerminateRequest) -> int:
        """The number under which `request` will be acknowledged. It is kept by a weak reference: no reply may come."""
        number = self.next_number()
        self._terminates[number] = request
        return number

    def acknowledged(self, number: int) -> None:
        """The remote process has accepted the request to terminate."""
        request = self._terminates.pop(number, None)
        if request is not None:
            request.accepted = True

    # ---- remote monitors of local processes

    def watch(self, cell: Cell, number: int, watch: Any) -> None:
        """Adds a remote monitor: `watch` is fired when `cell` ends."""
        self._watches[number] = (cell, watch)
        cell.add_monitor(watch)

    def unwatch(self, number: int) -> None:
        """Removes a remote monitor."""
        watched = self._watches.pop(number, None)
        if watched is not None:
            cell, watch = watched
            cell.drop_monitor(watch)

    def watched_ended(self, number: int) -> None:
        """A remote monitor has fired: forgets it."""
        self._watches.pop(number, None)
