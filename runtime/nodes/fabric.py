"""The fabric: what carries frames from one node to another. Implementations: simulated (tests), NATS (the product).

A fabric is asked for little, so that much can be one:

* **At most once, best effort.** A frame may be lost; `Link` numbers frames and finds the gap, and a gap ends the
  connection. A fabric that knows that it has lost some need not say so.
* **Ordered per pair.** Two frames from one node to another that both arrive do so in the order in which they were
  published, announcements included. (One subscription per node gives that; several would not.)
* **Opaque.** Frames are authenticated and numbered bytes; the fabric reads nothing and adds nothing.
* **Never waits.** `publish` takes the frame and returns; what it cannot keep it drops.

Everything happens on the engine's thread: the fabric calls its listener there, outside of all processes.
"""

from __future__ import annotations

from typing import Protocol


class FabricListener(Protocol):
    """Who takes what comes over a fabric: the node (`runtime.nodes.node.Node`)."""

    def up(self) -> None:
        """Frames can be sent and will arrive; also after every interruption. The node announces itself."""

    def down(self) -> None:
        """The fabric itself is away (its server is gone). What is published meanwhile may be lost.

        Connections to other nodes are not ended by that: their silence, or the gap in their frames, does it.
        """

    def received(self, frame: bytes) -> None:
        """A frame for this node, or one for all."""

    def nobody(self, node: str) -> None:
        """The fabric knows that nobody takes `node`'s frames (any more): that node is not running, or cut off.

        A fabric that cannot know never calls it: then only silence tells. Frames of `node` that arrived before
        have been given to `received` before.
        """


class Fabric(Protocol):
    """One node's access to the fabric."""

    def subscribe(self, node: str, listener: FabricListener) -> None:
        """Joins under the node's name: from now on frames for `node` and for all go to `listener`."""

    def unsubscribe(self) -> None:
        """Leaves; nothing is called any more."""

    def publish(self, node: str | None, frame: bytes) -> None:
        """Sends a frame to one node, or with None to every *other* node on the fabric."""
