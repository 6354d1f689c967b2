"""Connections to PostgreSQL: each is made here, and each ends by itself when its other end does not answer.

The limits are settings of the session, so the server keeps them when we can't: a statement that nobody waits for any more, a
wait for a lock, a transaction whose client has gone silent (it may hold the head of the ledger) end within seconds, and a
connection whose peer is gone is closed. Our side of the socket has the same limits.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import asyncpg
import orjson
from asyncpg.connection import LoggedQuery

from actors.storage.failures import Unavailable, reason
from runtime.core import telemetry

QUERY = telemetry.Span("sql", "query")
CONNECT_SECONDS: Final = 2.0
STATEMENT_MS: Final = 10_000  # what anybody's statement may take
LOCK_MS: Final = 3_000  # of that, waiting for one lock
SILENT_MS: Final = 4_000  # a client in a transaction that says nothing
PEER_MS: Final = 2_000  # an answer on the level of TCP, by keepalives when nothing is sent

SESSION: Final = {
    "jit": "off",
    "statement_timeout": str(STATEMENT_MS),
    "lock_timeout": str(LOCK_MS),
    "idle_in_transaction_session_timeout": str(SILENT_MS),
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": str(PEER_MS),
}


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
        opened = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=command_timeout,
            connection_class=Connection,
            server_settings={"application_name": name, **SESSION},
        )
    except Exception as error:  # what a proxy or a dying server makes a client raise has no bound
        raise Unavailable(reason(error)) from error
    try:
        await prepare(opened)
    except Exception as error:
        opened.terminate()
        raise Unavailable(reason(error)) from error
    return opened


async def open_pool(url: str, size: int, name: str, node_id: str, command_timeout: float) -> asyncpg.Pool:
    """A pool of at most `size` such connections; it connects when one is wanted."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS,
        command_timeout=command_timeout,
        max_inactive_connection_lifetime=300,
        connection_class=Connection,
        init=prepare,
        reset=_keep,
        server_settings={"application_name": name, "bitnexus.node": node_id, **SESSION},
    )


async def prepare(opened: asyncpg.Connection) -> None:
    """Have the connection decode json and jsonb, and tell telemetry of its queries if anybody listens."""
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
