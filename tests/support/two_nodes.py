"""Two server processes under one parent, as `bitnexus serve --nodes 2` starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import Server, start, wait_until


@contextmanager
def two_nodes(database: str, folder: Path) -> Iterator[Server]:
    """The parent, once both servers are ready and connected."""
    running = start(database, ("--nodes", "2"), DATA_DIR=str(folder))
    try:
        wait_until(lambda: are_connected(running))
        yield running
    finally:
        running.stop()


def are_connected(server: Server) -> bool:
    """True if both servers are ready and connected."""
    with server.client() as client:
        one = readiness(client)
        if one["status"] != "ready" or [peer["status"] for peer in one["nodes"]] != ["up"]:
            return False
        return readiness(client, node=one["nodes"][0]["node"])["status"] == "ready"


def readiness(client: httpx.Client, **query: str) -> dict[str, Any]:
    """What /health/ready says."""
    return client.get("/api/v1/health/ready", params=query).json()
