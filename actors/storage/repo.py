"""The connection pool to PostgreSQL, and whether the database answers (Ecto's Repo).

Owns the pool of `pool()`, and decides whether the database is up: it pings every second on a connection of its own, so that a
busy pool is no outage, and after a failure again with growing pauses. When a ping is not answered, the pool is closed and
another takes its place: a statement on a dead connection fails within two seconds. Request handlers take connections directly
from the pool, without a message; operators' queries have a small pool of their own, which users cannot exhaust. The first start
of a server fails if the database can't be reached or migrated, with one line that says why; later the process stays up through
outages and the pool reconnects. After a crash the restarted process takes the same pool over.

Messages: `Ping` (its own timer), `Suspect` (a caller saw a connection fail: ping now). Calls: `GetRepoStatus` ->
`RepoStatus`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from actors import settings
from actors.connection_string import each_host
from actors.server_state import server_state
from actors.storage import connecting, pgbouncer
from actors.storage.failures import Meaning, OutcomeUnknown, Unavailable, meaning, reason, rolled_back
from actors.storage.postgres import server as postgres
from runtime import CallRequest, GenServer, Reply, Stop, erlang, gen_server
from schema.migrate import MigrationError, migrate

log = logging.getLogger("bitnexus.repo")


PING_UP_MS = 1000
PING_DOWN_MS = (100, 200, 400, 800, 1000)
PING_SECONDS = 1.0
LATE_SECONDS = 0.1  # an event loop that is later than that with a timeout was not able to read either
PING = "SELECT current_setting('transaction_read_only')::boolean"
COMMAND_SECONDS = 10.0
OPERATORS_SIZE = 2  # connections, opened when wanted
CLOSE_SECONDS = 2.0
CONNECT_SECONDS = 10.0  # at start
MIGRATION_SECONDS = 300.0  # a statement of a migration

__all__ = [
    "DatabaseError",
    "GetRepoStatus",
    "OutcomeUnknown",
    "Ping",
    "Repo",
    "RepoStatus",
    "Suspect",
    "Unavailable",
    "address",
    "connection",
    "operators",
    "pool",
    "reason",
    "status",
    "suspect",
    "unavailable",
    "url",
]


class DatabaseError(Exception):
    """The database can't be used as configured; the text is one line."""


@dataclass(frozen=True, slots=True)
class GetRepoStatus(CallRequest["RepoStatus"]):
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
    """The owner of the pool. `pool_size` defaults to DATABASE_POOL_SIZE; `migrations` false leaves the schema as it is."""

    def init(self, pool_size: int | None = None, migrations: bool = True) -> Any:
        erlang.trap_exit(True)
        self.pool_size = pool_size if pool_size is not None else settings.current().database_pool_size
        self.migrations = migrations
        self._timer: Any = None
        self._was_late = False
        self._link: asyncpg.Connection | None = None
        self.on_exit(lambda _pid: self._disconnect())  # also when it is killed
        return self._open()

    async def _open(self) -> None:
        state = server_state()
        self.several_hosts = len(each_host(postgres.url())) > 1
        if not state.was_up:
            await self._prepare(postgres.url())
        if state.pool is None or state.pool.is_closing():
            await self._open_pools()
        if state.pool is not None and not state.was_up and settings.current().parent_socket:
            await connecting.warm(state.pool)
        state.was_up = True
        await self._ping()

    async def _prepare(self, url: str) -> None:
        try:
            connection = await connecting.open_connection(
                url,
                timeout=CONNECT_SECONDS,
                command_timeout=MIGRATION_SECONDS,
                connection_class=connecting.Connection,
            )
            try:
                if await pgbouncer.shares_sessions(connection, url):
                    raise DatabaseError(f"DATABASE_URL: {address(url)}: {pgbouncer.ADVICE}")
                await connecting.end_if_silent(connection)
                if self.migrations:
                    await migrate(connection)
            finally:
                await connection.close()
        except DatabaseError:
            raise
        except MigrationError as error:
            raise DatabaseError(f"migration failed: {error}") from error
        except Exception as error:  # what a proxy or a dying server makes a client raise has no bound
            raise DatabaseError(f"DATABASE_URL: can't connect to {address(url)}: {reason(error)}") from error

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetRepoStatus():
                return Reply(status())
        return super().handle_call(request, from_)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Suspect():
                if server_state().database_error is None:
                    return self._ping()
        return None

    def handle_info(self, message: Any) -> Any:
        match message:
            case Ping():
                return self._ping()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def _open_pools(self) -> None:
        state = server_state()
        opened = [
            await connecting.open_pool(postgres.url(), size, name, state.id, COMMAND_SECONDS)
            for size, name in ((self.pool_size, "bitnexus"), (OPERATORS_SIZE, "bitnexus operators"))
        ]
        state.pool, state.operators_pool = opened

    async def _ping(self) -> None:
        state = server_state()
        error: str | None = None
        began = self.now()
        try:
            async with asyncio.timeout(PING_SECONDS):
                if self._link is None or self._link.is_closed():
                    self._link = await connecting.connect(
                        postgres.url(), "bitnexus repo", command_timeout=PING_SECONDS
                    )
                if await self._link.fetchval(PING) and self.several_hosts:
                    raise Unavailable("this host takes no writes any more")
        except Exception as caught:  # whatever it is: the database does not answer
            late = self.now() - began > PING_SECONDS + LATE_SECONDS
            if late and not self._was_late and state.database_error is None:
                # The answer may lie there unread: a server that is short of CPU was late itself. That counts once.
                self._was_late = True
                self._later(0)
                return
            error = reason(caught)
            self._disconnect()
            if state.database_error is None:
                await self._replace_pool()
        self._was_late = False
        self._note(error)
        self._later(
            PING_UP_MS if error is None else PING_DOWN_MS[min(state.failed_pings, len(PING_DOWN_MS)) - 1]
        )

    def _later(self, pause: int) -> None:
        if self._timer is not None:
            erlang.cancel_timer(self._timer)
        self._timer = erlang.send_after(pause, erlang.self_(), Ping())

    def _note(self, error: str | None) -> None:
        state = server_state()
        state.failed_pings = 0 if error is None else state.failed_pings + 1
        if (error is None) != (state.database_error is None):
            if error is None and state.outages:
                log.warning("database up again after %.1f s", self.now() - state.database_since)
            elif error is not None:
                state.outages += 1
                log.warning("database down: %s", error)
            state.database_since = self.now()
        state.database_error = error

    async def _replace_pool(self) -> None:
        # Its connections may hang as the ping did: their statements fail now, not at their own timeouts.
        state = server_state()
        old = state.pool, state.operators_pool
        await self._open_pools()
        for each in old:
            if each is not None:
                each.terminate()

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.terminate()

    async def terminate(self, reason: Any) -> None:
        state = server_state()
        state.database_error, state.database_since = "stopped", self.now()
        opened = [each for each in (state.pool, state.operators_pool) if each is not None]
        state.pool = state.operators_pool = None
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(each.close() for each in opened))
        except Exception:
            for each in opened:
                each.terminate()


# ---- for everybody


def pool() -> asyncpg.Pool:
    """The pool. Raises `Unavailable` at once while the database is down or the repo is not started."""
    state = server_state()
    if state.database_error is not None or state.pool is None:
        raise Unavailable(state.database_error or "the pool is closed")
    return state.pool


def operators() -> asyncpg.Pool:
    """The pool of what operators ask. Raises `Unavailable` as `pool` does."""
    pool()
    opened = server_state().operators_pool
    assert opened is not None
    return opened


@asynccontextmanager
async def connection(
    timeout: float = 2.0, of: Callable[[], asyncpg.Pool] = pool
) -> AsyncGenerator[asyncpg.Connection, None]:
    """A connection of the pool for an `async with` block; waits at most `timeout` seconds for a free one.

    Raises `Unavailable` for a database that is down, goes down meanwhile, or has no connection left; errors
    of SQL itself come as they are.
    """
    opened = of()
    try:
        async with opened.acquire(timeout=timeout) as acquired:
            yield acquired  # type: ignore[misc]
    except Exception as error:
        if isinstance(error, Unavailable) or meaning(error) is not Meaning.AWAY:
            raise
        raise unavailable(error) from error


def suspect(error: BaseException) -> Unavailable:
    """For a connection error that a caller met: has the repo ping at once, and returns the `Unavailable` to raise."""
    gen_server.cast("repo", Suspect())
    return Unavailable(reason(error))


def unavailable(error: BaseException) -> Unavailable | OutcomeUnknown:
    """What to raise for a statement that failed because the database is away: certain not to be written, or not known."""
    gone = suspect(error)
    return gone if rolled_back(error) else OutcomeUnknown(str(gone))


def url() -> str:
    """The connection URL in force."""
    return postgres.url()


def status() -> RepoStatus:
    """The state of database and pool."""
    state = server_state()
    opened = state.pool
    size, idle, most = (
        (opened.get_size(), opened.get_idle_size(), opened.get_max_size())
        if opened is not None
        else (0, 0, 0)
    )
    return RepoStatus(
        "up" if state.database_error is None else "down",
        state.database_since,
        state.database_error,
        size,
        idle,
        size - idle,
        most,
        state.outages,
    )


def address(database_url: str) -> str:
    """The URL without its password, for messages."""
    return settings.mask_url(database_url)
