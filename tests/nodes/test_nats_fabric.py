"""The fabric on a real nats-server: what `up` says, and what the server says of nobody."""

from __future__ import annotations

import asyncio

from runtime.nodes.nats import NatsFabric, NatsOptions
from tests.nodes.nats import nats
from tests.support.server import PATIENCE


class Heard:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.ups = 0
        self.frames: list[bytes] = []
        self.missing: list[str] = []
        self.changed = asyncio.Event()

    def up(self) -> None:
        self.ups += 1
        self.changed.set()

    def down(self) -> None:
        self.changed.set()

    def received(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.changed.set()

    def nobody(self, node: str) -> None:
        self.missing.append(node)
        self.changed.set()

    async def until(self, condition: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not getattr(self, condition):
                self.changed.clear()
                await self.changed.wait()


async def joined(url: str, name: str) -> tuple[NatsFabric, Heard]:
    fabric, heard = NatsFabric(NatsOptions((url,))), Heard()
    fabric.subscribe(name, heard)
    await heard.until("ups")
    return fabric, heard


def test_a_node_that_is_up_is_reached_at_once() -> None:
    asyncio.run(reach_many())


def test_a_node_that_has_left_is_missed() -> None:
    asyncio.run(miss_one())


async def reach_many() -> None:
    with nats() as server:
        sender, heard = await joined(server.url, "sender")
        for number in range(40):
            fabric, there = await joined(server.url, f"n{number}")
            sender.publish(f"n{number}", b"hello")
            await there.until("frames")
            await fabric.close()
        assert heard.missing == []
        await sender.close()


async def miss_one() -> None:
    with nats() as server:
        sender, heard = await joined(server.url, "sender")
        other, _ = await joined(server.url, "other")
        await other.close()
        while not heard.missing:  # the server takes frames for it until it has seen the connection close
            sender.publish("other", b"hello")
            await asyncio.sleep(0.02)
        assert set(heard.missing) == {"other"}
        await sender.close()
