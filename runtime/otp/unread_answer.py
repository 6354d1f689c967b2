"""The response to a request that is not being awaited: a message in the mailbox of the caller, as every response is in OTP.

It is `(("alias", Ref), Reply)`, or a `Down` if the server has ended. `receive_response` and the like and `await` take it from the
mailbox; if the process has received it in another way, they do not find it any more.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.core.exits import CallSite, Exit
from runtime.core.pid import Ref
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply
from runtime.core.signals import Down
from runtime.core.small_set import including

_SPENT: Final = object()  # no mail


class UnreadAnswer:
    """The waiter of a request that is not being awaited; the response goes to the mailbox of `caller`.

    Until then the request counts as a monitor of the caller, as in OTP.
    """

    __slots__ = ("caller", "message", "request")

    def __init__(self, caller: Cell, request: PendingReply) -> None:
        self.caller = caller
        self.request = request
        self.message: Any = None
        if request.done:
            self.arrive()
        else:
            relations = caller.own_relations()
            relations.monitors = including(relations.monitors, request)

    def done(self) -> bool:
        """As of a future: True once the response has arrived."""
        return self.message is not None

    def set_result(self, _: None) -> None:
        """The server has replied."""
        self.arrive()

    def wake(self, _: PendingReply) -> None:
        """The server has ended."""
        self.arrive()

    def arrive(self) -> None:
        """Delivers the response."""
        request, ref = self.request, Ref()
        if request.error is None:
            self.message = (("alias", ref), request.value)
        else:
            reason, server = failure(request)
            if isinstance(server, str):
                server = (server, self.caller.engine.node_name)
            self.message = Down(ref, server, reason)
        self.caller.drop(request)
        self.caller.deliver(self.message)

    def fetch(self) -> bool:
        """Removes the message from the mailbox; False if it is not there any more."""
        return bool(self.caller.take(lambda message: message is self.message))

    def spend(self) -> None:
        """Whoever waited has had the answer, or wants it no more: no message comes, and who waits again waits in vain."""
        self.message = _SPENT
        self.caller.drop(self.request)


def failure(request: PendingReply) -> tuple[Any, Any]:
    """The reason and the server of a failed request; the server is None for another failure than of a call."""
    match request.error:
        # A lost node is nodedown for `call`, noconnection for a request.
        case Exit(reason=(("nodedown", _), CallSite(args=(server, *_)))):
            return "noconnection", server
        case Exit(reason=(why, CallSite(args=(server, *_)))):
            target = getattr(request, "target", None)
            # The object of the DOWN: a process of this node by pid, even if it was called by name.
            return why, target.pid if isinstance(target, Cell) else server
        case Exit(reason=reason):
            return reason, None
        case error:
            assert error is not None
            raise error
