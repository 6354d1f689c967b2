"""A fabric between deterministic engines; the test controls delay, loss, partitions and crashes.

A frame in transit is a timer of the receiving engine, so a suspended engine receives its frames, in order, when it resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from runtime.core.engine import Engine
from runtime.nodes.fabric import Fabric, FabricListener


@dataclass(slots=True)
class Path:
    """The path from one node to another, in one direction. `delay` is `(min, max)` in seconds, `loss` a probability.

    `blocked`: the sender is notified that the node is unreachable. `silent`: frames are lost without a notification.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    blocked: bool = False
    silent: bool = False
    last: float = 0.0  # arrival time of the last frame, which later ones do not overtake


class SimulatedNetwork:
    """All nodes of one simulation, and the paths between them."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.members: dict[str, SimulatedFabric] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._digest = blake2b(digest_size=16)
        self.frames = 0

    def digest(self) -> str:
        """A hash of all frames so far, with senders, receivers and times. Two runs with the same digest are identical."""
        return self._digest.hexdigest()

    def path(self, sender: str, receiver: str) -> Path:
        """The path from one node to another, to read or change."""
        return self._paths.setdefault((sender, receiver), Path())

    def block(self, one: str, other: str, blocked: bool = True) -> None:
        """Blocks both directions: new frames fail at once, those in transit arrive."""
        self.path(one, other).blocked = self.path(other, one).blocked = blocked

    def crash(self, name: str) -> None:
        """Removes a node. The others are notified after the frames in transit, as by TCP's FIN."""
        self.members.pop(name, None)
        for other in list(self.members.values()):
            path = self.path(name, other.name)
            if not path.silent:
                other.at(max(path.last, other.engine.now()), other.notify_unreachable, name)

    def carry(self, sender: SimulatedFabric, receiver: str, frame: bytes) -> None:
        """Sends one frame."""
        self._digest.update(
            f"{sender.engine.now():.6f} {sender.name} {receiver} {len(frame)} ".encode() + frame
        )
        path = self.path(sender.name, receiver)
        target = self.members.get(receiver)
        if (target is None or path.blocked) and not path.silent:
            sender.at(sender.engine.now(), sender.notify_unreachable, receiver)
            return
        if target is None or path.silent or (path.loss and self.random.random() < path.loss):
            return
        self.frames += 1
        least, most = path.delay
        delay = self.random.uniform(least, most) if most else 0.0
        path.last = max(path.last, target.engine.now() + delay)
        target.at(path.last, target.take, frame)


class SimulatedFabric(Fabric):
    """One node's access to a simulated network."""

    def __init__(self, network: SimulatedNetwork, engine: Engine) -> None:
        self.network = network
        self.engine = engine
        self.name = ""
        self._listener: FabricListener | None = None
        self.at = engine.call_at

    def subscribe(self, node: str, listener: FabricListener) -> None:
        self.name, self._listener = node, listener
        self.network.members[node] = self
        listener.up()

    def unsubscribe(self) -> None:
        self._listener = None
        if self.network.members.get(self.name) is self:
            self.network.crash(self.name)

    def publish(self, node: str | None, frame: bytes) -> None:
        # The objects of a crashed node may be garbage-collected, and clean up, at any time.
        if self._listener is None:
            return
        if node is not None:
            self.network.carry(self, node, frame)
            return
        for name in list(self.network.members):
            if name != self.name:
                self.network.carry(self, name, frame)

    def take(self, frame: bytes) -> None:
        """A frame arrives."""
        if self._listener is not None:
            self._listener.received(frame)

    def notify_unreachable(self, node: str) -> None:
        """The network reports that `node` does not receive frames."""
        if self._listener is not None:
            self._listener.unreachable(node)
