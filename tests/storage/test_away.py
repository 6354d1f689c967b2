"""The database away, in each way that it can be: the server waits, says what is true of each write, and comes back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import asyncpg
import pytest

from actors.ledger import server as ledger_server
from actors.ledger.writer import OutcomeUnknown, Recorded, Unavailable
from actors.server_state import server_state
from actors.storage import failures, repo
from actors.storage.failures import Meaning, meaning, rolled_back
from runtime.otp import erlang
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.support.database import add_user, fetchval
from tests.support.proxy import proxy
from tests.support.storage import payloads, run, storage, until

NAMES = ("postgres", "repo", "ledger_server", "db_writer", "db_listener")


def processes() -> list[Any]:
    return [erlang.whereis(name) for name in NAMES]


@pytest.mark.parametrize("mode", ["close", "silent", "deaf"])
def test_waiting_for_the_database_is_no_restart_and_one_line(
    database: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E1, E10: something in front of the database accepts and closes, or says nothing any more."""

    async def main() -> None:
        async with proxy(database) as link, storage(link.url) as s:
            user = await add_user(database)
            await until_recorded(s, user)
            before = processes()
            caplog.clear()
            link.mode = mode
            began = asyncio.get_running_loop().time()
            await until(lambda: repo.status().state == "down")
            noticed = asyncio.get_running_loop().time() - began
            for _ in range(20):
                assert isinstance(await s.record(user), Unavailable)
                await asyncio.sleep(0.05)
            assert len([r for r in caplog.records if "database down" in r.getMessage()]) == 1
            assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) <= 1
            link.mode = "pass"
            recorded = await until_recorded(s, user)
            assert recorded.seq >= 2
            assert processes() == before
            assert noticed < 10  # 2 s on a machine that is not busy
            await assert_sound(database)

    run(main())


def test_a_commit_whose_answer_is_lost_is_told_all_the_same(database: str) -> None:
    """E5, E7: the caller hears that it is not known, and the channel of the row hears of it though nothing else happens."""

    async def main() -> None:
        async with proxy(database) as link, storage(link.url) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}")
            # With a key as well: what is lost below is to be the answer of the statement, not that of preparing it.
            await until_recorded(s, user, idempotency_key="first", request_hash=b"r")
            link.mode = "deaf"
            lost = await s.record(user, idempotency_key="k", request_hash=b"r")
            assert isinstance(lost, OutcomeUnknown)
            assert await fetchval(database, "SELECT count(*) FROM transactions") == 2
            link.mode = "pass"
            await until(lambda: len(payloads(seen, "new_transaction")) == 2)
            await until(lambda: repo.status().state == "up")
            assert (await ledger_server.current_head()).seq == 2
            again = await s.record(user, idempotency_key="k", request_hash=b"r")
            assert isinstance(again, Recorded) and again.replayed and again.seq == 2
            await assert_sound(database, 2)

    run(main())


def test_a_table_locked_from_outside_leaves_no_statement_behind(database: str) -> None:
    """E6, E9: what we gave up on is ended by the database and never written; writing is seen to be impossible meanwhile."""

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            assert isinstance(await s.record(user), Recorded)
            locker = await asyncpg.connect(database)
            transaction = locker.transaction()
            await transaction.start()
            await locker.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
            got = await s.record(user)
            assert isinstance(got, Unavailable) and "lock" in str(got)
            assert server_state().write_error is not None
            waiting = await locker.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE '%INTO transactions%' AND state = 'active' AND pid <> pg_backend_pid()"
            )
            assert waiting == 0
            await transaction.rollback()
            await locker.close()
            assert (await until_recorded(s, user)).seq == 2
            assert server_state().write_error is None
            await assert_sound(database, 2)

    run(main())


def test_who_holds_the_head_and_falls_silent_is_ended_by_the_database(database: str) -> None:
    """E2: a session of ours with the head locked, whose client says nothing any more."""

    async def main() -> None:
        async with proxy(database) as link, storage(link.url):
            other = await asyncpg.connect(database)
            held = await repo.pool().acquire()
            await held.execute("BEGIN")
            await held.execute("SELECT seq FROM ledger_head FOR UPDATE")
            link.mode = "silent"
            assert not await lock_head(other)
            await until(lambda: lock_head(other))
            await other.close()

    run(main())


async def lock_head(connection: asyncpg.Connection) -> bool:
    """Whether another server can lock the head of the ledger now."""
    try:
        await connection.execute("SET lock_timeout = '500ms'; UPDATE ledger_head SET updated_at = now()")
    except asyncpg.LockNotAvailableError:
        return False
    return True


def test_a_database_that_is_read_only_is_said_once_and_recovers(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E9, E12."""

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            name = await fetchval(database, "SELECT current_database()")
            connection = await asyncpg.connect(database)
            await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await until(
                lambda: server_state().write_error is not None and "read-only" in server_state().write_error
            )
            caplog.clear()
            for _ in range(10):
                assert isinstance(await s.record(user), Unavailable)
            assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await connection.close()
            assert (await until_recorded(s, user)).seq == 1
            await until(lambda: server_state().write_error is None)

    run(main())


def error(sqlstate: str, severity: str = "ERROR") -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": sqlstate, "M": "no", "S": severity, "V": severity})


@pytest.mark.parametrize(
    ("raised", "expected", "certain"),
    [
        (error("22003"), Meaning.ROW, True),  # numeric value out of range
        (error("23503"), Meaning.ROW, True),  # foreign key
        (error("P0001"), Meaning.ROW, True),  # a trigger of somebody refuses it
        (error("25006"), Meaning.AWAY, True),  # read only
        (error("40P01"), Meaning.AWAY, True),  # deadlock
        (error("53100"), Meaning.AWAY, True),  # disk full
        (error("55P03"), Meaning.AWAY, True),  # lock timeout
        (error("57014"), Meaning.AWAY, True),  # statement timeout
        (error("57P01", "FATAL"), Meaning.AWAY, False),  # terminated
        (error("58030"), Meaning.AWAY, True),  # I/O error
        (error("XX001", "PANIC"), Meaning.AWAY, False),
        (error("42P01"), Meaning.OURS, True),  # no such table
        (error("42501"), Meaning.AWAY, True),  # a right that was revoked
        (error("26000"), Meaning.AWAY, True),  # a statement that the session does not know any more
        (ConnectionResetError(), Meaning.AWAY, False),
        (TimeoutError(), Meaning.AWAY, False),
        (asyncio.IncompleteReadError(b"", 4), Meaning.AWAY, False),
        (asyncpg.InterfaceError("connection is closed"), Meaning.AWAY, False),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "no"), Meaning.ROW, True),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), Meaning.AWAY, False),  # of an answer
        (BufferError("insufficient data in buffer"), Meaning.AWAY, False),
        (Unavailable("away"), Meaning.AWAY, True),
        (OutcomeUnknown("lost"), Meaning.AWAY, False),
        (TypeError(), Meaning.OURS, False),
    ],
    ids=lambda value: getattr(value, "sqlstate", None) or type(value).__name__,
)
def test_what_a_failed_statement_means(raised: Exception, expected: Meaning, certain: bool) -> None:
    assert meaning(raised) is expected
    assert rolled_back(raised) is certain
    assert "\n" not in failures.reason(raised)
