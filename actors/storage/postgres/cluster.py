"""An embedded PostgreSQL cluster in a data directory: made once, started, found again, stopped.

`DatabaseCluster.at(data_dir)` is the one object of this process for a directory. A file lock says which process owns
the cluster: the owner ends whatever an earlier owner left running and starts a postmaster of its own;
everybody else only connects (`serving` is false). Clients come over a Unix socket in a private directory,
with a random password; there is no TCP port.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import json
import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import asyncpg

from actors.storage.postgres.files import (
    Account,
    PostgresError,
    account,
    binaries_for,
    home_in,
    socket_directory,
    write_private,
)
from actors.storage.postgres.process import Postmaster, clear_remains, last_words, run, says_ready

DATABASE = "bitnexus"
ROLE = "bitnexus"
SUPERUSER = "postgres"
PORT = 5432  # names the socket file only
LOG_LIMIT = 10_000_000  # bytes
START_SECONDS = 60.0  # crash recovery included

OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "password_encryption": "scram-sha-256",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Everything about where the cluster is; known once it was prepared."""

    who: Account
    home: Path
    data: Path
    socket: Path
    binaries: Path
    passwords: dict[str, str]


def _read_passwords(file: Path) -> dict[str, str]:
    """The passwords of both roles. Raises PostgresError if the file does not hold them."""
    try:
        found = json.loads(file.read_text())
        return {role: str(found[role]) for role in (ROLE, SUPERUSER)}
    except (ValueError, TypeError, KeyError):
        raise PostgresError(
            f"{file} is damaged, so nobody can connect to the database beside it: restore it from a backup"
        ) from None


class DatabaseCluster:
    """The embedded PostgreSQL of one data directory. Get it by `DatabaseCluster.at`."""

    _known: ClassVar[dict[Path, DatabaseCluster]] = {}
    _known_lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def at(cls, data_dir: Path | str, options: dict[str, str] | None = None) -> DatabaseCluster:
        """The cluster of `data_dir`; `options` are postgresql.conf settings that replace ours, for its next start."""
        path = Path(data_dir).expanduser().resolve()
        with cls._known_lock:
            cluster = cls._known.get(path)
            if cluster is None:
                cluster = cls._known[path] = cls(path)
        if options is not None:
            cluster.options = OPTIONS | options
        return cluster

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.options = dict(OPTIONS)
        self.postmaster: Postmaster | None = None
        self._place: _Place | None = None
        self._log_begins = 0  # where the log of the last start begins
        self._owner_lock: int | None = None
        self._preparing = threading.Lock()

    # ---- what others ask

    @property
    def serving(self) -> bool:
        """Whether this process owns the cluster and its postmaster runs."""
        return self.postmaster is not None and self.postmaster.alive

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        """The connection URL for asyncpg and libpq, password included."""
        place = self._located()
        return (
            f"postgresql://{role}:{place.passwords[role]}@/{quote(database)}"
            f"?host={quote(str(place.socket), safe='')}&port={PORT}"
        )

    @property
    def binaries(self) -> Path:
        """The folder of psql, pg_dump and the rest."""
        return self._located().binaries / "bin"

    @property
    def log(self) -> Path:
        """What the postmaster wrote to its error output."""
        return self._located().home / "postgres.log"

    # ---- life

    async def start(self) -> bool:
        """Own the cluster and have it serve: True. False when another process owns it: then connect by `url()`.

        Must run on a thread that lives as long as the server (see `Postmaster`). Raises `PostgresError`.
        """
        if self.serving:
            await self._until_ready(time.monotonic() + START_SECONDS)
            return True
        try:
            owned = await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise PostgresError(f"DATA_DIR {self.data_dir}: {error.filename}: {error.strerror}") from error
        if not owned:
            return False
        if not self.serving:
            self._spawn()
        await self._until_ready(time.monotonic() + START_SECONDS)
        await self._ensure_database()
        return True

    async def attach_or_start(self) -> str:
        """For commands: the URL of the running server, or of one started now (stop it by `stop`)."""
        await self.start()
        return self.url()

    async def stop(self, timeout: float = 6.0) -> None:
        """End the postmaster if it is ours (fast shutdown; after `timeout` seconds by force) and let go of the cluster."""
        await asyncio.to_thread(self.stop_blocking, timeout)

    def stop_blocking(self, timeout: float = 6.0) -> None:
        """`stop` for callers without a loop."""
        with self._preparing:
            if self.postmaster is not None:
                self.postmaster.stop(timeout)
                self.postmaster = None
            self._release()

    # ---- steps

    def _located(self) -> _Place:
        if self._place is None:
            self._place = self._locate()
        return self._place

    def _locate(self) -> _Place:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        who = account()
        home = home_in(self.data_dir, who)
        passwords_file = home / "passwords.json"
        if passwords_file.exists():
            passwords = _read_passwords(passwords_file)
        elif (home / "data").exists():
            raise PostgresError(
                f"{passwords_file} is missing, so nobody can connect to the database beside it"
            )
        else:
            passwords = {name: secrets.token_urlsafe(24) for name in (ROLE, SUPERUSER)}
            write_private(passwords_file, json.dumps(passwords))
            (self.data_dir / "postgres.ready").unlink(missing_ok=True)
        return _Place(who, home, home / "data", socket_directory(home, who), binaries_for(who), passwords)

    def _prepare(self) -> bool:
        with self._preparing:
            if not self._acquire():
                self._place = None
                deadline = time.monotonic() + START_SECONDS
                while not (self.data_dir / "postgres.ready").exists() and time.monotonic() < deadline:
                    time.sleep(0.05)  # the owner is still making it
                self._located()
                return False
            if self.serving:
                return True
            place = self._located()
            clear_remains(place.data)
            if not place.data.exists():
                self._initdb(place)
            have = (place.data / "PG_VERSION").read_text().strip()
            want = (place.binaries / "share" / "postgres.bki").read_text().split("\n", 1)[0].split()[-1]
            if have != want:
                raise PostgresError(
                    f"{place.data} was made by PostgreSQL {have or '?'}, the binaries are {want}: dump and restore"
                )
            return True

    def _initdb(self, place: _Place) -> None:
        staging = place.home / "data.new"
        shutil.rmtree(staging, ignore_errors=True)
        password_file = place.home / ".password"
        password_file.unlink(missing_ok=True)
        write_private(password_file, place.passwords[SUPERUSER], place.who)
        try:
            run(
                place.who, place.home, place.binaries / "bin" / "initdb",
                "-D", str(staging), "-U", SUPERUSER, "-E", "UTF8",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
                "--auth=scram-sha-256", f"--pwfile={password_file}",
            )  # fmt: skip
        finally:
            password_file.unlink(missing_ok=True)
        staging.rename(place.data)

    def _spawn(self) -> None:
        place = self._located()
        log = self.log
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.rename(log.with_suffix(".log.1"))
        self._log_begins = log.stat().st_size if log.exists() else 0
        settings = self.options | {"unix_socket_directories": str(place.socket), "port": str(PORT)}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.postmaster = Postmaster(
            place.who, place.data, place.binaries / "bin" / "postgres", arguments, log
        )
        atexit.register(self.stop_blocking)

    async def _until_ready(self, deadline: float) -> None:
        postmaster, place = self.postmaster, self._located()
        assert postmaster is not None
        while not says_ready(place.data, postmaster.pid):
            if not postmaster.alive:
                raise PostgresError(f"PostgreSQL ended while it started: {self._last_words()}")
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL was not ready after {START_SECONDS:.0f} s, see {self.log}")
            await asyncio.sleep(0.01)

    def _last_words(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            lines = log.read().decode(errors="replace").splitlines()
        return last_words(lines[-20:]) or "it wrote nothing"

    async def _ensure_database(self) -> None:
        """The role and the database of BitNexus. They are made on the first start; later this is one quick connect."""
        marker = self.data_dir / "postgres.ready"
        if marker.exists():
            return
        password = self._located().passwords[ROLE]
        connection = await asyncpg.connect(self.url("postgres", SUPERUSER))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
                await connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEROLE CREATEDB")
            await connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        finally:
            await connection.close()
        marker.touch()

    def _acquire(self) -> bool:
        if self._owner_lock is not None:
            return True
        self.data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._owner_lock = descriptor
        return True

    def _release(self) -> None:
        atexit.unregister(self.stop_blocking)
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None
