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
    """`{'DOWN', Ref, process, Pid, Reason}`; `pid` is `(name, node)` for a monitor by name, `tag` what `monitor` was told."""

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
        owner = self.owner
        owner.drop(self)
        self.target = None
        name = self.name
        if name is not None:
            pid = name if isinstance(name, tuple) else (name, owner.engine.node_name)  # type: ignore[assignment]
        owner.deliver(Down(self, pid, reason, self.tag))


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
