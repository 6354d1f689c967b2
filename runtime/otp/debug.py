"""What `sys` records of a process: debug functions, statistics, and the log of recent events (`sys:dbg_opt()`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Literal, cast

from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.otp.exact_key import ExactDict
from runtime.otp.gen import Call


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """What `sys` traces: a message that a process has taken ("in") or a reply of its callback ("out").

    `message` is a `Call`, a `Cast`, any other message, or the value of a reply. `peer` is the caller; `at` is in
    ms of the engine's clock.
    """

    pid: Pid
    kind: Literal["in", "out"]
    message: Any
    peer: Pid | None
    at: float


Sink = Callable[[TraceEvent], Any] | Pid


class DebugFunction:
    """An installed sink; `left` is the number of events after which it is removed, None for no limit."""

    __slots__ = ("left", "sink")

    def __init__(self, sink: Sink, left: int | None) -> None:
        self.sink = sink
        self.left = left


class Debug:
    """Debug functions, statistics and log of one process; in its rare state while any of them is on."""

    __slots__ = ("installed", "log", "statistics")

    def __init__(self) -> None:
        self.installed: ExactDict[DebugFunction] = ExactDict()
        self.statistics: Statistics | None = None
        self.log: deque[TraceEvent] | None = None

    def message_in(self, cell: Cell, message: Any) -> None:
        """Counts and traces a message that the process has taken."""
        caller = message.caller if type(message) is Call else None
        if self.statistics is not None:
            self.statistics.messages_in += 1
        self._handle_debug(cell, "in", message, caller)

    def message_out(self, cell: Cell, reply: Any, caller: Cell | None) -> None:
        """Counts and traces a reply."""
        if self.statistics is not None:
            self.statistics.messages_out += 1
        self._handle_debug(cell, "out", reply, caller)

    def _handle_debug(self, cell: Cell, kind: Literal["in", "out"], message: Any, peer: Pid | None) -> None:
        if not self.installed and self.log is None:
            return
        event = TraceEvent(cell, kind, message, peer, cell.engine.now() * 1000)
        if self.log is not None:
            self.log.append(event)
        for key, installed in list(self.installed.items()):
            try:
                if isinstance(installed.sink, Pid):
                    installed.sink.cell.deliver(event)
                else:
                    installed.sink(event)
            except Exception:
                installed.left = 1  # a debug function that fails is removed, as in OTP
            if installed.left is not None:
                installed.left -= 1
                if installed.left <= 0:
                    del self.installed[key]
        self.tidy(cell)

    def tidy(self, cell: Cell) -> None:
        """Removes itself from the process once nothing is on."""
        rare = cell.relations.rare
        if not self.installed and self.statistics is None and self.log is None and rare is not None:
            rare.debug = None
            cell.tidy_rare()


class Statistics:
    """The counts of `sys:statistics/2` since it was switched on; `start_time` in seconds since 1970."""

    __slots__ = ("messages_in", "messages_out", "reductions", "start_time")

    def __init__(self, reductions: int) -> None:
        self.start_time = time()
        self.reductions = reductions
        self.messages_in = 0
        self.messages_out = 0


def own_debug(cell: Cell) -> Debug:
    """The Debug of a process, created if missing."""
    debug = debug_of(cell)
    if debug is None:
        cell.own_rare().debug = debug = Debug()
    return debug


def debug_of(cell: Cell) -> Debug | None:
    """The Debug of a process, None if nothing is on."""
    rare = cell.relations.rare
    return None if rare is None else cast("Debug | None", rare.debug)
