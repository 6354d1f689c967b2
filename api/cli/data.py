"""Commands on the database: `migrate`, `psql`, `user create`, `ledger verify`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from actors.settings import Settings
from actors.storage.postgres.server import binaries
from api.cli.database import CommandError, connected, counted, database_url, password
from schema.migrate import migrate as apply_migrations


def migrate(settings: Settings, _options: Any) -> int:
    """Applies pending migrations, and prints their names."""

    async def run() -> None:
        async with connected(settings, migrated=False) as connection:
            applied = await apply_migrations(connection)
        for name in applied:
            print(f"applied {name}")
        print(f"{counted(len(applied), 'migration')} applied; the schema is up to date")

    asyncio.run(run())
    return 0


def psql(settings: Settings, options: Any) -> int:
    """Runs psql on the configured database; returns its exit code."""

    async def run() -> int:
        async with database_url(settings) as url:
            # Ctrl-C is for psql, which cancels the statement: it must not stop a database that was started for this.
            signal.signal(signal.SIGINT, lambda *_: None)
            return await asyncio.to_thread(_run_psql, url, options.sql)

    return asyncio.run(run())


def _run_psql(url: str, sql: str | None) -> int:
    own = binaries() / "psql"
    program = str(own) if own.exists() else shutil.which("psql")
    if program is None:
        raise CommandError("psql: not found; install PostgreSQL's client programs")
    url, secret = split_password(url)
    environment = {**os.environ, **({} if secret is None else {"PGPASSWORD": secret})}
    command = (
        [program, "--no-psqlrc", url]
        if sql is None
        else [program, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", sql, url]
    )
    sys.stdout.flush()
    return subprocess.run(command, env=environment, check=False).returncode


def split_password(url: str) -> tuple[str, str | None]:
    """The URL without its password, and the password: a command line is visible to all users of the machine."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name, _, secret = user.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    rest = [pair for pair in query if pair[0] != "password"]
    if len(rest) < len(query):
        secret = quote(dict(query)["password"])  # libpq: a parameter of the query wins
        parts = parts._replace(query=urlencode(rest, safe="/", quote_via=quote))
    parts = parts._replace(netloc=f"{name}{at}{hosts}")
    # Not urlunsplit: it drops the slashes of a URL without hosts.
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"
    return shown, unquote(secret) or None


def create_user(settings: Settings, options: Any) -> int:
    """Creates a user, and prints it as JSON."""
    import msgspec

    from api.http.fields import Email
    from api.security.passwords import hash_password
    from schema import users

    try:
        email = Email.parse(options.email)
    except ValueError as error:
        raise CommandError(f"user create: {options.email}: {error}") from None
    if "\x00" in options.name or len(options.name) > 200:
        raise CommandError("user create: expected a name of at most 200 characters")
    chosen = _new_password(options.password, str(email))

    async def run() -> None:
        async with connected(settings) as connection:
            try:
                row = await connection.fetchrow(
                    users.CREATE, email, options.name, options.role, hash_password(chosen)
                )
            except asyncpg.UniqueViolationError:
                raise CommandError(f"user create: there is a user {email} already") from None
        assert row is not None  # INSERT ... RETURNING
        print(json.dumps(msgspec.to_builtins({name: row[name] for name in ("id", "email", "name", "role")})))

    asyncio.run(run())
    return 0


def _new_password(given: str | None, email: str) -> str:
    """The password from the command line, standard input, or a prompt. Raises CommandError."""
    from api.security.passwords import problem

    typed = given is None and sys.stdin.isatty()
    given = password(given, email)
    if typed and password(None, email, "Repeat it") != given:
        raise CommandError("user create: the passwords differ")
    if (reason := problem(given)) is not None:
        raise CommandError(f"user create: the password: {reason}")
    return given


def verify_ledger(settings: Settings, _options: Any) -> int:
    """Verifies the whole ledger; returns 1 if it is not sound."""
    from actors.ledger import audit

    async def run() -> int:
        step = None
        async with connected(settings) as connection:
            async for step in audit.verify_ledger(connection):
                progress(step.checked, step.total, step.done)
        assert step is not None
        if step.fault is None:
            print(f"sound: {step.checked} entries, root {step.root_hash.hex()}")
            return 0
        fault = step.fault
        where = f"seq {fault.seq}" if fault.seq is not None else "no entry"
        print(f"not sound: {where}, transaction {fault.transaction_id or '-'}: {fault.reason}")
        return 1

    return asyncio.run(run())


def progress(done: int, total: int, last: bool) -> None:
    """Draws a progress bar on standard error if it is a terminal."""
    if not sys.stderr.isatty():
        return
    part = done / total if total else 1.0
    bar = "#" * int(part * 30)
    end = "\n" if last else ""
    print(f"\r[{bar:<30}] {part:4.0%}  {done} of {total} entries", end=end, file=sys.stderr, flush=True)
