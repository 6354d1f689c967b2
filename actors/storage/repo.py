"""The connection pool to PostgreSQL, and whether the database answers (Ecto's Repo).

Owns the pool of `pool()` and the truth about the database: a ping a second, ten a second while it is down.
Request handlers take connections directly from the pool, without a message. The first start of a server fails
if the database can't be reached or migrated, with one line that says why; later the process stays up through
outages and the pool reconnects. After a crash the restarted process takes the same pool over.

Messages: `Ping` (its own timer), `Suspect` (a caller saw a connection fail: look now). Calls: `GetStatus` ->
`RepoStatus`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from asyncpg.connection import LoggedQuery

from actors import settings
from actors.node import node
from actors.storage.postgres import server as postgres
from runtime.core import telemetry
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Reply, Stop
from schema.migrate import MigrationError, migrate

log = logging.getLogger("bitnexus.repo")

QUERY = telemetry.Span("sql", "query")

PING_UP_MS = 1000
PING_DOWN_MS = 100
PING_SECONDS = 2.0
COMMAND_SECONDS = 10.0
CLOSE_SECONDS = 2.0
CONNECTION_ERRORS = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, terminated by an operator
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)


class Unavailable(Exception):
    """The database does not answer; HTTP 503. As a reply of `db_writer` it is a value, not raised."""


class DatabaseError(Exception):
    """The database can't be used as configured; the text is one line."""


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Asks for `RepoStatus`."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Time to ask the database whether it is there."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A caller's connection failed."""


@dataclass(frozen=True, slots=True)
class RepoStatus:
    """state is up or down, `since` seconds of this server's monotonic clock; pool figures are connections."""

    state: str
    since: float
    error: str | None
    size: int
    idle: int
    acquired: int
    max_size: int
    outages: int


class Repo(GenServer):
    """The owner of the pool. `pool_size` defaults to DATABASE_POOL_SIZE; `migrations` false leaves the schema
    as it is.
    """

    def init(self, pool_size: int | None = None, migrations: bool = True) -> Any:
        erlang.trap_exit(True)
        self.pool_size = pool_size if pool_size is not None else settings.current().database_pool_size
        self.migrations = migrations
        self._timer: Any = None
        return self._open()

    async def _open(self) -> None:
        memory = node()
        if not memory.was_up:
            await self._prepare(postgres.url())
        if memory.pool is None or memory.pool.is_closing():
            memory.pool = await open_pool(postgres.url(), self.pool_size)
        memory.was_up = True
        await self._ping()

    async def _prepare(self, url: str) -> None:
        try:
            connection = await asyncpg.connect(url, timeout=10, command_timeout=300)
            try:
                if self.migrations:
                    await migrate(connection)
            finally:
                await connection.close()
        except MigrationError as error:
            raise DatabaseError(f"migration failed: {error}") from error
        except (*CONNECTION_ERRORS, asyncpg.PostgresError, ValueError) as error:
            raise DatabaseError(f"DATABASE_URL: can't connect to {address(url)}: {reason(error)}") from error

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetStatus():
                return Reply(status())
        return super().handle_call(request, from_)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Suspect():
                if node().database_error is None:
                    return self._ping()
        return None

    def handle_info(self, message: Any) -> Any:
        match message:
            case Ping():
                return self._ping()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def _ping(self) -> None:
        memory = node()
        error: str | None = None
        try:
            assert memory.pool is not None
            async with asyncio.timeout(PING_SECONDS), memory.pool.acquire() as connection:
                await connection.execute("SELECT 1")
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as caught:
            error = reason(caught)
        if (error is None) != (memory.database_error is None):
            if error is None and memory.outages:
                log.warning("database up again after %.1f s", time.monotonic() - memory.database_since)
            elif error is not None:
                memory.outages += 1
                log.warning("database down: %s", error)
            memory.database_since = time.monotonic()
        memory.database_error = error
        if self._timer is not None:
            erlang.cancel_timer(self._timer)
        self._timer = erlang.send_after(PING_UP_MS if error is None else PING_DOWN_MS, erlang.self_(), Ping())

    async def terminate(self, reason: Any) -> None:
        memory = node()
        memory.database_error, memory.database_since = "stopped", time.monotonic()
        opened, memory.pool = memory.pool, None
        if opened is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await opened.close()
            except CONNECTION_ERRORS:
                opened.terminate()


# ---- for everybody


def pool() -> asyncpg.Pool:
    """The pool. Raises `Unavailable` at once while the database is down or the repo is not started."""
    memory = node()
    if memory.database_error is not None or memory.pool is None:
        raise Unavailable(memory.database_error or "the pool is closed")
    return memory.pool


@asynccontextmanager
async def connection(timeout: float = 2.0) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool for an `async with` block; waits at most `timeout` seconds for a free one.

    Raises `Unavailable` for a database that is down, goes down meanwhile, or has no connection left; errors
    of SQL itself come as they are.
    """
    opened = pool()
    try:
        async with opened.acquire(timeout=timeout) as acquired:
            yield acquired  # type: ignore[misc]
    except CONNECTION_ERRORS as error:
        raise suspect(error) from error


def suspect(error: BaseException) -> Unavailable:
    """For a connection error that a caller met: has the repo look at once, and returns the `Unavailable` to
    raise.
    """
    gen_server.cast("repo", Suspect())
    return Unavailable(reason(error))


def url() -> str:
    """The connection URL in force."""
    return postgres.url()


def status() -> RepoStatus:
    """The state of database and pool."""
    memory = node()
    opened = memory.pool
    size, idle, most = (
        (opened.get_size(), opened.get_idle_size(), opened.get_max_size())
        if opened is not None
        else (0, 0, 0)
    )
    return RepoStatus(
        "up" if memory.database_error is None else "down",
        memory.database_since,
        memory.database_error,
        size,
        idle,
        size - idle,
        most,
        memory.outages,
    )


async def open_pool(database_url: str, size: int) -> asyncpg.Pool:
    """A pool whose connections decode jsonb; it connects when a connection is wanted."""
    return await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=size,
        timeout=5,
        command_timeout=COMMAND_SECONDS,
        max_inactive_connection_lifetime=300,
        init=prepare_connection,
        reset=_keep,
        server_settings={"application_name": "bitnexus", "jit": "off", "bitnexus.node": node().id},
    )


async def prepare_connection(opened: asyncpg.Connection) -> None:
    """What every connection of ours is told once."""
    if QUERY.active:  # who listens later hears of later connections
        opened.add_query_logger(_queried)
    for kind in ("json", "jsonb"):
        await opened.set_type_codec(
            kind,
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
        )


def _queried(query: LoggedQuery) -> None:
    QUERY.ended(query.elapsed, {"query": query.query}, query.exception)


async def _keep(opened: asyncpg.Connection) -> None:
    # asyncpg's own reset is a round trip after every use; nothing of ours changes the session's state.
    return


def address(database_url: str) -> str:
    """The URL without its password, for messages."""
    return settings.mask_url(database_url)


def reason(error: BaseException) -> str:
    """One line for an error of the database or of the way to it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"  # the event loops word it each their own way
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
