"""Whose turn it is to move the ledger's head, among the nodes of a cluster, so that their batches rarely collide.

Two batches that follow the same head collide: the database takes the first, and the second is computed and sent again. So nodes
that write at the same time queue. The queue is that of Lamport's mutual exclusion without its acknowledgements: a hint, which may
be wrong (two nodes start at once, a message is late). Then batches collide, and nothing else happens: the database decides.

Each node keeps the queue in the order in which it receives requests and commits, its own included, and waits for the nodes ahead
of it. It received their requests before it made its own, so there is no circular wait. A node that has written several
rows at once is expected to write again, and joins the end of the queue without a further message; if its turn comes and it has
nothing to write, it says so.
"""

from __future__ import annotations

from math import inf

PATIENCE = 0.2  # seconds to wait for the turn of one node, which may hang or be cut off in one direction
QUIET = 1.0  # seconds without a collision, after which nodes no longer announce their writes and expect none of others


class _Place:
    """A node's place in the queue: since when it is the first, None before; and until when it is expected to write."""

    __slots__ = ("since", "until")

    def __init__(self, until: float) -> None:
        self.since: float | None = None
        self.until = until


class Turns:
    """The queue as the node `me` knows it. Times are seconds of one clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._line: dict[str, _Place] = {}
        self._crowded_until = 0.0

    def want(self, now: float) -> bool:
        """This node has something to write; it stays in the queue until `end`. True if the others must know of it."""
        self._drop_unexpected(now)
        if self._me in self._line:
            return False
        if self._line:
            self._crowded_until = now + QUIET
        self._line[self._me] = _Place(inf)
        return now < self._crowded_until

    def wait(self, now: float) -> float:
        """0 if it is this node's turn, else the seconds after which to ask again, if no message comes first."""
        for node, place in list(self._line.items()):
            if node == self._me:
                return 0.0
            if place.since is None:
                place.since = now
            left = place.since + PATIENCE - now
            if left > 0:
                return left
            del self._line[node]
        return 0.0

    def is_awaited(self, now: float) -> bool:
        """True if this node is the first in the queue, and others are behind it."""
        self._drop_unexpected(now)
        return len(self._line) > 1 and next(iter(self._line)) == self._me

    def collided(self, now: float) -> None:
        """Another node was faster than this one: from now on both announce their writes."""
        self._crowded_until = now + QUIET

    def wrote(self, node: str, again: bool, now: float) -> None:
        """A node, or this one, has written, and is expected to do so again or not."""
        self._line.pop(node, None)
        if again:
            self._line[node] = _Place(now + QUIET)

    def end(self, node: str) -> None:
        """A node has nothing to write any more, or is gone."""
        self._line.pop(node, None)

    def wished(self, node: str, now: float) -> None:
        """Another node has something to write: it goes behind those in the queue."""
        if self._me in self._line:
            self._crowded_until = now + QUIET
        self._line.pop(node, None)
        self._line[node] = _Place(inf)

    def _drop_unexpected(self, now: float) -> None:
        for node in [node for node, place in self._line.items() if place.until <= now]:
            del self._line[node]
