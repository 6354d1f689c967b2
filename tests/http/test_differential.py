"""The same bytes read by us, h11, Go's net/http, and by nginx and HAProxy in front: nobody reads requests that we read otherwise.

Where one of them reads two requests and we one, or another body, we must have refused: else whoever stands in front of us, or
behind, is led to take a part of one client's request for another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.streams import mutations
from tests.http import framing, peers
from tests.http.framing import PARTS, STREAMS, Reading, disagreement, ours

MUTATED = 600  # streams
AT_ONCE = 24

needs = {
    name: pytest.mark.skipif(
        name in ("nginx", "haproxy") and peers.installed(name) is None, reason=f"needs {name}"
    )
    for name in ("h11", "go", "nginx", "haproxy")
}


async def differing(peer: peers.Peer, streams: Sequence[bytes]) -> list[str]:
    """What they read otherwise than we do. Whoever seems to wait is given more time before it counts."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(data: bytes) -> str | None:
        us = ours(data)
        async with gate:
            why = disagreement(us, await peer.read(data))
            if why is not None:
                why = disagreement(us, await peer.read(data, 3.0))
        return None if why is None else f"{why}: {data!r}"

    return [why for why in await asyncio.gather(*map(one, streams)) if why is not None]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in needs.items()])
def test_nobody_reads_otherwise(name: str, tmp_path: Path) -> None:
    make = mutations(STREAMS, PARTS, Random(name))
    streams = [*STREAMS, *(make()[:4096] for _ in range(MUTATED))]

    async def main() -> list[str]:
        backend = peers.Backend()
        await backend.open()
        with peers.opened(name, tmp_path, backend) as peer:
            two = framing.post(framing.length(3), body=b"abc") + framing.NEXT
            known, idle = Reading(), peers.IDLE
            # A peer that has just started may take its time.
            while known.requests != [("POST", b"abc"), ("GET", b"")]:
                assert idle < peers.PATIENCE, f"{name} reads nothing: {known}"
                known = await peer.read(two, idle)
                idle *= 3
            found = await differing(peer, streams)
        await backend.close()
        return found

    found = asyncio.run(main())
    assert not found, f"{len(found)} of {len(streams)}:\n" + "\n".join(found[:20])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12), st.randoms(use_true_random=False))
def test_h11_agrees_fuzz(parts: list[bytes], random: Random) -> None:
    data = mutations([b"".join(parts), *STREAMS], PARTS, random)()
    why = disagreement(ours(data), asyncio.run(peers.H11().read(data)))
    assert why is None, f"{why}: {data!r}"


def test_what_is_a_disagreement() -> None:
    one, two = ("POST", b"abc"), ("GET", b"")
    assert disagreement(Reading([one]), Reading([one, two])) is not None
    assert disagreement(Reading([one], ended=True), Reading([one, two])) is None
    assert disagreement(Reading([one, two]), Reading([one])) is not None
    assert disagreement(Reading([one, two]), Reading([one], ended=True)) is None
    assert disagreement(Reading([one], ended=True), Reading([("POST", b"ab")])) is not None
