"""Connections to PostgreSQL: all are opened here, and each ends by itself when its peer does not answer.

The limits are settings of the session, so PostgreSQL enforces them even if this server no longer can: a statement whose caller is
gone, a wait for a lock and a transaction whose client is silent (it may hold the ledger's head) end within seconds, and a
connection whose peer is gone is closed. This side of the socket has the same limits.

Of several hosts the one that takes writes is found even if others are dead or silent: the next is tried before the last one has
failed. The settings are sent after the session has started, since PgBouncer refuses them at its start.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg
import orjson
from asyncpg.connection import LoggedQuery

from actors.connection_string import each_host, session_attributes
from actors.server_state import server_state
from actors.storage.failures import Unavailable, reason
from actors.storage.framing import FramedLoop
from runtime import telemetry

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

QUERY = telemetry.Span("sql", "query")
CONNECT_SECONDS: Final = 2.0
NEXT_HOST_SECONDS: Final = 0.25  # without an answer from one host, the next is tried as well
STATEMENT_MS: Final = 10_000  # what anybody's statement may take
LOCK_MS: Final = 3_000  # of that, waiting for one lock
SILENT_MS: Final = 4_000  # a client in a transaction that says nothing
MIGRATION_SILENT_MS: Final = 60_000  # the same, of one who migrates
PEER_MS: Final = 2_000  # an answer on the level of TCP, by keepalives when nothing is sent

SESSION: Final = {
    "jit": "off",
    # A page of a list is read in the order of its index. Otherwise the generic plan, made for a user with few rows, reads and
    # sorts all rows of a user with many.
    "enable_bitmapscan": "off",
    "random_page_cost": "1.1",
    "statement_timeout": str(STATEMENT_MS),
    "lock_timeout": str(LOCK_MS),
    "idle_in_transaction_session_timeout": str(SILENT_MS),
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": str(PEER_MS),
}


SqlConnection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"  # opened alone, or lent by a pool


class Connection(asyncpg.Connection):
    """A connection that notices within PEER_MS that its peer is gone."""

    def __init__(self, protocol: Any, transport: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(protocol, transport, *arguments, **options)
        end = transport.get_extra_info("socket")
        if end is not None and end.family in (socket.AF_INET, socket.AF_INET6):
            for level, option, value in _SOCKET_OPTIONS:
                end.setsockopt(level, option, value)


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2), ("TCP_USER_TIMEOUT", PEER_MS))
    for name, value in wanted:  # not every system has all of them
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


_SOCKET_OPTIONS: Final = _socket_options()


async def connect(url: str, name: str, *, command_timeout: float) -> asyncpg.Connection:
    """A connection of its own, shown as `name` in pg_stat_activity; `command_timeout` in seconds.

    Raises `Unavailable` whatever goes wrong.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _session(url, {"application_name": name}, SESSION, command_timeout=command_timeout)
    except Exception as error:  # what a proxy or a dying server makes a client raise has no bound
        raise Unavailable(reason(error)) from error


async def open_pool(url: str, size: int, name: str, node_id: str, command_timeout: float) -> asyncpg.Pool:
    """A pool of at most `size` such connections; it connects when one is wanted."""

    async def another(*_arguments: Any, **options: Any) -> asyncpg.Connection:
        # Who waited for a connection that was ended just now would wait as long again for one that can't be had.
        if (away := server_state().database_error) is not None:
            raise Unavailable(away)
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _session(url, options.pop("server_settings"), settings, **options)

    settings = {"bitnexus.node": node_id, **SESSION}
    return await server_state().driver.create_pool(
        min_size=0,
        max_size=size,
        command_timeout=command_timeout,
        max_inactive_connection_lifetime=300,
        connection_class=Connection,
        connect=another,
        reset=_keep,
        server_settings={"application_name": name},
    )


async def warm(pool: asyncpg.Pool) -> None:
    """Has the pool connect as often as it may, for a server that takes another's place: its first requests come all at once.

    Gives up after CONNECT_SECONDS; what is missing is connected when it is wanted.
    """

    async def use() -> None:
        async with pool.acquire(
            timeout=CONNECT_SECONDS
        ) as connection:  # each its own: all are taken before one is given back
            await connection.execute("SELECT 1")

    await asyncio.gather(*(use() for _ in range(pool.get_max_size())), return_exceptions=True)


async def open_connection(
    url: str, *, timeout: float, driver: Any = None, **options: Any
) -> asyncpg.Connection:
    """A connection as asyncpg makes it, to the first host that is what the URL wants; at most `timeout` seconds.

    `driver` defaults to the server's; a program that runs none names its own. Raises what the last host's attempt
    raised, TimeoutError if none has answered.
    """
    driver = server_state().driver if driver is None else driver
    options["target_session_attrs"] = session_attributes(url)
    options["loop"] = FramedLoop(asyncio.get_running_loop())
    async with asyncio.timeout(timeout):
        return await _first([driver.connect(host, timeout=timeout, **options) for host in each_host(url)])


async def _session(
    url: str, start: dict[str, str], settings: dict[str, str], **options: Any
) -> asyncpg.Connection:
    opened = await open_connection(
        url, timeout=CONNECT_SECONDS, **{"connection_class": Connection, **options, "server_settings": start}
    )
    try:
        await _set(opened, settings)
        await prepare(opened)
    except BaseException:
        opened.terminate()
        raise
    return opened


async def end_if_silent(opened: asyncpg.Connection) -> None:
    """Has the database end the session of one who migrates, and with it its locks, once its client is gone or stands still."""
    peer = {name: value for name, value in SESSION.items() if name.startswith("tcp_")}
    await _set(opened, peer | {"idle_in_transaction_session_timeout": str(MIGRATION_SILENT_MS)})


async def _set(opened: asyncpg.Connection, settings: dict[str, str]) -> None:
    sql = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())
    await opened.execute(sql, timeout=CONNECT_SECONDS)


async def _first(attempts: list[Any]) -> asyncpg.Connection:
    """The first that succeeds. One begins when those before it have failed, or have taken NEXT_HOST_SECONDS each."""
    if len(attempts) == 1:
        return await attempts[0]
    left = list(attempts)
    running: set[asyncio.Task[asyncpg.Connection]] = set()
    failed: BaseException | None = None
    try:
        while left or running:
            if left:
                running.add(asyncio.ensure_future(left.pop(0)))
            pause = NEXT_HOST_SECONDS if left else None
            done, running = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failed = task.exception()
                if failed is None:
                    running |= done - {task}
                    return task.result()
        assert failed is not None
        raise failed
    finally:
        for attempt in left:
            attempt.close()
        for task in running:
            task.add_done_callback(_unwanted)
            task.cancel()


def _unwanted(task: asyncio.Task[asyncpg.Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


async def prepare(opened: asyncpg.Connection) -> None:
    """Have the connection decode json and jsonb, and execute a telemetry event for each query if a handler is attached."""
    if QUERY.active:  # a handler attached later gets the queries of later connections
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
