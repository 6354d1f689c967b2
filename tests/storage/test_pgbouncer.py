"""PgBouncer between the server and PostgreSQL: session mode works as it comes, the other modes are refused at start."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from actors.ledger.writer import Recorded
from actors.storage import repo
from actors.storage.connecting import SESSION
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.support import pgbouncer as program
from tests.support.database import add_user, execute
from tests.support.pgbouncer import pgbouncer
from tests.support.server import PATIENCE, ROOT, SECRET, environment
from tests.support.storage import payloads, run, storage, until

pytestmark = pytest.mark.skipif(program.PROGRAM is None, reason="pgbouncer is not installed")


def test_session_mode_works_without_settings_of_its_own(database: str) -> None:
    """LISTEN, prepared statements, the session's limits; and PgBouncer itself may be killed."""

    async def main() -> None:
        async with pgbouncer(database, "session") as between, storage(between.url) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}", f"notification:{user}")
            for _ in range(20):
                assert isinstance(await s.record(user), Recorded)
            async with repo.connection() as connection:
                assert await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
                for name in SESSION:
                    if not name.startswith("tcp_"):  # there is no TCP between here and there
                        assert await connection.fetchval(f"SHOW {name}") != ""
                assert await connection.fetchval("SHOW statement_timeout") == "10s"
                assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "4s"
            await execute(database, "INSERT INTO notifications (user_id, title) VALUES ($1, 'x')", user)
            await until(lambda: payloads(seen, "new_notification"))
            between.kill()
            await until(lambda: repo.status().state == "down")
            await between.start()
            recorded = await until_recorded(s, user)
            await until(lambda: len(payloads(seen, "new_transaction")) == recorded.seq)
            await assert_sound(database, recorded.seq)

    run(main())


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_other_modes_are_refused_with_one_line_that_says_what_to_set(
    database: str, mode: str, command: str, tmp_path: Path
) -> None:
    async def main() -> subprocess.CompletedProcess[str]:
        async with pgbouncer(database, mode) as between:
            variables = {
                "DATABASE_URL": between.url,
                "SECRET_KEY_BASE": SECRET,
                "DATA_DIR": str(tmp_path),
                "LOG_LEVEL": "critical",
            }
            return await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "api.cli", command],
                cwd=ROOT,
                env=environment(**variables),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )

    done = asyncio.run(main())
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "pool_mode=session" in line]
    assert len(lines) == 1 and "DATABASE_URL" in lines[0], done.stdout + done.stderr
