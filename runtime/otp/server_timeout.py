"""The timeout in the result of a gen_server callback: `timeout` arrives in handle_info unless another message comes first."""

from __future__ import annotations

from runtime.core.process import Cell
from runtime.core.signals import NeverRefused, SystemMessage
from runtime.core.timers import Timer


def only_system_messages(cell: Cell) -> bool:
    """True if no message is waiting that would cancel a timeout."""
    mailbox = cell.execution.mailbox
    return not mailbox or all(isinstance(message, SystemMessage) for message in mailbox)


class ServerTimeout(NeverRefused):
    """A pending timeout, and the message that it sends; `ms` is its length, `stale` is True once it is cancelled."""

    __slots__ = ("ms", "stale", "timer")

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.stale = False
        self.timer: Timer | None = None

    def arm(self, cell: Cell) -> None:
        """Starts it; with 0 the message is sent at once."""
        if self.ms == 0:
            cell.deliver(self)
        else:
            self.timer = cell.engine.call_later(self.ms / 1000, self._fire, cell)

    def _fire(self, cell: Cell) -> None:
        if only_system_messages(cell):
            cell.deliver(self)

    def cancel(self) -> None:
        """Stops the timer; the message is void if it has been sent."""
        self.stale = True
        if self.timer is not None:
            self.timer.cancel()
