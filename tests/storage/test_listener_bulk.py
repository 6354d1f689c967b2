"""The listener when another program changes very many rows at once, and when it is killed again and again."""

from __future__ import annotations

import asyncio

import pytest

from actors.storage import listener as db_listener
from runtime.otp import erlang
from tests.support.database import execute, fetchval
from tests.support.storage import kill, payloads, run, storage, until

MANY = "INSERT INTO tasks (title) SELECT n::text FROM generate_series(1, {}) AS n"


def listener() -> db_listener.DbListener:
    pid = erlang.whereis("db_listener")
    assert pid is not None
    return pid.cell.actor


def test_very_many_changes_do_not_hold_up_the_server(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            seen = await s.subscribe("admin:tasks")
            actor, at_once, before = listener(), 0, 0

            async def watch() -> None:
                nonlocal at_once, before
                while True:
                    at_once, before = max(at_once, actor.published - before), actor.published
                    await asyncio.sleep(0)

            watching = asyncio.create_task(watch())
            await execute(database, MANY.format(5_000))
            await until(lambda: len(payloads(seen, "new_task")) >= 5_000)
            watching.cancel()
            assert [p["title"] for p in payloads(seen, "new_task")] == [str(n + 1) for n in range(5_000)]
            assert at_once <= 2 * db_listener.PAGE  # a page, and one that was there already

    run(main())


def test_a_listener_killed_in_the_midst_of_many_changes_tells_each_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_listener, "PAGE", 10)

    async def main() -> None:
        async with storage(database) as s:
            seen = await s.subscribe("admin:tasks")
            await execute(database, MANY.format(500))
            for told in (20, 100, 250, 400):
                await until(lambda told=told: len(payloads(seen, "new_task")) >= told)
                await kill("db_listener")
            await execute(database, "INSERT INTO tasks (title) VALUES ('last')")
            await until(lambda: len(payloads(seen, "new_task")) >= 501)
            assert [p["title"] for p in payloads(seen, "new_task")] == [
                *(str(n + 1) for n in range(500)),
                "last",
            ]

    run(main())


def test_a_killed_listener_leaves_no_connection_behind(database: str) -> None:
    async def main() -> None:
        async with storage(database):
            for _ in range(5):
                await kill("db_listener")
                await until(lambda: listener().connection is not None)
            count = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name LIKE 'bitnexus listener %' AND datname = current_database()"
            )

            async def one() -> bool:
                return await fetchval(database, count) == 1

            await until(one)

    run(main())
