"""Signals between processes, and what they become: EXIT and DOWN messages, requests of `sys`, monitors."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from runtime.core.exits import is_atom
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import PendingReply

if TYPE_CHECKING:
    from runtime.core.process import Cell

NODE: Final = "nonode@nohost"


class NeverRefused:
    """A message of the runtime itself, which a full bounded mailbox accepts all the same."""

    __slots__ = ()


class ExitMessage(NeverRefused, Struct, frozen=True):
    """`{'EXIT', Pid, Reason}`: the message that an exit signal becomes for a process that traps exits."""

    pid: Pid
    reason: Any


class Down(NeverRefused, Struct, frozen=True):
    """`{'DOWN', Ref, process, Pid, Reason}`. `pid` is `(name, node)` for a monitor by name; `tag` as passed to `monitor`."""

    ref: Ref
    pid: Any
    reason: Any
    tag: Any = "DOWN"


class SystemMessage(NeverRefused):
    """A system message (`sys`): a behaviour handles it between two callbacks, suspended or not."""

    __slots__ = ()

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        raise NotImplementedError(f"{type(self).__name__}.perform")


class Monitor(Ref):
    """A monitor and its reference (`erlang:monitor/2`). Fires once: its owner gets a `Down` message."""

    __slots__ = ("name", "owner", "target")

    def __init__(self, owner: Cell, target: Cell | None, name: str | tuple[str, str] | None) -> None:
        self.owner = owner
        self.target = target
        self.name = name
        if owner.execution.mailbox:
            owner.mark_receive(self)

    @property
    def tag(self) -> Any:
        """The tag of its Down message."""
        return "DOWN"

    def fire(self, pid: Pid | None, reason: Any) -> None:
        self.owner.drop(self)
        self.target = None
        self._down(pid, reason)

    def notify(self, reason: Any) -> None:
        """Sends the Down message but keeps the monitor until its owner has handled the signal."""
        self._down(self.target, reason)

    def _down(self, pid: Any, reason: Any) -> None:
        name = self.name
        if name is not None:
            pid = name if isinstance(name, tuple) else (name, self.owner.engine.node_name)
        self.owner.deliver(Down(self, pid, reason, self.tag))


class UnhandledSignals:
    """Signals that the running process has caused itself in this turn; it handles them when it waits.

    DOWN and EXIT signals of processes that it has ended with an exit signal: until it handles them `demonitor` finds the monitor,
    `unlink` the link, and then nothing arrives.

    DOWN signals of monitors of processes that do not exist. In Erlang such a monitor stays until its owner handles the signal:
    until then `demonitor` finds it, and no Down arrives. For an unregistered name the message is in the mailbox at once. A
    monitor by pid is first a signal to the process: the response comes when the owner next sends a signal or waits.

    An EXIT signal over a link, or that it has sent to itself while trapping exits, becomes a message or ends it by what its flag
    is when it handles the signal.
    """

    __slots__ = ("exits", "fatal", "notified", "requested")

    def __init__(self) -> None:
        self.exits: list[ExitMessage] = []  # of itself and over links: in the mailbox, unless received
        self.fatal: list[ExitMessage] = []  # those that will end it, in no mailbox
        self.requested: list[Monitor] = []  # by pid, without a message in the mailbox yet
        self.notified: list[Monitor] = []  # with a message in the mailbox that no receive has reached yet

    def add(self, monitor: Monitor) -> None:
        """Adds a monitor of a process that does not exist."""
        if monitor.name is None:
            self.requested.append(monitor)
        else:
            self._notify(monitor)

    def _notify(self, monitor: Monitor) -> None:
        if monitor in monitor.owner.relations.monitors:  # a message to its alias may have removed it
            self.notified.append(monitor)
            monitor.notify("noproc")

    def withdraw(self, monitor: Monitor) -> bool:
        """The owner removes a monitor. False if a receive has already taken its Down message."""
        if monitor in self.notified:
            self.notified.remove(monitor)
            return bool(
                monitor.owner.take(
                    lambda message: isinstance(message, Down) and message.ref is monitor, monitor
                )
            )
        if monitor in self.requested:
            self.requested.remove(monitor)
        return True

    def add_exit(self, owner: Cell, message: ExitMessage) -> None:
        """Adds an exit signal that the owner has caused."""
        if owner.relations.trap_exit:
            self.exits.append(message)
            owner.deliver(message)
        else:
            self.fatal.append(message)

    def trap_exit_changed(self, owner: Cell) -> None:
        """The owner has changed its flag."""
        if owner.relations.trap_exit:
            fatal, self.fatal = self.fatal, []
            for message in fatal:
                self.add_exit(owner, message)
            return
        exits, self.exits = self.exits, []
        for message in exits:
            unread = owner.take(lambda other, message=message: other is message)
            if unread and (message.pid is owner or not is_atom(message.reason, "normal")):
                self.fatal.append(message)

    def unlinked(self, owner: Cell, pid: Pid) -> None:
        """The owner unlinks another process."""
        if pid is owner:
            return
        self.fatal = [one for one in self.fatal if one.pid is not pid]
        for message in [one for one in self.exits if one.pid is pid]:
            self.exits.remove(message)
            owner.take(lambda other, message=message: other is message)

    def answered(self) -> None:
        """The owner sends a signal: by now its requests for monitors have been answered."""
        requested, self.requested = self.requested, []
        for monitor in requested:
            self._notify(monitor)

    def received(self) -> None:
        """A receive of the owner has scanned the whole mailbox."""
        notified, self.notified = self.notified, []
        for monitor in notified:
            monitor.owner.drop(monitor)
        self.exits.clear()

    def looked_at(self, owner: Cell) -> None:
        """The owner looks at itself: a DOWN of a free name is handled if it is received, or other mail has come after it."""
        mailbox = owner.execution.mailbox or ()
        latest = mailbox[-1] if mailbox else None
        by_name = {monitor for monitor in self.notified if monitor.target is None}
        if isinstance(latest, Down) and latest.ref in by_name:
            by_name -= {message.ref for message in mailbox if isinstance(message, Down)}
        self._handled(by_name)

    def asked(self) -> None:
        """The owner has asked whether a process lives, which is a signal and its answer."""
        self._handled({monitor for monitor in self.notified if monitor.target is None})

    def _handled(self, monitors: set[Monitor]) -> None:
        self.notified = [monitor for monitor in self.notified if monitor not in monitors]
        for monitor in monitors:
            monitor.owner.drop(monitor)

    def tell_of(self, pid: Pid) -> bool:
        """True if one of them is of the end of this process."""
        return any(one.pid is pid for one in (*self.fatal, *self.exits)) or any(
            one.target is pid for one in self.notified
        )

    def handle(self) -> None:
        """The owner waits: it handles all these signals."""
        self.answered()
        self.received()


class Alias(Ref):
    """`erlang:alias/1`: another address of its owner, until `unalias` or, with `reply`, until the first message."""

    __slots__ = ("active", "owner", "reply")

    def __init__(self, owner: Cell, reply: bool) -> None:
        self.owner = owner
        self.reply = reply
        self.active = True

    def deliver(self, message: Any) -> bool:
        if not self.active:
            return False
        self.active = not self.reply
        return self.owner.deliver(message)


class DownReply(PendingReply):
    """Awaits the end of a process; the value is its exit reason, or "noproc" if it was already dead."""

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
