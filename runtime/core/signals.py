"""Signals between processes, and what they become: EXIT and DOWN messages, requests of `sys`, monitors."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import PendingReply

if TYPE_CHECKING:
    from runtime.core.process import Cell

NODE: Final = "nonode@nohost"


class NeverRefused:
    """A message of the runtime itself, which a full bounded mailbox takes all the same."""

    __slots__ = ()


class ExitMessage(NeverRefused, Struct, frozen=True):
    """`{'EXIT', Pid, Reason}`: what an exit signal becomes for a process that traps exits."""

    pid: Pid
    reason: Any


class Down(NeverRefused, Struct, frozen=True):
    """`{'DOWN', Ref, process, Pid, Reason}`; `pid` is `(name, node)` for a monitor by name, `tag` as given to `monitor`."""

    ref: Ref
    pid: Any
    reason: Any
    tag: Any = "DOWN"


class SystemMessage(NeverRefused):
    """A request of OTP's `sys` module: a behaviour performs it between two callbacks, suspended or not."""

    __slots__ = ()

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        raise TypeError(f"{type(self).__name__} does not say what to perform")


class Monitor(Ref):
    """`erlang:monitor/2`: the reference is the monitor. Fires once, as a `Down` message to its owner."""

    __slots__ = ("name", "owner", "target")

    def __init__(self, owner: Cell, target: Cell | None, name: str | tuple[str, str] | None) -> None:
        super().__init__()
        self.owner = owner
        self.target = target
        self.name = name
        if owner.execution.mailbox:
            owner.made(self)

    @property
    def tag(self) -> Any:
        """What its Down has as `tag`."""
        return "DOWN"

    def fire(self, pid: Pid | None, reason: Any) -> None:
        self.owner.drop(self)
        self.target = None
        self._down(pid, reason)

    def notify(self, reason: Any) -> None:
        """Sends the Down, but leaves the monitor until its owner has handled the signal."""
        self._down(self.target, reason)

    def _down(self, pid: Any, reason: Any) -> None:
        name = self.name
        if name is not None:
            pid = name if isinstance(name, tuple) else (name, self.owner.engine.node_name)
        self.owner.deliver(Down(self, pid, reason, self.tag))


class UnhandledSignals:
    """Signals that a process has caused itself in this turn; it handles them when it waits.

    DOWN signals of monitors on what was dead when it made them. In Erlang such a monitor stays until its owner handles the
    signal: `demonitor` still finds it, and no Down arrives. For a registered name that is free the message is in the mailbox at
    once. A monitor by pid is a signal to the process first: its answer comes with the next signal that the owner sends, or when
    the owner waits.

    EXIT signals that it has sent to itself while trapping exits: what counts is whether it traps them when it handles them.
    """

    __slots__ = ("asked", "exits", "notified")

    def __init__(self) -> None:
        self.exits: list[ExitMessage] = []  # in the mailbox, unless they are taken
        self.asked: list[Monitor] = []  # no message of these is in the mailbox yet
        self.notified: list[Monitor] = []  # one of these is, but no receive has reached it

    def add(self, monitor: Monitor) -> None:
        """The monitor has found nobody."""
        if monitor.name is None:
            self.asked.append(monitor)
        else:
            self._notify(monitor)

    def _notify(self, monitor: Monitor) -> None:
        if monitor in monitor.owner.relations.monitors:  # an answer to its alias may have taken it off
            self.notified.append(monitor)
            monitor.notify("noproc")

    def withdraw(self, monitor: Monitor) -> bool:
        """The owner takes back a monitor of its own: False if a receive has taken its message already."""
        if monitor in self.notified:
            self.notified.remove(monitor)
            return bool(
                monitor.owner.take(lambda message: isinstance(message, Down) and message.ref is monitor)
            )
        if monitor in self.asked:
            self.asked.remove(monitor)
        return True

    def answered(self) -> None:
        """The owner sends a signal: those behind its monitors have been asked by now."""
        asked, self.asked = self.asked, []
        for monitor in asked:
            self._notify(monitor)

    def received(self) -> None:
        """A receive of the owner has looked at all its mail."""
        notified, self.notified = self.notified, []
        for monitor in notified:
            monitor.owner.drop(monitor)
        self.exits.clear()

    def handle(self) -> None:
        """The owner has waited."""
        self.answered()
        self.received()


class Alias(Ref):
    """`erlang:alias/1`: a second address of its owner, until it is taken back; `reply`: until the first message."""

    __slots__ = ("active", "owner", "reply")

    def __init__(self, owner: Cell, reply: bool) -> None:
        super().__init__()
        self.owner = owner
        self.reply = reply
        self.active = True

    def deliver(self, message: Any) -> bool:
        if not self.active:
            return False
        self.active = not self.reply
        return self.owner.deliver(message)


class DownReply(PendingReply):
    """`await`able end of another process: its exit reason, `noproc` if it was dead already."""

    target: Cell

    def __post_init__(self) -> None:
        if self.target.execution.mode == DEAD:
            self.resolve("noproc")
        else:
            self.target.add_monitor(self)

    def fire(self, pid: Pid | None, reason: Any) -> None:
        self.resolve(reason)

    def abandon(self) -> None:
        super().abandon()
        self.target.drop_monitor(self)
