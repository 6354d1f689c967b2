"""Several nodes with one virtual clock, one seed and one simulated network.

    with Cluster(seed=7, nodes=["a", "b"]) as cluster:
        pid = cluster["a"].spawn(body)
        cluster.run()                       # until all nodes and the network are idle; no time passes
        cluster.partition("a", "b")
        cluster.advance(30_000)             # virtual milliseconds

The seed determines the whole history: which process runs next on which node, and the delay and loss of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from runtime.core.pid import Pid
from runtime.nodes.fabric import Fabric
from runtime.nodes.node import Node, NodeConfig
from runtime.nodes.simulated_fabric import SimulatedFabric, SimulatedNetwork
from runtime.testing.deterministic_engine import DeterministicEngine
from runtime.testing.run import Run

SECRET = b"the secret of a simulated cluster"
# Erlang's default ticktime; no automatic connections.
SIMULATED = NodeConfig(net_ticktime=60.0, announce=False)


class ClusterMember:
    """One incarnation of a node."""

    def __init__(self, cluster: Cluster, name: str, creation: int) -> None:
        self.name = name
        self.engine = DeterministicEngine(cluster.random.randrange(1 << 30))
        self.engine.set_now(cluster.now / 1000)
        if cluster.choices is not None:
            self.engine.random = cluster.choices
        self.running = True  # False: suspended
        self.node = Node(
            self.engine, name, cluster.fabric(self.engine), SECRET, creation=creation, config=cluster.config
        )

    def spawn(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Pid:
        """As `Simulation.spawn`."""
        return self.engine.spawn(fn, *args, **options)


class Cluster(Run):
    """A simulated cluster. `nodes` are names, or a number of nodes n1, n2, ..."""

    def __init__(
        self,
        seed: int = 0,
        nodes: int | Sequence[str] = 2,
        *,
        config: NodeConfig = SIMULATED,
        choices: Random | None = None,
        on_start: Callable[[ClusterMember], None] | None = None,
    ) -> None:
        self.seed = seed
        self.config = config
        self.random = Random(seed)
        self.choices = choices  # random source of all schedulers, instead of one each
        self.network = SimulatedNetwork(seed)
        self.members: dict[str, ClusterMember] = {}
        self._creations = 0
        self._now = 0.0
        self._on_start = on_start
        for name in [f"n{number + 1}" for number in range(nodes)] if isinstance(nodes, int) else nodes:
            self.start(name)

    def fabric(self, engine: DeterministicEngine) -> Fabric:
        """A new node's access to the network."""
        return SimulatedFabric(self.network, engine)

    def __getitem__(self, name: str) -> ClusterMember:
        return self.members[name]

    def __str__(self) -> str:
        return f"seed={self.seed}"

    def close(self) -> None:
        """Crashes all nodes."""
        for name in list(self.members):
            self.crash(name)

    # ---- starting and stopping nodes

    def start(self, name: str) -> ClusterMember:
        """Starts a new incarnation of a node, without connections."""
        self._creations += 1
        member = ClusterMember(self, name, self._creations)
        self.members[name] = member
        member.node.start()
        if self._on_start is not None:
            self._on_start(member)
        return member

    def crash(self, name: str) -> None:
        """Crashes a node: its processes end without running any more code."""
        member = self.members.pop(name)
        member.node.stopped = True
        member.node.fabric.unsubscribe()
        member.engine.on_exit.clear()
        member.engine.close()

    def stop(self, name: str) -> None:
        """`init:stop/0`: the node disconnects before it ends."""
        self.members[name].node.stop()
        self.members[name].engine.on_exit.clear()
        self.run()
        self.members.pop(name).engine.close()

    def suspend(self, name: str, running: bool = False) -> None:
        """Suspends a node as by SIGSTOP; with `running` resumes it as by SIGCONT."""
        self.members[name].running = running

    # ---- the network

    def partition(self, one: str, other: str) -> None:
        """`one` disconnects from `other`, and they cannot connect until `heal`."""
        if one in self.members:
            self.members[one].node.disconnect(other)
        self.network.block(one, other)

    def heal(self, one: str, other: str) -> None:
        """Ends a partition. The nodes are not connected by it."""
        self.network.block(one, other, False)

    # ---- running

    @property
    def now(self) -> float:
        """Virtual milliseconds since the start."""
        return self._now * 1000

    def run(self, max_steps: int = 1_000_000) -> int:
        """Runs until no process can run and no frame is due. Returns the number of steps."""
        steps = 0
        while steps <= max_steps:
            ready = [member for member in self.members.values() if member.running]
            while ready:
                member = ready[self.random.randrange(len(ready))]
                if member.engine.step():
                    steps += 1
                    break
                ready.remove(member)
            else:
                return steps
        raise RuntimeError(f"still running after {max_steps} steps (seed {self.seed})")

    def advance(self, ms: float) -> None:
        """Advances the virtual clock by `ms`; everything due at one time runs to completion before the next."""
        until = self._now + ms / 1000
        self.run()
        while (due := self._next_timer()) is not None and due <= until + 1e-9:
            self._set_now(max(self._now, due))
            self.run()
        self._set_now(until)

    def _next_timer(self) -> float | None:
        dues = [member.engine.timers.next() for member in self.members.values() if member.running]
        return min((due for due in dues if due is not None), default=None)

    def _set_now(self, now: float) -> None:
        self._now = now
        for member in self.members.values():
            member.engine.set_now(now)
