"""Monitors with the options `tag` and `alias` (`erlang:monitor/3`, OTP 24).

A process that sends an alias in place of its pid receives no late replies: messages to an inactive alias are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runtime.core.pid import Pid
from runtime.core.signals import Monitor

if TYPE_CHECKING:
    from runtime.core.process import Cell

MONITOR_ALIASES: Final = ("explicit_unalias", "demonitor", "reply_demonitor")


class AliasMonitor(Monitor):
    """A monitor whose Down has `tag` in the place of `'DOWN'` and that, with `alias`, is an alias of its owner.

    `alias` is None or one of MONITOR_ALIASES. "explicit_unalias": active until `unalias`. "demonitor": until the monitor is
    removed. "reply_demonitor": until the monitor is removed or the first message arrives, which removes the monitor too.
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
        """The monitor is removed: deactivates the alias, unless it is for `unalias` to do so."""
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
