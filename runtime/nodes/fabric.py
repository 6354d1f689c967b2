"""The fabric: the transport that carries frames between nodes. Implementations: simulated (tests), NATS (the product).

Its contract is weak, so that many transports can satisfy it:

* **At most once.** A frame may be lost, and the fabric need not report it. `Link` numbers frames, and a gap ends the connection.
* **Ordered per pair.** Frames from one node to another that arrive do so in the order in which they were published.
* **Opaque.** Frames are authenticated and numbered bytes; the fabric does not read or change them.
* **Non-blocking.** `publish` returns at once; a frame that cannot be buffered is dropped.

The fabric calls its listener on the engine's thread, outside of all processes.
"""

from __future__ import annotations

from typing import Protocol


class FabricListener(Protocol):
    """The receiver of a fabric's events; implemented by `runtime.nodes.node.Node`."""

    def up(self) -> None:
        """The fabric is connected, for the first time or again. The node announces itself."""

    def down(self) -> None:
        """The fabric is disconnected (its server is gone). Frames published meanwhile may be lost.

        This does not end connections to other nodes: silence, or a gap in the frames, does.
        """

    def received(self, frame: bytes) -> None:
        """A frame for this node, or one for all nodes, has arrived."""

    def unreachable(self, node: str) -> None:
        """The fabric knows that `node` does not receive frames: it is not running, or is cut off.

        Called after `received` for all frames of `node` that have arrived. A fabric that cannot know this never calls it;
        then only silence shows the loss of a node.
        """


class Fabric(Protocol):
    """One node's access to the fabric."""

    def subscribe(self, node: str, listener: FabricListener) -> None:
        """Joins the fabric: from now on frames for `node` and for all nodes go to `listener`."""

    def unsubscribe(self) -> None:
        """Leaves the fabric: the listener is not called any more."""

    def publish(self, node: str | None, frame: bytes) -> None:
        """Sends a frame to one node, or with None to all *other* nodes on the fabric."""
