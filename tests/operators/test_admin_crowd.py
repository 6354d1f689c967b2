"""An operator before 10,000 channel actors and 2,000 transactions a minute.

The tree comes at once and in pages, and the page in the browser stays smooth. What observing costs the server is measured by
`make bench ONLY=observing`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bench import http_load, socket_load
from tests import browser
from tests.support.server import PASSWORD, Server, User

TABS = 5_000  # each with two channels
PER_SECOND = 2_000 / 60
SCRIPT = Path(browser.__file__).parent / "crowd.mjs"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}"),
]


async def enter(port: int, user: User) -> list[socket_load.Client]:
    """Opens the tabs."""
    path = f"/socket/websocket?vsn=2.0.0&token={user.token}"
    topics = (f"transaction:{user.id}", f"notification:{user.id}")
    numbers = iter(range(TABS))
    clients: list[socket_load.Client] = []

    async def entering() -> None:
        for _ in numbers:
            client = await socket_load.connect(port, path)
            for number, topic in enumerate(topics, 1):
                client.send(json.dumps([str(number), str(number), topic, "phx_join", {}]).encode())
                await client.expect(number)
            clients.append(client)

    await asyncio.gather(*(entering() for _ in range(50)))
    return clients


async def post(port: int, user: User, over: asyncio.Event) -> None:
    """Transactions at an even pace, until it is over."""
    http = await http_load.connect(port)
    body = b'{"amount":"12.50","currency":"EUR","description":"in the crowd"}'
    raw = http_load.request("POST", "/api/v1/transactions", body, user.token)
    while not over.is_set():
        await asyncio.gather(http.request(raw, 201), asyncio.sleep(1 / PER_SECOND))


@pytest.fixture(scope="module")
def told(server: Server, user: User, other: User, admin: User) -> dict[str, Any]:
    """What the operator saw."""

    async def main() -> dict[str, Any]:
        socket_load.raise_file_limit()
        port = int(server.url.rpartition(":")[2])
        clients = await enter(port, user)
        over = asyncio.Event()
        posting = asyncio.create_task(post(port, other, over))
        told = await asyncio.to_thread(look, server, admin)
        over.set()
        await posting
        assert not any(client.closed for client in clients)
        return told

    return uvloop.run(main())


def look(server: Server, admin: User) -> dict[str, Any]:
    times: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        tree = admin.client.get("/admin/tree").json()
        times.append(time.perf_counter() - began)
    page = browser.run(SCRIPT, server.url, admin.email, PASSWORD)
    return {"seconds": statistics.median(times), "tree": tree, "page": page}


def channels_of(tree: dict[str, Any]) -> dict[str, Any]:
    [found] = [child for child in tree["children"] if child["name"] == "channels"]
    return found


def test_the_tree_comes_at_once_and_in_pages(told: dict[str, Any]) -> None:
    channels = channels_of(told["tree"])
    assert channels["children_count"] == 2 * TABS
    assert len(channels["children"]) <= 100 and channels["next_cursor"]
    print(f"/admin/tree: {told['seconds'] * 1000:.1f} ms")
    assert told["seconds"] < 0.1


def test_the_page_stays_smooth(told: dict[str, Any]) -> None:
    *views, end = told["page"]
    assert [each["view"] for each in views] == ["tree", "processes", "charts"]
    assert end["problems"] == [] and "10,001" in end["tree"]  # and his own
    for each in views:
        print(each)
        # Time of the page's own thread, with the browser's painting in software; other processes can only add to it.
        assert each["busy"] < 0.3, each
        assert each["slowest"] < 300, each
        assert each["elements"] < 3_000, each
