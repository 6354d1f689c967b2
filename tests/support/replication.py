"""A PostgreSQL and its standby, made of the embedded binaries: killed, promoted and copied as an operator would."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg

from actors.storage.postgres.files import account, binaries_for
from actors.storage.postgres.process import Postmaster, living_in, run
from schema.migrate import migrate
from tests.support.server import PATIENCE

DATABASE, ROLE, SUPERUSER, PORT = "replicated", "bitnexus", "postgres", 5432
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    # Else a primary that has ended on a full disk removes at its start what its standby lacks, which then never comes back.
    "wal_keep_size": "64MB",
    "max_wal_senders": "5",
    "max_wal_size": "64MB",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "log_min_messages": "warning",
    "io_method": "sync",
    "jit": "off",
    "fsync": "off",  # what is killed here are processes, not machines
}


class Instance:
    """One server in `folder`, which the account that it runs as must reach. Who gets to its socket is let in."""

    def __init__(self, folder: Path) -> None:
        self.who = account()
        self.folder, self.data, self.socket = folder, folder / "data", folder / "socket"
        self.log = folder / "postgres.log"
        self.postmaster: Postmaster | None = None
        for directory in (folder, self.socket):
            directory.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(directory, self.who.uid, self.who.gid)

    def initialize(self) -> None:
        """An empty server."""
        self._run("initdb", "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth=trust")

    def copy(self, primary: Instance) -> None:
        """A standby of `primary`, in place of whatever was here.

        It has a replication slot: a primary that ran out of disk while its standby was away would otherwise, as soon as it
        can, remove WAL that the standby still needs.
        """
        shutil.rmtree(self.data, ignore_errors=True)
        slot = self.folder.name
        source = f"host={primary.socket} port={PORT} user={SUPERUSER} application_name={slot}"
        self._run(
            "pg_basebackup",
            "-D",
            str(self.data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-C",
            "-S",
            slot,
            "-d",
            source,
        )

    def _run(self, program: str, *arguments: str) -> None:
        run(self.who, self.folder, binaries_for(self.who) / "bin" / program, *arguments)

    async def start(self) -> None:
        """Starts it and waits until it accepts connections."""
        settings = OPTIONS | {"unix_socket_directories": str(self.socket), "port": str(PORT)}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        program = binaries_for(self.who) / "bin" / "postgres"
        self.postmaster = Postmaster(self.who, self.data, program, arguments, self.log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return await self.execute("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                assert self.postmaster.alive and time.monotonic() < end, self.log.read_text()[-2000:]
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL; the others of its processes notice it."""
        assert self.postmaster is not None
        await asyncio.to_thread(self.postmaster.stop, 0.0)
        end = time.monotonic() + PATIENCE
        while living_in(self.data):
            assert time.monotonic() < end, "some of its processes do not end"
            await asyncio.sleep(0.02)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    async def execute(self, sql: str, database: str = SUPERUSER) -> None:
        """As the superuser."""
        connection = await asyncpg.connect(self.url(database, SUPERUSER), timeout=10)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def promote(self) -> None:
        """The standby becomes a server that takes writes and waits for no standby of its own."""
        await self.execute("SELECT pg_promote(true)")
        await self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await self.execute("SELECT pg_reload_conf()")

    async def confirm_by_standbys(self) -> None:
        """From now on COMMIT waits for a standby (synchronous replication), which must be there already."""
        await self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self.execute("SELECT pg_reload_conf()")
        connection = await asyncpg.connect(self.url(SUPERUSER, SUPERUSER))
        try:
            end = time.monotonic() + PATIENCE
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            ):
                assert time.monotonic() < end, "no standby is synchronous"
                await asyncio.sleep(0.02)
        finally:
            await connection.close()

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        """The URL of this server alone."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket), safe='')}&port={PORT}"


@asynccontextmanager
async def primary_and_standby(
    synchronous: bool, one: Path | None = None, two: Path | None = None
) -> AsyncIterator[tuple[Instance, Instance]]:
    """Both running, with a migrated database; in these folders, if they are given."""
    folder = pair_folder()
    pair = Instance(one or folder / "one"), Instance(two or folder / "two")
    try:
        await _set_up(*pair)
        if synchronous:
            await pair[0].confirm_by_standbys()
        yield pair
    finally:
        for instance in pair:
            if instance.postmaster is not None and instance.postmaster.alive:
                await instance.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def _set_up(one: Instance, two: Instance) -> None:
    await asyncio.to_thread(one.initialize)
    await one.start()
    await one.execute(f"CREATE ROLE {ROLE} LOGIN CREATEROLE CREATEDB")
    await one.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    connection = await asyncpg.connect(one.url())
    await migrate(connection)
    await connection.close()
    await asyncio.to_thread(two.copy, one)
    await two.start()


def pair_folder() -> Path:
    """A folder that the account of PostgreSQL can get through."""
    made = Path(tempfile.mkdtemp(prefix="bitnexus-pair-"))
    made.chmod(0o755)
    return made


def both(one: str, two: str) -> str:
    """One URL that names the hosts of two, for the one that takes writes."""
    host, other = (url.partition("host=")[2].partition("&")[0] for url in (one, two))
    return one.replace(f"host={host}", f"host={host},{other}") + "&target_session_attrs=read-write"
