"""The embedded postmaster: made, started, killed, orphaned, stopped. Real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from actors.ledger.writer import OutcomeUnknown, Recorded, Unavailable
from actors.storage import repo
from actors.storage.postgres import server as postgres
from actors.storage.postgres.cluster import DatabaseCluster, _read_passwords
from actors.storage.postgres.files import (
    Account,
    PostgresError,
    account,
    home_in,
    may_traverse,
    socket_directory,
)
from actors.storage.postgres.process import last_words, living_in, postmaster_pid
from runtime.core.exits import Exit
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import StartError
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.support.database import add_user, execute, fetchval
from tests.support.server import PATIENCE, wait_until
from tests.support.storage import kill, payloads, run, storage, until


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder any account can reach, gone afterwards with everything that runs in it."""
    folder = Path(tempfile.mkdtemp(prefix="bitnexus-postgres-"))
    folder.chmod(0o755)
    yield folder
    DatabaseCluster.at(folder).stop_blocking()
    for pid in living_in(folder / "postgres" / "data"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: nothing_runs_in(folder))
    shutil.rmtree(folder)


def nothing_runs_in(folder: Path) -> bool:
    return not living_in(folder / "postgres" / "data")


def test_it_is_made_once_serves_privately_and_leaves_nothing_running(data_dir: Path) -> None:
    async def main() -> None:
        cluster = DatabaseCluster.at(data_dir)
        assert await cluster.start() and cluster.serving
        await execute(cluster.url(), "CREATE TABLE kept ()")
        data = data_dir / "postgres" / "data"
        assert living_in(data)
        for path in (data, data_dir / "postgres", data_dir / "postgres" / "socket"):
            assert path.stat().st_mode & 0o077 == 0, path
        assert (data_dir / "postgres" / "passwords.json").stat().st_mode & 0o077 == 0
        assert await fetchval(cluster.url(), "SHOW listen_addresses") == ""
        assert (
            await fetchval(cluster.url(), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            is False
        )
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                cluster.url().replace(":", ":not", 2).replace("postgresql:not", "postgresql:")
            )
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{postmaster_pid(data)}").st_uid != 0
        await cluster.stop()
        assert nothing_runs_in(data_dir) and not (data / "postmaster.pid").exists()
        began = time.monotonic()
        assert await cluster.start()
        assert time.monotonic() - began < 20
        assert await fetchval(cluster.url(), "SELECT to_regclass('kept') IS NOT NULL")

    run(main())


def test_a_killed_postmaster_comes_back_and_no_acknowledged_transaction_is_lost(data_dir: Path) -> None:
    async def main() -> None:
        async with storage(None, data_dir=str(data_dir), strategy="one_for_one") as s:
            user = await add_user(s.url)
            seen = await s.subscribe(f"transaction:{user}")
            acknowledged: list[int] = []
            running = True

            async def client(number: int) -> None:
                n = 0
                while running:
                    n += 1
                    while True:
                        try:
                            got = await s.record(
                                user, "1.00", idempotency_key=f"{number}-{n}", request_hash=b"r"
                            )
                        except Exit:
                            got = None
                        if isinstance(got, Recorded):
                            acknowledged.append(got.seq)
                            break
                        assert got is None or isinstance(got, Unavailable | OutcomeUnknown), got
                        await asyncio.sleep(0.005)

            clients = [asyncio.create_task(client(i)) for i in range(4)]
            data = data_dir / "postgres" / "data"
            for _ in range(2):
                await until(lambda: repo.status().state == "up")
                count = len(acknowledged)
                await until(lambda c=count: len(acknowledged) > c + 20)
                old = postmaster_pid(data)
                assert old is not None
                os.kill(old, signal.SIGKILL)
                await until(lambda o=old: postmaster_pid(data) not in (None, o))
            await until(lambda: repo.status().state == "up")
            count = len(acknowledged)
            await until(lambda: len(acknowledged) > count + 20)
            running = False
            await asyncio.gather(*clients)
            total = await fetchval(s.url, "SELECT count(*) FROM transactions")
            assert sorted(acknowledged) == list(range(1, total + 1))
            await until(lambda: len(payloads(seen, "new_transaction")) >= total)
            assert [p["ledger_seq"] for p in payloads(seen, "new_transaction")] == list(range(1, total + 1))
            await assert_sound(s.url)
        assert nothing_runs_in(data_dir)

    run(main())


def test_the_rest_is_restarted_after_it_under_rest_for_one(data_dir: Path) -> None:
    async def main() -> None:
        async with storage(None, data_dir=str(data_dir), strategy="rest_for_one") as s:
            user = await add_user(s.url)
            await s.record(user)
            writer = erlang.whereis("db_writer")
            pid = postmaster_pid(data_dir / "postgres" / "data")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: erlang.whereis("db_writer") not in (None, writer))
            assert (await until_recorded(s, user)).seq == 2

    run(main())


def test_killing_the_keeper_costs_no_postmaster(data_dir: Path) -> None:
    async def main() -> None:
        async with storage(None, data_dir=str(data_dir)) as s:
            user = await add_user(s.url)
            before = await gen_server.call("postgres", postgres.GetPostgresStatus())
            assert before.mode == "embedded"
            await kill("postgres")
            after = await gen_server.call("postgres", postgres.GetPostgresStatus())
            assert after == before
            assert (await s.record(user)).seq == 1
            os.kill(after.pid, signal.SIGKILL)  # and the new keeper watches it
            await until(lambda: postmaster_pid(data_dir / "postgres" / "data") not in (None, after.pid))
        assert nothing_runs_in(data_dir)

    run(main())


SERVER = """
import asyncio, sys
from actors.storage.postgres.cluster import DatabaseCluster
async def main():
    cluster = DatabaseCluster.at(sys.argv[1])
    print(await cluster.start(), flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


def start_server(data_dir: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", SERVER, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    return child


def test_a_server_killed_outright_leaves_no_process(data_dir: Path) -> None:
    child = start_server(data_dir)
    assert not nothing_runs_in(data_dir)
    child.kill()
    child.wait()
    end = time.monotonic() + PATIENCE
    while not nothing_runs_in(data_dir) and time.monotonic() < end:
        time.sleep(0.02)
    assert nothing_runs_in(data_dir)
    assert asyncio.run(DatabaseCluster.at(data_dir).start())


def test_an_orphaned_postmaster_and_stale_files_are_dealt_with(data_dir: Path) -> None:
    """A postmaster whose server is gone and that did not notice; then a pid file that names a stranger."""
    data = data_dir / "postgres" / "data"
    child = start_server(data_dir)
    orphan = postmaster_pid(data)
    assert orphan is not None
    os.kill(orphan, signal.SIGSTOP)  # can't follow the kernel's order to stop
    child.kill()
    child.wait()
    threading_resume = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -CONT {orphan}"])
    assert asyncio.run(DatabaseCluster.at(data_dir).start())
    threading_resume.wait()
    assert postmaster_pid(data) != orphan
    DatabaseCluster.at(data_dir).stop_blocking()

    for stranger in (os.getpid(), 1):
        (data / "postmaster.pid").write_text(f"{stranger}\n{data}\n1\n5432\n{data_dir}\n\n  1  1\nready\n")
        (data_dir / "postgres" / "socket" / ".s.PGSQL.5432.lock").write_text(f"{stranger}\n")
        assert asyncio.run(DatabaseCluster.at(data_dir).start())
        assert postmaster_pid(data) != stranger
        DatabaseCluster.at(data_dir).stop_blocking()

    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    (data / "postmaster.pid").write_text(f"{zombie.pid}\n{data}\n1\n5432\n{data_dir}\n\n  1  1\nready\n")
    assert asyncio.run(DatabaseCluster.at(data_dir).start())
    zombie.wait()


def test_backends_that_outlive_a_killed_postmaster_are_ended(data_dir: Path) -> None:
    """One is busy in a long computation, and would keep the old shared memory in use."""

    async def main() -> None:
        cluster = DatabaseCluster.at(data_dir)
        await cluster.start()
        data = data_dir / "postgres" / "data"
        busy = await asyncpg.connect(cluster.url())
        backend = busy.get_server_pid()
        working = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$"))
        await asyncio.sleep(0.2)
        pid = postmaster_pid(data)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not cluster.serving)
        os.kill(backend, signal.SIGSTOP)  # it does not even see that its postmaster is gone
        assert await cluster.start()
        assert backend not in living_in(data)
        assert await fetchval(cluster.url(), "SELECT 1") == 1
        working.cancel()
        busy.terminate()

    run(main())


def test_a_second_process_connects_and_takes_over_when_the_first_is_gone(data_dir: Path) -> None:
    child = start_server(data_dir)

    async def main() -> None:
        async with storage(None, data_dir=str(data_dir)) as s:
            user = await add_user(s.url)
            assert (await gen_server.call("postgres", postgres.GetPostgresStatus())).mode == "attached"
            assert (await s.record(user)).seq == 1
            child.kill()
            child.wait()

            async def embedded() -> bool:
                return (await gen_server.call("postgres", postgres.GetPostgresStatus())).mode == "embedded"

            await until(embedded)
            assert (await until_recorded(s, user)).seq == 2
        assert nothing_runs_in(data_dir)

    run(main())


def test_an_interrupted_initdb_starts_over(data_dir: Path) -> None:
    cluster = DatabaseCluster.at(data_dir)
    cluster._locate()
    half = data_dir / "postgres" / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    assert asyncio.run(cluster.start())


def test_what_keeps_it_from_starting_is_said_in_one_line(data_dir: Path) -> None:
    cluster = DatabaseCluster.at(data_dir)
    asyncio.run(cluster.start())
    cluster.stop_blocking()
    version = data_dir / "postgres" / "data" / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(PostgresError, match="made by PostgreSQL 15, the binaries are 18"):
        asyncio.run(cluster.start())
    version.write_text("18\n")
    DatabaseCluster.at(data_dir, {"shared_buffers": "nonsense"})
    with pytest.raises(PostgresError, match=r"FATAL.*shared_buffers") as caught:
        asyncio.run(cluster.start())
    assert "\n" not in str(caught.value)
    DatabaseCluster.at(data_dir, {})
    control = data_dir / "postgres" / "data" / "global" / "pg_control"
    control.rename(f"{control}.away")
    with pytest.raises(PostgresError) as caught:
        asyncio.run(cluster.start())
    assert "pg_control" in str(caught.value), "not what it said at an earlier start"
    Path(f"{control}.away").rename(control)
    assert asyncio.run(cluster.start())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "postgresql://bitnexus:secret@127.0.0.1:1/x",
            "can't connect to postgresql://bitnexus:.*@127.0.0.1:1/x",
        ),
        ("postgresql://bitnexus:secret@no-such-host.invalid/x", "can't connect"),
    ],
)
def test_a_wrong_database_url_stops_the_start_with_one_line(url: str, words: str) -> None:
    async def main() -> None:
        with pytest.raises(StartError) as caught:
            async with storage(url):
                pass
        reason: Any = caught.value.reason
        while isinstance(reason, tuple):
            reason = reason[-1] if not isinstance(reason[0], Exception) else reason[0]
        assert isinstance(reason, repo.DatabaseError)
        assert re.search(words, str(reason)) and "secret" not in str(reason) and "\n" not in str(reason)

    run(main())


def test_reach_is_judged_by_every_parent_folder(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    stranger = Account("stranger", 54321, 54321)
    for folder in (inner, *inner.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and folder.is_relative_to(tmp_path):
            folder.chmod(0o755)
    open_above = may_traverse(tmp_path.parent, stranger)
    assert may_traverse(inner, stranger) == open_above
    (tmp_path / "a").chmod(0o700)
    assert not may_traverse(inner, stranger)
    assert may_traverse(inner, Account("me", inner.stat().st_uid, inner.stat().st_gid)) or not open_above


def test_what_a_program_said_of_its_failure_is_not_that_it_cleans_up() -> None:
    full = 'initdb: error: could not create directory "data": No space left on device'
    assert last_words(["creating directory", full, 'initdb: removing data directory "data"', ""]) == full
    assert last_words(["LOG:  x", "FATAL:  y", "LOG:  database system is shut down"]) == "FATAL:  y"
    assert last_words(["x", " "]) == "x" and last_words([]) == ""


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b"[]", b"1", b"\xff", b'{"bitnexus": "x"}'])
def test_damaged_passwords_are_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "passwords.json").write_bytes(text)
    with pytest.raises(PostgresError, match=r"passwords\.json is damaged"):
        _read_passwords(tmp_path / "passwords.json")


@pytest.mark.parametrize("text", [b"", b"\n", b"data", b"\xff"])
def test_a_note_of_another_place_that_names_none(tmp_path: Path, text: bytes) -> None:
    """An empty one, left by a full disk, once made the working directory the place of the database."""
    (tmp_path / "postgres.location").write_bytes(text)
    with pytest.raises(PostgresError, match=r"postgres\.location names no directory"):
        home_in(tmp_path, account())


def test_a_database_that_was_made_elsewhere_and_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    elsewhere = tmp_path / "mount" / "bitnexus"
    (tmp_path / "postgres.location").write_text(f"{elsewhere}\n")
    (tmp_path / "postgres.ready").touch()
    with pytest.raises(PostgresError, match="is gone"):
        home_in(tmp_path, account())
    assert not elsewhere.exists()


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    with pytest.raises(PostgresError, match=f"uid {2**31 - 7} has none"):
        account()


def test_a_socket_has_no_comma_in_its_path(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    directory = socket_directory(tmp_path / "a,b", account())
    assert "," not in str(directory)
    directory.rmdir()


@pytest.mark.parametrize("closed", [False, True])
def test_the_data_directory_may_lie_below_a_closed_folder(closed: bool) -> None:
    """As root another account runs PostgreSQL; what it can't reach is put where it can. Parents keep their modes."""
    top = Path(tempfile.mkdtemp(prefix="bitnexus-closed-"))
    mode = 0o700 if closed else 0o755
    top.chmod(mode)
    data_dir = top / ("long-name-" * 9) / "data"  # the socket's path gets too long for the kernel, too
    cluster = DatabaseCluster.at(data_dir)
    try:
        assert asyncio.run(cluster.start())
        assert asyncio.run(fetchval(cluster.url(), "SELECT 1")) == 1
        assert top.stat().st_mode & 0o777 == mode
        moved = (data_dir / "postgres.location").exists()
        assert moved == (closed and os.geteuid() == 0)
    finally:
        cluster.stop_blocking()
        place = cluster._located()
        shutil.rmtree(place.socket, ignore_errors=True)
        shutil.rmtree(place.home, ignore_errors=True)
        shutil.rmtree(top)


def interpreter_for(who: Account, folder: Path) -> str:
    """A Python that `who` can run: this one, or this one's files linked to where they can be reached."""
    base = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if may_traverse(base / "bin", who):
        return str(base / "bin" / version)

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    ignore = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "tkinter")
    shutil.copytree(base / "lib" / version, folder / "lib" / version, copy_function=link, ignore=ignore)
    for library in (base / "lib").glob("libpython*"):
        link(str(library), str(folder / "lib" / library.name))
    (folder / "bin").mkdir()
    link(str(base / "bin" / version), str(folder / "bin" / version))
    return str(folder / "bin" / version)


def test_it_runs_as_a_plain_user(data_dir: Path) -> None:
    """As root: the whole Python side under another account. As a plain user all the other tests have shown it."""
    if os.geteuid() != 0:
        return
    entry = pwd.getpwnam("nobody")
    nobody = Account("nobody", entry.pw_uid, entry.pw_gid)
    mine = data_dir / "of-nobody"
    mine.mkdir()
    os.chown(mine, nobody.uid, nobody.gid)
    python = interpreter_for(nobody, data_dir / "python")
    code = SERVER.replace("await asyncio.sleep(3600)", "await cluster.stop()")
    packages = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(asyncpg.__file__).parent.parent)])
    done = subprocess.run(
        [python, "-c", code, str(mine)], user=nobody.uid, group=nobody.gid, extra_groups=[], cwd=mine,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": packages, "LD_LIBRARY_PATH": f"{data_dir}/python/lib"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
    assert (mine / "postgres" / "data").stat().st_uid == nobody.uid
    assert nothing_runs_in(mine)
