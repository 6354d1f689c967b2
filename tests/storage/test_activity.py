"""What keeps the database from being written is seen: locks and who holds them, a full disk, a read-only database."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx
import pytest

from actors.server_state import server_state
from actors.settings import load
from actors.storage.activity import DatabaseActivity
from api.cli import doctor
from runtime.otp import erlang
from runtime.testing.simulation import play_real
from schema.activity import KEPT, LOW_BYTES, Activity, Statement
from tests.support.server import PATIENCE, Server, User, wait_until

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def server_environment() -> Mapping[str, str]:
    return {"LOG_LEVEL": "warning"}


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'bitnexus' AND wait_event_type = 'Lock' AND datname = current_database()
"""


def ready(server: Server) -> httpx.Response:
    return httpx.get(f"{server.url}/api/v1/health/ready", timeout=PATIENCE)


def database(admin: User) -> dict[str, Any]:
    return admin.client.get("/admin/database").raise_for_status().json()


def test_operators_are_served_while_users_hold_every_connection(server: Server, admin: User) -> None:
    async def main() -> None:
        holder, looking = await asyncpg.connect(server.database), await asyncpg.connect(server.database)
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {admin.token}"}
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE, limits=limits, headers=headers, trust_env=False
        ) as client:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("LOCK TABLE tasks")
            users = [asyncio.create_task(client.get("/api/v1/tasks")) for _ in range(15)]
            async with asyncio.timeout(PATIENCE):
                while await looking.fetchval(WAITING) < 9:  # the writer has the tenth
                    await asyncio.sleep(0.01)
            answer = await client.get("/admin/audit")
            assert answer.status_code == 200 and not all(each.done() for each in users)
            assert await looking.fetchval(WAITING) > 0
            await transaction.rollback()
            await asyncio.gather(*users)
        await holder.close()
        await looking.close()

    asyncio.run(main())


def test_who_waits_for_whose_lock_is_told_everywhere(server: Server, admin: User) -> None:
    wait_until(lambda: not database(admin)["waits"])  # the last sample may be of the test before
    before = len(server.lines)

    async def main() -> None:
        holder = await asyncpg.connect(server.database, server_settings={"application_name": "somebody else"})
        waiting = await asyncpg.connect(server.database, server_settings={"application_name": "a report"})
        try:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("LOCK TABLE emails")
            task = asyncio.create_task(waiting.fetchval("SELECT count(*) FROM emails"))
            pid = holder.get_server_pid()
            found = await asyncio.to_thread(wait_until, lambda: database(admin)["waits"])
            [wait] = found
            assert (
                wait["program"] == "a report"
                and wait["held_by"] == "somebody else"
                and wait["waits_for"] == pid
            )
            told = await asyncio.to_thread(
                wait_until, lambda: ready(server).json()["checks"]["locks"].get("reason", "")
            )
            assert f"held by session {pid} (somebody else)" in told
            assert ready(server).status_code == 200  # it can be written all the same
            metrics = await asyncio.to_thread(
                lambda: httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
            )
            assert re.search(r"^bitnexus_lock_waits\{.*\} 1.0$", metrics, re.M)
            assert re.search(r"^bitnexus_writable\{.*\} 1.0$", metrics, re.M)
            await transaction.rollback()
            assert await task == 0
        finally:
            await holder.close()
            await waiting.close()

    asyncio.run(main())
    over = "no statement waits for a lock any more"
    wait_until(lambda: any(over in line for line in server.lines[before:]))
    assert sum("wait for locks" in line for line in server.lines[before:]) == 1
    slowest = database(admin)["slowest"]
    assert any("FROM emails" in each["query"] and each["seconds"] >= 0.1 for each in slowest)


def test_a_database_that_takes_no_writes_is_not_ready_and_doctor_says_so(server: Server) -> None:
    name = server.database.rpartition("/")[2].partition("?")[0]
    ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    settings = load({"DATABASE_URL": server.database, "SECRET_KEY_BASE": "x", "PORT": "0"}, any_secret=True)
    server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    server.execute(ours)
    try:
        wait_until(lambda: "read-only" in ready(server).json()["checks"]["writer"].get("reason", ""))
        assert ready(server).status_code == 503
        finding = asyncio.run(doctor._writing(settings, serves=False))
        assert not finding.ok and "read-only" in finding.text
    finally:
        server.execute(
            f'BEGIN READ WRITE; ALTER DATABASE "{name}" RESET default_transaction_read_only; COMMIT'
        )
        server.execute(ours)
    wait_until(lambda: ready(server).status_code == 200)
    assert asyncio.run(doctor._writing(settings, serves=False)).ok


def test_the_slowest_are_kept_each_with_its_longest_run() -> None:
    seen = Activity()
    for number in range(3 * KEPT):
        seen = seen.after(
            [Statement(1, "x", f"SELECT {number}", float(number)), Statement(2, "x", "again", number / 7)]
        )
    assert len(seen.slowest) == KEPT and seen.slowest[0].query == f"SELECT {3 * KEPT - 1}"
    assert seen.longest_wait == 0 and not seen.waits
    seen = seen.after([Statement(1, "x", "again", 99.0, 7), Statement(1, "x", "again", 1.0)])
    assert [each.seconds for each in seen.slowest if each.query == "again"] == [99.0]
    assert seen.longest_wait == 99.0 and not seen.disk_low


@pytest.mark.parametrize(("free", "low"), [(LOW_BYTES - 1, True), (LOW_BYTES, False)])
def test_a_full_disk_is_seen(monkeypatch: pytest.MonkeyPatch, free: int, low: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 40, 0, free))
    monkeypatch.delenv("DATABASE_URL", raising=False)

    async def main() -> bool:
        await DatabaseActivity.start(10)
        while server_state().activity.disk_free is None:
            await erlang.sleep(10)
        return server_state().activity.disk_low

    assert play_real(main) is low
