"""Shared by commands: a connection to the configured database, the server's URL, passwords, and errors of one line."""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from actors.cluster.nats_server import NatsServerError
from actors.endpoint import Address
from actors.settings import ConfigError, Settings, mask_url
from actors.storage.connecting import open_connection
from actors.storage.failures import reason
from actors.storage.postgres.cluster import DatabaseCluster
from actors.storage.postgres.files import PostgresError
from actors.storage.repo import DatabaseError
from schema.migrate import MigrationError, migrate

ONE_LINE = (ConfigError, DatabaseError, MigrationError, NatsServerError, PostgresError)


class CommandError(Exception):
    """A command failed; the message is one line."""


def complain(error: object) -> int:
    """Prints on one line why a command failed; returns exit code 1."""
    print(f"bitnexus: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 restart", "2 restarts"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def password(given: str | None, email: str, prompt: str = "Password of {}") -> str:
    """The password that was given, else one typed at a prompt; for `-`, or if there is no terminal, a line of standard input."""
    if given is None and sys.stdin.isatty():
        try:
            return getpass.getpass(f"{prompt.format(email)}: ")
        except EOFError:
            raise CommandError("no password given") from None
    if given is None or given == "-":
        return sys.stdin.readline().rstrip("\r\n")
    return given


def base_url(settings: Settings, options: Any) -> str:
    """The server's URL: --url, else by HOST and PORT. Raises CommandError."""
    if not options.url:
        return Address(settings.host, settings.port).url
    try:
        parts = urlsplit(options.url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(
            f"--url {options.url}: expected a URL like https://api.example.com, without a path"
        )
    return options.url.rstrip("/")


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncGenerator[str, None]:
    """The URL of the configured database. An embedded server that is down is started, and stopped afterwards."""
    if settings.database_url:
        yield settings.database_url
        return
    cluster = DatabaseCluster.at(settings.data_dir)
    if not (cluster.data_dir / "postgres").exists() and not (cluster.data_dir / "postgres.location").exists():
        # In another directory than the server's this is a database that nobody serves.
        print(f"making a new database in DATA_DIR={cluster.data_dir}", file=sys.stderr)
    url = await cluster.attach_or_start()
    try:
        yield url
    finally:
        await cluster.stop()


@asynccontextmanager
async def connected(settings: Settings, migrated: bool = True) -> AsyncGenerator[asyncpg.Connection, None]:
    """A connection to the configured database, its schema up to date unless `migrated` is False.

    Raises DatabaseError or MigrationError, one line.
    """
    async with database_url(settings) as url:
        try:
            connection = await open_connection(url, timeout=10, driver=asyncpg)
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise DatabaseError(f"DATABASE_URL: can't connect to {mask_url(url)}: {reason(error)}") from None
        try:
            if migrated:
                await migrate(connection)
            yield connection
        finally:
            await connection.close()
