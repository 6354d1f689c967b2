"""What stands on this node for somebody on another one who waits: for a process to end, a call to be answered."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from runtime.core.pid import Pid
from runtime.otp.gen import Call, TerminateRequest

if TYPE_CHECKING:
    from runtime.core.process import Cell
    from runtime.nodes.connection import Connection


class Watch:
    """A monitor whose owner is on the other node."""

    __slots__ = ("connection", "number")

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The process here has ended."""
        self.connection.down(self.number, reason)


class RemoteCaller:
    """Who waits for the answer of a call from the other node: the waiter of the `Call` here."""

    __slots__ = ("answered", "call", "connection", "number")

    def __init__(self, call: Call, connection: Connection, number: int) -> None:
        self.call = call
        self.connection = connection
        self.number = number
        self.answered = False

    def done(self) -> bool:
        """As of a future: True once the caller has its answer."""
        return self.answered

    def set_result(self, _: None) -> None:
        """The call is answered (`Call.answer`)."""
        self.answered = True
        self.connection.reply(self.number, self.call.value)

    def wake(self, call: Call) -> None:
        """The call has failed (`Reply.resolve`): its server has ended."""
        error: Any = call.error
        self.answered = True
        self.connection.down(self.number, error.reason[0])


class Terminate(TerminateRequest):
    """`gen_server:stop` from the other node, which wants to know that it was taken."""

    __slots__ = ("connection", "number")

    def __init__(self, reason: Any, connection: Connection, number: int) -> None:
        super().__init__(reason)
        self.connection = connection
        self.number = number

    def perform(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        self.connection.acknowledge_terminate(self.number)
        return super().perform(cell)
