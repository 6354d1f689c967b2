"""E6, E9, E12: others hold what a write needs, or have taken a right away: said once, known to readiness, over by itself."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from actors.ledger.writer import Recorded, Unavailable
from actors.server_state import server_state
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.support.database import add_user, execute
from tests.support.storage import run, storage, until

LOCKS = (
    "LOCK TABLE users IN EXCLUSIVE MODE",  # the foreign key asks it
    "SELECT FROM users FOR UPDATE",
    "LOCK TABLE ledger_entries IN SHARE MODE",  # somebody makes an index
    "LOCK TABLE ledger_head IN ACCESS EXCLUSIVE MODE",  # a migration
)
OURS_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query LIKE '%record_transaction%' AND pid <> pg_backend_pid()
"""


@pytest.mark.parametrize("sql", LOCKS)
def test_a_lock_of_another_ends_a_write_that_leaves_nothing_behind(database: str, sql: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            assert isinstance(await s.record(user), Recorded)
            locker = await asyncpg.connect(database)
            transaction = locker.transaction()
            await transaction.start()
            await locker.execute(sql)
            assert isinstance(await s.record(user), Unavailable)
            assert server_state().write_error is not None
            assert await locker.fetchval(OURS_WAITING) == 0
            await transaction.rollback()
            await locker.close()
            assert (await until_recorded(s, user)).seq == 2
            assert server_state().write_error is None
            await assert_sound(database, 2)

    run(main())


@pytest.mark.parametrize("table", ["transactions", "ledger_entries"])
def test_a_right_that_is_revoked_is_one_line_and_no_readiness(
    database: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            assert isinstance(await s.record(user), Recorded)
            caplog.clear()
            await execute(database, f"REVOKE INSERT ON {table} FROM bitnexus")
            for _ in range(10):
                assert isinstance(await s.record(user), Unavailable)
            assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1
            refused = server_state().write_error
            assert refused is not None and "permission denied" in refused
            await execute(database, f"GRANT INSERT ON {table} TO bitnexus")
            await until(lambda: server_state().write_error is None)  # by the probe: nobody writes
            assert isinstance(await s.record(user), Recorded)
            await assert_sound(database, 2)

    run(main())


def test_the_probe_sees_a_right_that_is_revoked(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            await execute(database, "REVOKE INSERT ON transactions FROM bitnexus")
            await until(lambda: server_state().write_error is not None)
            await execute(database, "GRANT INSERT ON transactions TO bitnexus")
            assert (await until_recorded(s, user)).seq == 1

    run(main())
