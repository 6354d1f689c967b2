"""Each flood of `python -m tests.floods`, a short one: memory grows by less than 20 MB and comes back, others are answered."""

from __future__ import annotations

import psutil
import pytest
import uvloop

from tests.floods import FLOODS, measure
from tests.support.server import PATIENCE, Server, wait_until

BOUND = 20.0  # MB
SECONDS = 1.5


@pytest.fixture(scope="module")
def memory(server: Server) -> psutil.Process:
    """The server, warm: what its first requests need is no growth."""
    with server.client() as client:
        for path in ("/health", "/x", "/openapi.json"):
            assert client.get(path).status_code in (200, 404)
    return psutil.Process(server.process.pid)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_passes(server: Server, memory: psutil.Process, name: str) -> None:
    def used() -> float:
        return memory.memory_info().rss / 1e6

    port = int(server.url.rpartition(":")[2])
    before = used()
    grown, _left, slowest = uvloop.run(measure(port, used, FLOODS[name], SECONDS, 6))
    assert grown < BOUND
    assert slowest < PATIENCE * 1000
    wait_until(lambda: used() - before < BOUND / 2)
