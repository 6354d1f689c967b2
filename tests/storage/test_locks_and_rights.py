"""E6, E9, E12: others hold what a write needs, or have taken a right away: said once, known to readiness, over by itself."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from actors.ledger.writer import Recorded, Rejected, Unavailable
from actors.server_state import server_state
from actors.storage.connecting import LOCK_MS
from schema import migrate
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


HARMLESS = (
    "LOCK TABLE users IN SHARE MODE",  # somebody makes an index
    "SELECT FROM users FOR NO KEY UPDATE",  # somebody changes a name
    "LOCK TABLE transactions IN ROW EXCLUSIVE MODE",
    "SELECT pg_advisory_xact_lock(n) FROM generate_series(0, 9) n",
    f"SELECT pg_advisory_xact_lock({migrate.LOCK})",
)


@pytest.mark.parametrize("sql", HARMLESS)
def test_a_lock_that_a_write_does_not_need_does_not_hinder_it(database: str, sql: str) -> None:
    async def main() -> None:
        user = await add_user(database)
        locker = await asyncpg.connect(database)
        async with locker.transaction():
            await locker.execute(sql)
            async with storage(database) as s:
                assert isinstance(await s.record(user), Recorded)
                await until(lambda: server_state().written_at is not None and not server_state().write_error)
        await locker.close()
        await assert_sound(database, 1)

    run(main())


def test_one_user_who_is_locked_does_not_hold_up_the_others(database: str) -> None:
    """One batch waits for the lock; from then on theirs are refused at once, until it is gone."""

    async def main() -> None:
        async with storage(database) as s:
            locked, *others = [await add_user(database, f"{n}@example.com") for n in range(3)]
            assert isinstance(await s.record(locked), Recorded)
            locker = await asyncpg.connect(database)
            transaction = locker.transaction()
            await transaction.start()
            await locker.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", locked)
            for _ in range(3):
                refused, *recorded = await asyncio.gather(*(s.record(user) for user in (locked, *others)))
                assert isinstance(refused, Unavailable) and "locked" in str(refused)
                assert all(isinstance(each, Recorded) for each in recorded)
                assert server_state().write_error is None
            began = asyncio.get_running_loop().time()
            for _ in range(10):
                assert isinstance(await s.record(locked), Unavailable)
            assert asyncio.get_running_loop().time() - began < 10 * LOCK_MS / 1000 / 2
            await transaction.rollback()
            await locker.close()
            assert (await until_recorded(s, locked)).seq == 8
            await assert_sound(database, 8)

    run(main())


def test_a_key_that_another_program_has_taken_does_not_hold_up_the_others(database: str) -> None:
    """One batch waits for that program; from then on who brings the key is refused at once, until it has ended."""
    insert = """INSERT INTO transactions (user_id, amount, currency, idempotency_key) VALUES ($1, 12.50, 'EUR', 'k')"""

    async def main() -> None:
        async with storage(database) as s:
            user, locked, other = [await add_user(database, f"{n}@example.com") for n in range(3)]
            assert isinstance(await s.record(user), Recorded)
            program, locker = [await asyncpg.connect(database) for _ in range(2)]
            taken, lock = program.transaction(), locker.transaction()
            await taken.start()
            await program.execute(insert, user)
            await lock.start()
            await locker.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", locked)
            for round_ in range(3):
                refused, too, *recorded = await asyncio.gather(
                    s.record(user, idempotency_key="k"),
                    s.record(locked),  # both are found out at once
                    s.record(user),
                    s.record(user, idempotency_key=f"another {round_}"),
                    s.record(other, idempotency_key="k" if not round_ else None),
                )
                assert isinstance(refused, Unavailable) and "Idempotency-Key" in str(refused)
                assert isinstance(too, Unavailable) and "user" in str(too)
                assert all(isinstance(each, Recorded) for each in recorded)
                assert server_state().write_error is None
            began = asyncio.get_running_loop().time()
            for _ in range(10):
                assert isinstance(await s.record(user, idempotency_key="k"), Unavailable)
            assert asyncio.get_running_loop().time() - began < 10 * LOCK_MS / 1000 / 2
            await lock.rollback()
            await taken.commit()
            await program.close()
            await locker.close()
            got = await until_recorded(s, user, idempotency_key="k")
            assert got.replayed
            await assert_sound(database, 11)

    run(main())


def test_a_row_that_somebodys_trigger_refuses_fails_alone(database: str) -> None:
    trigger = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'not more than 100';
    END $$;
    CREATE TRIGGER a_rule BEFORE INSERT ON transactions FOR EACH ROW WHEN (NEW.amount > 100) EXECUTE FUNCTION refuse();
    """

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            await execute(database, trigger)
            amounts = ("1.00", "101.00", "2.00", "102.00")
            got = await asyncio.gather(*(s.record(user, amount) for amount in amounts))
            assert [type(each) for each in got] == [Recorded, Rejected, Recorded, Rejected]
            assert got[1].message == "not more than 100"
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
