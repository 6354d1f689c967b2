"""A simulated cluster whose nodes run a PubSub and a Presence, for the tests of both."""

from __future__ import annotations

from typing import Any

from runtime.otp import erlang
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.pg2 import NodesPubSub
from runtime.phoenix.presence import Presence
from runtime.phoenix.tracker import Tracker
from runtime.phoenix.tracker_shard import Options
from runtime.testing.cluster import Cluster

NODES = ("a", "b", "c")
OPTIONS = Options(broadcast_period=1_500, max_silent_periods=2, down_period=12_000)


class World:
    """The cluster, and what subscribers have got, by node.

    `tracker` and `options` are those of each node's "presence", `pools` the pool sizes of its PubSub (1, if not given).
    """

    def __init__(
        self,
        cluster: Cluster,
        tracker: type[Tracker] = Presence,
        options: Options = OPTIONS,
        pools: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        self.cluster = cluster
        self.tracker = tracker
        self.options = options
        self.pools = pools or {}
        self.got: dict[str, list[Any]] = {name: [] for name in NODES}
        self.pids: dict[str, Any] = {}
        for name in NODES:
            self.start(name)
        for name in NODES:
            self.do(name, self.connect, name)

    async def connect(self, name: str) -> None:
        """Connects the node with the others."""
        for other in NODES:
            if other != name:
                await self.cluster[name].node.connect(other)

    def start(self, name: str) -> None:
        """Starts both on a node."""

        async def body() -> None:
            await NodesPubSub.start(*self.pools.get(name, ()), name="pubsub")
            await self.tracker.start("pubsub", self.options, name="presence")

        self.do(name, body)

    def do(self, name: str, body: Any, *args: Any) -> None:
        """Runs a function as a process of the node, to its end and to quiescence."""
        failed: list[BaseException] = []

        async def run() -> None:
            try:
                result = body(*args)
                if hasattr(result, "__await__"):
                    await result
            except BaseException as error:
                failed.append(error)
                raise

        self.cluster[name].spawn(run)
        self.cluster.run()
        self.cluster.advance(50)
        if failed:
            raise failed[0]

    def subscriber(self, name: str, topic: str) -> None:
        """A process of the node that keeps what is broadcast on the topic."""

        async def listen() -> None:
            pubsubs.subscribe("pubsub", topic)
            while True:
                self.got[name].append(await erlang.receive())

        self.pids[name] = self.cluster[name].spawn(listen)
        self.cluster.run()
