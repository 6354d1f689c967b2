"""Local proxies of waiting processes on another node: of a monitor, a caller, a `gen_server:stop`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from runtime.core.pid import Pid
from runtime.otp.gen import Call, TerminateRequest

if TYPE_CHECKING:
    from runtime.core.process import Cell
    from runtime.nodes.connection import Connection


class Watch:
    """The proxy of a monitor whose owner is on the other node."""

    __slots__ = ("connection", "number")

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The monitored local process has ended."""
        self.connection.down(self.number, reason)


class RemoteCaller:
    """The proxy of the caller of a remote call: the `waiter` of the local `Call`."""

    __slots__ = ("answered", "call", "connection", "number")

    def __init__(self, call: Call, connection: Connection, number: int) -> None:
        self.call = call
        self.connection = connection
        self.number = number
        self.answered = False

    def done(self) -> bool:
        """As `Future.done`: True once a reply was sent."""
        return self.answered

    def set_result(self, _: None) -> None:
        """From `Call.answer`: sends the reply."""
        self.answered = True
        self.connection.reply(self.number, self.call.value)

    def wake(self, call: Call) -> None:
        """From `Reply.resolve`: the call has failed, because its server has ended."""
        error: Any = call.error
        self.answered = True
        self.connection.down(self.number, error.reason[0])


class Terminate(TerminateRequest):
    """`gen_server:stop` from the other node, which is acknowledged when it is accepted."""

    __slots__ = ("connection", "number")

    def __init__(self, reason: Any, connection: Connection, number: int) -> None:
        super().__init__(reason)
        self.connection = connection
        self.number = number

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        self.connection.acknowledge_terminate(self.number)
        return super().perform(cell)
