"""The fabric on a real nats-server: what `up` says, and what the server reports of absent nodes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from runtime.nodes.nats import BATCH_BYTES, NatsFabric, batches, frames_of
from runtime.nodes.nats_client import NatsOptions
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

    def unreachable(self, node: str) -> None:
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


def test_frames_of_one_turn_are_one_message_and_come_in_order() -> None:
    asyncio.run(send_many())


async def send_many() -> None:
    with nats() as server:
        sender, _ = await joined(server.url, "sender")
        others = [await joined(server.url, name) for name in ("one", "two")]
        before = sender.messages
        for number in range(300):
            for name in ("one", "two"):
                sender.publish(name, b"D%d" % number)
        for fabric, heard in others:
            async with asyncio.timeout(PATIENCE):
                while len(heard.frames) < 300:
                    heard.changed.clear()
                    await heard.changed.wait()
            assert heard.frames == [b"D%d" % number for number in range(300)]
            await fabric.close()
        assert sender.counts.sent == 600
        assert sender.messages - before == 2
        await sender.close()


FRAMES = st.lists(st.binary(max_size=40).map(lambda data: b"D" + data), min_size=2)


@given(FRAMES, st.integers(min_value=1))
def test_a_batch_gives_back_its_frames_and_of_a_cut_one_a_beginning(frames: list[bytes], cut: int) -> None:
    [(data, number)] = batches(frames)
    assert list(frames_of(data)) == frames and number == len(frames)
    some = list(frames_of(data[: 1 + cut % (len(data) - 1)]))
    assert some == frames[: len(some)] and len(some) < len(frames)


def test_a_batch_is_bounded_and_a_large_frame_goes_alone() -> None:
    small, large = b"D" * 1000, b"D" * (BATCH_BYTES * 2)
    messages = list(batches([small] * 100 + [large, small]))
    assert [data for data, number in messages if number == 1] == [large, small]
    assert all(len(data) <= BATCH_BYTES + 1 for data, number in messages if number > 1)
