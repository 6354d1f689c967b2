"""The links and monitors that one connection carries, in both directions; they end with it.

A call is a monitor that may be answered, and so is the request to spawn a process. Nothing here sends: the connection does.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from runtime.core.process import Cell
from runtime.nodes.remote import RemotePid, tie
from runtime.otp.gen import TerminateRequest


class LinksAndMonitors:
    """Which processes here are linked with which there, who here waits for one there, and whom here they monitor.

    Numbers name what waits: this node's own (`next_number`), or, in `watch`, those that the other node has given.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[Cell, RemotePid], None] = {}
        self._last_number = 0
        self._monitors: dict[int, Any] = {}  # number -> monitor, call, ... here that waits for one there
        self._numbers: dict[Any, int] = {}  # the other way round
        self._terminates: WeakValueDictionary[int, TerminateRequest] = WeakValueDictionary()
        self._watches: dict[int, tuple[Cell, Any]] = {}  # of theirs on ours

    def lost(self) -> None:
        """All are over, with `noconnection`. The links first, as EXIT comes before DOWN."""
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
        """False if they are linked already."""
        if (cell, remote) in self._links:
            return False
        self._links[cell, remote] = None
        tie(cell, remote)
        return True

    def unlink(self, cell: Cell, remote: RemotePid) -> bool:
        """The link no longer depends on the connection; the process's own side of it is the caller's. False if there is none."""
        return self._links.pop((cell, remote), self) is None

    # ---- of processes here on processes there

    def next_number(self) -> int:
        """One that names nothing yet."""
        self._last_number += 1
        return self._last_number

    def monitor(self, number: int, monitor: Any) -> None:
        """`monitor` waits until it is fired, answered or withdrawn."""
        self._monitors[number] = monitor
        self._numbers[monitor] = number

    def answered(self, number: int) -> Any:
        """The monitor of this number, which waits no longer; None if it was withdrawn."""
        monitor = self._monitors.pop(number, None)
        if monitor is not None:
            del self._numbers[monitor]
        return monitor

    def withdraw(self, monitor: Any) -> int | None:
        """Takes back `monitor`, and returns its number; None if it does not wait."""
        number = self._numbers.pop(monitor, None)
        if number is not None:
            del self._monitors[number]
        return number

    def fire(self, number: int, reason: Any) -> None:
        """What the monitor of this number waits for has ended, or cannot be."""
        monitor = self.answered(number)
        if monitor is not None:
            monitor.fire(getattr(monitor, "target", None), reason)

    def terminating(self, request: TerminateRequest) -> int:
        """The number under which `request` will be acknowledged. Nobody waits for it here: it is forgotten with the request."""
        number = self.next_number()
        self._terminates[number] = request
        return number

    def acknowledged(self, number: int) -> None:
        """The process there has taken the request to terminate."""
        request = self._terminates.pop(number, None)
        if request is not None:
            request.accepted = True

    # ---- of processes there on processes here

    def watch(self, cell: Cell, number: int, watch: Any) -> None:
        """`watch` is fired when `cell` ends."""
        self._watches[number] = (cell, watch)
        cell.add_monitor(watch)

    def unwatch(self, number: int) -> None:
        """Takes back `watch`."""
        watched = self._watches.pop(number, None)
        if watched is not None:
            cell, watch = watched
            cell.drop_monitor(watch)

    def watched_ended(self, number: int) -> None:
        """The watch has fired."""
        self._watches.pop(number, None)
