"""A pool that is ended while somebody waits for one of its connections, and one that is warmed before anybody does."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from actors.server_state import server_state
from actors.storage import connecting
from actors.storage.failures import Unavailable
from runtime import sys
from tests.support.server import PATIENCE
from tests.support.storage import run, storage


class Unreachable:
    """asyncpg's functions for a database whose link is dead: connecting takes as long as one lets it."""

    def __init__(self) -> None:
        self.tried = 0

    async def connect(self, *_arguments: Any, **_options: Any) -> asyncpg.Connection:
        self.tried += 1
        await asyncio.Event().wait()
        raise AssertionError


def test_who_waits_for_a_connection_of_an_ended_pool_does_not_wait_for_another(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False):
            state = server_state()
            pool = await connecting.open_pool(database, 1, "test", state.id, PATIENCE)
            await pool.acquire()

            async def wait() -> None:
                await pool.acquire()

            waiting = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert not any(each.done() for each in waiting)
            await sys.suspend("repo")  # its next ping would find the database
            driver, state.driver = state.driver, Unreachable()
            state.database_error = "down"
            pool.terminate()
            try:
                for each in waiting:
                    with pytest.raises((Unavailable, asyncpg.InterfaceError)):
                        async with asyncio.timeout(PATIENCE):
                            await each
                assert state.driver.tried == 0
            finally:
                state.driver, state.database_error = driver, None
                await sys.resume("repo")

    run(main())


def test_a_warm_pool_has_all_its_connections(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False):
            pool = await connecting.open_pool(database, 4, "test", server_state().id, PATIENCE)
            assert pool.get_size() == 0
            await connecting.warm(pool)
            assert (pool.get_size(), pool.get_idle_size()) == (4, 4)
            away = await asyncpg.create_pool(database, min_size=0, max_size=2, connect=Unreachable().connect)
            async with asyncio.timeout(PATIENCE):
                await connecting.warm(away)  # gives up
            pool.terminate()
            away.terminate()

    run(main())
