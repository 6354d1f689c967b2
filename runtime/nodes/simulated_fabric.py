"""A fabric between deterministic engines: delay, loss, cuts and crashes are the test's.

Frames are timers of the receiving engine, so one that is suspended keeps them, in order, until it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from runtime.core.engine import Engine
from runtime.nodes.fabric import Fabric, FabricListener


@dataclass(slots=True)
class Path:
    """The way from one node to another, one direction. `delay` is `(least, most)` in seconds, `loss` a probability.

    `blocked`: the sender is told that nobody is there. `silent`: frames vanish, and nobody is told.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    blocked: bool = False
    silent: bool = False
    last: float = 0.0  # when the last frame arrives: none overtakes another


class SimulatedNetwork:
    """All nodes of one simulation, and the paths between them."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.members: dict[str, SimulatedFabric] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._digest = blake2b(digest_size=16)
        self.frames = 0

    def digest(self) -> str:
        """Of all frames so far: who sent which bytes to whom, and when. Two runs with one digest are the same."""
        return self._digest.hexdigest()

    def path(self, sender: str, receiver: str) -> Path:
        """The way from one node to another, to be read or set."""
        return self._paths.setdefault((sender, receiver), Path())

    def block(self, one: str, other: str, blocked: bool = True) -> None:
        """Cuts both ways so that each side's attempts fail at once; what is under way arrives."""
        self.path(one, other).blocked = self.path(other, one).blocked = blocked

    def crash(self, name: str) -> None:
        """The node is gone; whoever is connected to it learns it at once, behind the frames under way, as by TCP's FIN."""
        self.members.pop(name, None)
        for other in list(self.members.values()):
            path = self.path(name, other.name)
            if not path.silent:
                other.at(max(path.last, other.engine.now()), other.told_nobody, name)

    def carry(self, sender: SimulatedFabric, receiver: str, frame: bytes) -> None:
        """One frame on its way."""
        self._digest.update(
            f"{sender.engine.now():.6f} {sender.name} {receiver} {len(frame)} ".encode() + frame
        )
        path = self.path(sender.name, receiver)
        target = self.members.get(receiver)
        if (target is None or path.blocked) and not path.silent:
            sender.at(sender.engine.now(), sender.told_nobody, receiver)
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
        # What is left of a node that crashed may be collected, and tidy up after itself, at any time.
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

    def told_nobody(self, node: str) -> None:
        """The network knows that `node` takes no frames."""
        if self._listener is not None:
            self._listener.nobody(node)
