"""Each flood of `python -m tests.floods`, a short one: memory grows by less than 20 MB and comes back, others are answered."""

from __future__ import annotations

import psutil
import pytest
import uvloop

from tests.floods.clients import Target
from tests.floods.kinds import FLOODS, GROWS
from tests.floods.measuring import measure
from tests.support.server import PATIENCE, Server, User, wait_until

SECONDS = 0.3
CLIENTS = 4


@pytest.fixture(scope="module")
def memory(server: Server) -> psutil.Process:
    """The server, warm: what its first requests need is no growth."""
    with server.client() as client:
        for path in ("/health", "/x", "/openapi.json"):
            assert client.get(path).status_code in (200, 404)
    return psutil.Process(server.process.pid)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_passes(server: Server, user: User, memory: psutil.Process, name: str) -> None:
    target = Target(int(server.url.rpartition(":")[2]), user.token, user.id)
    before = memory.memory_info().rss / 1e6
    cost = uvloop.run(measure(target, memory, FLOODS[name], SECONDS, CLIENTS))
    assert cost.grown < GROWS
    assert cost.slowest < PATIENCE * 1000
    wait_until(lambda: memory.memory_info().rss / 1e6 - before < GROWS / 2)
