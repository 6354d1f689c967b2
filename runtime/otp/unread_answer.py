"""The answer of a request that nobody waits for: a message in the mailbox of who asked, as every answer is in OTP.

It is `(("alias", Ref), Reply)`, or a `Down` if the server ended. `receive_response` and the like, and await, take it from there;
one that the process has received otherwise is gone for them.
"""

from __future__ import annotations

from typing import Any

from runtime.core.exits import CallSite, Exit
from runtime.core.pid import Ref
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply
from runtime.core.signals import Down


class UnreadAnswer:
    """The waiter of a request while nobody waits for it. `asker` is whose mailbox it goes to."""

    __slots__ = ("asker", "message", "request")

    def __init__(self, asker: Cell, request: PendingReply) -> None:
        self.asker = asker
        self.request = request
        self.message: Any = None
        if request.done:
            self.arrive()

    def done(self) -> bool:
        """As of a future: True once it has arrived."""
        return self.message is not None

    def set_result(self, _: None) -> None:
        """The request was answered."""
        self.arrive()

    def wake(self, _: PendingReply) -> None:
        """The server has ended."""
        self.arrive()

    def arrive(self) -> None:
        """The message comes."""
        request, ref = self.request, Ref()
        if request.error is None:
            self.message = (("alias", ref), request.value)
        else:
            reason, server = failure(request)
            if isinstance(server, str):
                server = (server, self.asker.engine.node_name)
            self.message = Down(ref, server, reason)
        self.asker.deliver(self.message)

    def fetch(self) -> bool:
        """Takes the message out of the mailbox; False if it is not there."""
        return bool(self.asker.take(lambda mail: mail is self.message))


def failure(request: PendingReply) -> tuple[Any, Any]:
    """Why a request has no reply, in a request's words, and of which server; None for the server of what is no call."""
    match request.error:
        # `call` says nodedown where a request says noconnection.
        case Exit(reason=(("nodedown", _), CallSite(args=(server, *_)))):
            return "noconnection", server
        case Exit(reason=(why, CallSite(args=(server, *_)))):
            target = getattr(request, "target", None)
            # The object of the DOWN: a process of this node by its pid, however named.
            return why, target.pid if isinstance(target, Cell) else server
        case Exit(reason=reason):
            return reason, None
        case error:
            assert error is not None
            raise error
