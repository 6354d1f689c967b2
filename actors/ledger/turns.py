"""Whose turn it is to move the ledger's head, among the nodes of a cluster: what keeps their batches from colliding.

Two batches that follow one head collide: the database takes the first, and the second is computed and sent again. So a node that
writes among others queues in line. This is the queue of Lamport's mutual exclusion without its acknowledgements: a hint, which
may be wrong (two nodes begin at once, a message is late). Then batches collide, and nothing else happens: the database decides.

Each node keeps the line in the order in which it hears of wishes, its own among them. A node waits for those who were in line
before it; as whoever waits has heard of the other's wish before it had its own, they never wait for each other in a circle.
"""

from __future__ import annotations

PATIENCE = 0.2  # seconds for the turn of one node: one that hangs, or whose link is cut one way, is not waited for longer
QUIET = 1.0  # seconds without a collision, after which a node no longer tells that it writes


class Turns:
    """The line as the node `me` knows it. Times are seconds of one clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._line: dict[str, float | None] = {}  # node -> since when it is the first in line
        self._crowded_until = 0.0

    def want(self, now: float) -> bool:
        """This node has something to write; it stays in line until `end`. True: the others are to be told."""
        if self._me in self._line:
            return False
        if self._line:
            self._crowded_until = now + QUIET
        self._line[self._me] = None
        return now < self._crowded_until

    def wait(self, now: float) -> float:
        """0 if it is this node's turn, else the seconds after which to ask again if nothing is heard."""
        for node, since in list(self._line.items()):
            if node == self._me:
                return 0.0
            if since is None:
                self._line[node] = since = now
            left = since + PATIENCE - now
            if left > 0:
                return left
            del self._line[node]
        return 0.0

    def collided(self, now: float) -> None:
        """Another node was faster than this one: from now on they tell each other."""
        self._crowded_until = now + QUIET

    def end(self, node: str) -> None:
        """A node has written, or has nothing to write any more, or is gone."""
        self._line.pop(node, None)

    def wished(self, node: str, now: float) -> None:
        """Another node tells that it has something to write: it comes after those who are in line."""
        if self._me in self._line:
            self._crowded_until = now + QUIET
        self._line.pop(node, None)
        self._line[node] = None
