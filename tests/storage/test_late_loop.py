"""A server that is short of CPU takes its own lateness for no outage of the database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from actors.server_state import server_state
from actors.storage import connecting
from actors.storage.repo import LATE_SECONDS, PING_SECONDS
from tests.support.storage import storage, until


class HeldLink:
    """A connection on which the loop is held `left` times, from a question until its time is over."""

    left = 0

    def __init__(self, link: Any) -> None:
        self._link = link

    def is_closed(self) -> bool:
        return self._link.is_closed()

    def terminate(self) -> None:
        self._link.terminate()

    async def fetchval(self, query: str) -> Any:
        if HeldLink.left:
            HeldLink.left -= 1
            time.sleep(PING_SECONDS + 2 * LATE_SECONDS)  # noqa: ASYNC251 - holds the loop
            await asyncio.sleep(0.01)
        return await self._link.fetchval(query)


@pytest.mark.parametrize(("times", "outages"), [(1, 0), (2, 1)])
def test_a_ping_that_our_own_loop_was_late_for_counts_from_the_second_on(
    module_database: str, monkeypatch: pytest.MonkeyPatch, times: int, outages: int
) -> None:
    connect = connecting.connect

    async def held(url: str, name: str, **how: Any) -> Any:
        link = await connect(url, name, **how)
        return HeldLink(link) if name == "bitnexus repo" else link

    async def main() -> None:
        monkeypatch.setattr(connecting, "connect", held)
        async with storage(module_database, listen=False):
            before = server_state().outages
            HeldLink.left = times
            await until(lambda: HeldLink.left == 0)
            await until(lambda: server_state().outages - before == outages)
            await until(lambda: server_state().database_error is None)
            await asyncio.sleep(0.2)
            assert server_state().outages - before == outages

    asyncio.run(main())
