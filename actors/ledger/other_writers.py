"""What the writer of this node knows of the writers of the others: which of them receive its batches, and who writes next.

They exchange messages on one topic of the PubSub. A writer announces that it follows the feed when it starts and when a node
joins: servers that follow it need no NOTIFY, which would cost the database a lock and each of them a query. A writer that has
collided with another announces when it has something to write, unless its last commit said so (`turns`). Nothing depends on any
of it: a lost message costs a collision, or a poll of the head.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from actors.ledger.turns import Turns
from actors.server_state import server_state
from runtime import Error, erlang
from runtime.nodes import codec, net_kernel
from runtime.phoenix.pubsub import whereis

TOPIC = "ledger:writers"
DECLINE_MS = 3.0  # in which clients that were just answered may write again, before a node lets those behind it go first


@dataclass(frozen=True, slots=True)
class Follows:
    """A writer has begun to follow the feed, as the server with this id. `asks`: it wants to know who else does."""

    node: str
    server: str
    asks: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """A node has something to write, or (`wanted` is False) no longer has."""

    node: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Decline:
    """A writer's own: time to leave the queue if it has nothing to write and others wait for it."""


codec.register(Follows)
codec.register(Wish)


class OtherWriters:
    """What one writer knows of the others. Made by its process, and used by it alone. `now` is its clock, in seconds."""

    def __init__(self, pubsub: str, now: Callable[[], float]) -> None:
        self.pubsub = pubsub
        self._now = now
        self._node = net_kernel.node()
        self._turns = Turns(self._node)
        self._told = False  # whether the others know that this node is in the queue
        self._expected = False  # the others know it from this node's last commit
        self._wrote = False  # since its turn began
        self._declines = False  # `Decline` is on its way
        self._servers: dict[str, str] = {}  # node -> the id of its server
        self._inform()
        with suppress(Error):  # no PubSub: a writer without channels, in tests
            whereis(pubsub).subscribe(TOPIC, erlang.self_())
        net_kernel.monitor_nodes(True)
        self._publish(Follows(self._node, server_state().id, True))

    def take(self, message: Any) -> None:
        """A message of theirs, or ("nodeup", name) or ("nodedown", name)."""
        match message:
            case Follows(node, server, asks):
                self._turns.end(node)  # one that has just started
                self._servers[node] = server
                if asks:
                    self._publish(Follows(self._node, server_state().id, False), node)
            case Wish(node, wanted):
                if wanted:
                    self._turns.wished(node, self._now())
                else:
                    self._turns.end(node)
            case ("nodeup", node):
                self._publish(Follows(self._node, server_state().id, False), node)
            case ("nodedown", node):
                self._turns.end(node)
                self._servers.pop(node, None)
        self._inform()

    def wrote(self, node: str, rows: int) -> None:
        """Another node has committed so many rows."""
        self._turns.wrote(node, rows > 1, self._now())

    def wait(self) -> float:
        """This node has something to write: the milliseconds to wait for its turn at most, 0 if it has come."""
        now = self._now()
        if self._turns.want(now):
            self._tell()
        return self._turns.wait(now) * 1000

    def rest(self) -> None:
        """This node has nothing to write: if others wait for it, they are let go in a moment."""
        if not self._declines and self._turns.is_awaited(self._now()):
            self._declines = True
            erlang.send_after(DECLINE_MS, erlang.self_(), Decline())

    def decline(self, idle: bool) -> None:
        """At `Decline`: the moment is over."""
        self._declines = False
        if idle and self._turns.is_awaited(self._now()):
            self._leave()

    def collided(self) -> None:
        """Another node moved the head first."""
        self._turns.collided(self._now())
        if not self._told:
            self._tell()

    def committed(self, rows: int) -> None:
        """This node has written so many rows, and has said so by `Committed`."""
        self._told, self._expected, self._wrote = False, rows > 1, True
        self._turns.wrote(self._node, self._expected, self._now())

    def end(self) -> None:
        """This node's turn is over."""
        if self._wrote:
            self._wrote = False
        else:
            self._leave()

    def _leave(self) -> None:
        self._turns.end(self._node)
        if self._told or self._expected:  # the others have it in their queues, and have received no commit
            self._told = self._expected = False
            self._publish(Wish(self._node, False))

    def _tell(self) -> None:
        self._told = True
        self._publish(Wish(self._node, True))

    def _inform(self) -> None:
        server_state().informed = tuple(self._servers.values())

    def _publish(self, message: Follows | Wish, node: str | None = None) -> None:
        with suppress(Error):
            found = whereis(self.pubsub)
            if node is None:
                found.broadcast_from(erlang.self_(), TOPIC, message)
            else:
                found.direct_broadcast(node, TOPIC, message)
