"""The cluster's nodes on a real nats-server: the engines' clock stays virtual, their frames go over TCP.

The world is at rest when no engine has anything to do and each frame that was published has arrived, or the server has said that
nobody takes it. A node that is killed closes its connection; the others ask the server for it, and are told.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.nodes.fabric import Fabric, FabricListener
from runtime.nodes.nats import NatsFabric
from runtime.nodes.nats_client import NatsOptions, probe
from runtime.testing.cluster import Cluster
from runtime.testing.deterministic_engine import DeterministicEngine

ASK = b"?"  # a frame that is none: only the server's answer to it matters
PATIENCE_SECONDS = 20


@contextmanager
def nats_server() -> Iterator[str]:
    """A server on a port of its own; its URL."""
    program = shutil.which("nats-server")
    assert program is not None, "no nats-server on the path"
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while (
                not (found := [file.read_text() for file in Path(folder).glob("*.ports")])
                or "nats" not in found[0]
            ):
                assert time.monotonic() < until and server.poll() is None, "nats-server does not start"
                time.sleep(0.02)
            yield found[0].split('"nats"')[1].split('"')[1]
        finally:
            server.terminate()
            server.wait()


class BridgedFabric(Fabric):
    """One node's `NatsFabric`, between its engine and the loop that serves the sockets."""

    def __init__(self, cluster: NatsCluster, engine: DeterministicEngine) -> None:
        self.cluster = cluster
        self.engine = engine
        self.name = ""
        self.nats = NatsFabric(NatsOptions((cluster.url,), prefix=cluster.prefix))
        self.listener: FabricListener | None = None
        self.is_up = asyncio.Event()

    def subscribe(self, node: str, listener: FabricListener) -> None:
        self.name, self.listener = node, listener
        self.cluster.bridges[node] = self
        self.cluster.pump(self._subscribe())

    async def _subscribe(self) -> None:
        self.nats.subscribe(self.name, self)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.is_up.wait()

    def unsubscribe(self) -> None:
        self.listener = None
        self.cluster.left(self)

    def publish(self, node: str | None, frame: bytes) -> None:
        if node is None or self.listener is None:
            return
        if self.cluster.network.path(self.name, node).blocked:
            self.engine.call_at(self.engine.now(), self._unreachable, node)
            return
        if node in self.cluster.bridges:
            self.cluster.outstanding[node] = self.cluster.outstanding.get(node, 0) + 1
        else:
            self.cluster.asked[self, node] = self.cluster.asked.get((self, node), 0) + 1
        self.nats.publish(node, frame)

    # ---- the listener of NATS, on the loop: what comes waits for the engine

    def up(self) -> None:
        self.is_up.set()

    def down(self) -> None:
        raise AssertionError("the server is gone")

    def received(self, frame: bytes) -> None:
        self.cluster.arrived(self.name)
        self.engine.call_at(self.engine.now(), self._take, frame)

    def unreachable(self, node: str) -> None:
        self.cluster.answered(self, node)
        self.engine.call_at(self.engine.now(), self._unreachable, node)

    def _take(self, frame: bytes) -> None:
        if self.listener is not None:
            self.listener.received(frame)

    def _unreachable(self, node: str) -> None:
        if self.listener is not None:
            self.listener.unreachable(node)


class NatsCluster(Cluster):
    """As `Cluster`, over the server at `url`."""

    url = ""
    runs = 0

    def __init__(self, seed: int = 0, nodes: Any = (), **options: Any) -> None:
        NatsCluster.runs += 1
        self.prefix = f"replay{NatsCluster.runs}"
        self.loop = asyncio.new_event_loop()
        self.bridges: dict[str, BridgedFabric] = {}
        self.outstanding: dict[str, int] = {}  # frames under way, by the node they are for
        self.asked: dict[tuple[BridgedFabric, str], int] = {}  # frames for gone nodes, not yet refused
        super().__init__(seed, nodes, **options)

    def fabric(self, engine: DeterministicEngine) -> Fabric:
        return BridgedFabric(self, engine)

    def pump(self, what: Any) -> None:
        """Lets the sockets be served until this is done."""
        previous = asyncio.events._get_running_loop()
        asyncio.events._set_running_loop(None)
        try:
            self.loop.run_until_complete(what)
        finally:
            asyncio.events._set_running_loop(previous)

    def arrived(self, node: str) -> None:
        """One frame for this node is no longer under way."""
        if self.outstanding.get(node):
            self.outstanding[node] -= 1

    def answered(self, bridge: BridgedFabric, node: str) -> None:
        """The server has refused a frame of `bridge`'s for this node."""
        left = self.asked.get((bridge, node), 0) - 1
        if left > 0:
            self.asked[bridge, node] = left
        else:
            self.asked.pop((bridge, node), None)

    def left(self, bridge: BridgedFabric) -> None:
        """A node is gone: the others ask the server for it, and hear what it knows."""
        if self.bridges.get(bridge.name) is not bridge:
            return
        del self.bridges[bridge.name]
        self.pump(self._end(bridge))
        self.outstanding.pop(bridge.name, None)
        self.asked = {key: count for key, count in self.asked.items() if key[0] is not bridge}
        for other in self.bridges.values():
            other.publish(bridge.name, ASK)

    async def _end(self, bridge: BridgedFabric) -> None:
        # What is under way to the node is taken first: a refusal of it would pass for one of what is asked below. And until
        # the server has seen the connection close it takes frames for the node, and they are lost.
        while self.outstanding.get(bridge.name):
            await asyncio.sleep(0.0002)
        await bridge.nats.close()
        while not await probe(bridge.nats.options, bridge.name):
            pass

    def run(self, max_steps: int = 1_000_000) -> int:
        steps = super().run(max_steps)
        until = time.monotonic() + PATIENCE_SECONDS
        while any(self.outstanding.values()) or self.asked:
            self.pump(asyncio.sleep(0.0002))
            steps += super().run(max_steps)
            if time.monotonic() > until:
                raise RuntimeError(f"frames that never arrive: {self.outstanding} {self.asked}")
        return steps

    def close(self) -> None:
        self.asked.clear()
        bridges = list(self.bridges.values())
        self.bridges.clear()
        for bridge in bridges:
            self.pump(bridge.nats.close())
        super().close()
        self.loop.close()
