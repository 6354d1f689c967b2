"""E3: the disk of the embedded PostgreSQL is full. The server waits, and is back by itself when there is room."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from actors.storage.postgres.cluster import SUPERUSER, DatabaseCluster
from tests.support.chain import entries
from tests.support.database import execute
from tests.support.disk import Disk
from tests.support.server import PATIENCE, Server, start, wait_until


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of PostgreSQL gets through."""
    made = Path(tempfile.mkdtemp(prefix="bitnexus-disk-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("what", ["tables", "log"])
def test_a_full_disk_is_waited_for(place: Path, what: str) -> None:
    """`tables`: a table can't grow. `log`: PostgreSQL itself ends, for want of room for its write-ahead log."""
    disk = Disk(place / "disk")
    server = start("", DATA_DIR=str(disk.folder / "data"), LOG_LEVEL="warning")
    try:
        cluster = DatabaseCluster.at(disk.folder / "data")
        server.database = cluster.url()
        data = disk.folder / "data" / "postgres" / "data"
        user = server.user()
        assert post(user.client) == 201
        disk.fill(data)
        if what == "log":
            for _ in range(2):
                try_switch(cluster.url(role=SUPERUSER))
        wait_until(lambda: post(user.client, "x" * 200) == 503)
        assert server.process.poll() is None
        time.sleep(2.0)
        assert server.process.poll() is None, server.lines[-5:]
        disk.free(data)
        began = time.monotonic()
        wait_until(lambda: post(user.client) == 201)
        wait_until(lambda: ready(server))
        assert time.monotonic() - began < PATIENCE
        assert server.process.poll() is None
        entries(server.database)
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
        disk.close()


def post(client: httpx.Client, description: str = "") -> int:
    """The status of a transaction."""
    body = {"amount": "1.00", "currency": "EUR", "description": description}
    return client.post("/api/v1/transactions", json=body).status_code


def ready(server: Server) -> bool:
    with server.client() as client:
        return client.get("/api/v1/health/ready").status_code == 200


def try_switch(url: str) -> None:
    """PostgreSQL needs a new file for its log."""
    try:
        asyncio.run(execute(url, "SELECT pg_logical_emit_message(true, '', 'x'); SELECT pg_switch_wal()"))
    except Exception:
        return  # it may well have ended by that
