"""Monitors with options (OTP 24): a tag of their own, and an alias, which takes mail for as long as the owner wants it.

Who gives an alias away instead of its pid gets no late answers: once the alias is off, what comes to it is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runtime.core.pid import Pid
from runtime.core.signals import Monitor

if TYPE_CHECKING:
    from runtime.core.process import Cell

MONITOR_ALIASES: Final = ("explicit_unalias", "demonitor", "reply_demonitor")


class AliasMonitor(Monitor):
    """`erlang:monitor/3`: its own tag instead of `'DOWN'`, and, with `alias`, an alias of its owner.

    `alias` is None or one of MONITOR_ALIASES: "demonitor" ends it with the monitor, "reply_demonitor" with the first message as
    well, which takes the monitor off too; "explicit_unalias" leaves it until `unalias`.
    """

    __slots__ = ("_tag", "active", "alias")

    def __init__(
        self, owner: Cell, target: Cell | None, name: str | None, alias: str | None, tag: Any
    ) -> None:
        super().__init__(owner, target, name)
        self.alias = alias
        self._tag = tag
        self.active = alias is not None

    def deliver(self, message: Any) -> bool:
        if not self.active:
            return False
        if self.alias == "reply_demonitor":
            self.active = False
            self.owner.drop(self)
            if self.target is not None:
                self.target.drop_monitor(self)
                self.target = None
        return self.owner.deliver(message)

    def removed(self) -> None:
        """The monitor is over: an alias that hangs on it goes too."""
        if self.alias != "explicit_unalias":
            self.active = False

    def fire(self, pid: Pid | None, reason: Any) -> None:
        self.removed()
        super().fire(pid, reason)

    def notify(self, reason: Any) -> None:
        self.removed()
        super().notify(reason)

    @property
    def tag(self) -> Any:
        return self._tag
