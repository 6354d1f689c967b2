"""`bitnexus doctor`: checks what the server needs, with a line for each check and how to fix what is wrong."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from actors.endpoint import Address
from actors.listening import EndpointError, check_port
from actors.secret_keys import MIN_SECRET_BYTES, weakness
from actors.settings import ConfigError, Settings, check_secret, mask_url, signing_secret
from actors.storage import pgbouncer
from actors.storage.failures import reason
from api.cli.database import ONE_LINE, connected
from api.security.tokens import InvalidToken, Keyring
from schema import ledger
from schema.activity import LOW_BYTES
from schema.migrate import pending

SECONDS = 3.0
SERVES = "BitNexus serves on"
LOCK_MS = 3000
NATS_PORT = 4222


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `advice` says what to do, and is empty if there is nothing to do."""

    name: str
    ok: bool
    text: str
    advice: str = ""


async def run(settings: Settings, token: str | None = None, faults: Sequence[ConfigError] = ()) -> int:
    """Prints a line for each finding; returns exit code 1 if a check failed.

    `token` is an access token to check. `faults` are the wrong settings, which are replaced by their defaults.
    """
    well = True
    async for finding in findings(settings, token, faults):
        well = well and finding.ok
        advice = f" -> {finding.advice}" if finding.advice else ""
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<9} {finding.text}{advice}", flush=True)
    return 0 if well else 1


async def findings(
    settings: Settings, token: str | None = None, faults: Sequence[ConfigError] = ()
) -> AsyncIterator[Finding]:
    """The findings about settings, port, database, writing, disk, secret, keys, token, NATS and Go services, in this order."""
    for fault in faults:
        yield Finding("setting", False, str(fault), "the server does not start with it")
    wrong = {
        name for name in ("HOST", "PORT", "DATABASE_URL") for fault in faults if str(fault).startswith(name)
    }
    serves = False
    if wrong.isdisjoint(("HOST", "PORT")):  # else the default would be checked, which is not this server's
        port = await _port(settings)
        serves = port.text.startswith(SERVES)
        yield port
    if "DATABASE_URL" not in wrong:
        database = await _database(settings)
        yield database
        if database.ok:
            yield await _writing(settings, serves=serves)
    if settings.embedded_database and "DATABASE_URL" not in wrong:
        yield _disk(settings)
    yield _secret(settings)
    if settings.jwt_private_key or settings.jwt_previous_keys:
        yield _keys(settings)
    if token is not None:
        yield _token(settings, token)
    for url in settings.cluster_url:
        yield await _nats(url)
    services = settings.go_services()
    if not services:
        yield Finding("go", True, "no Go service is configured (GO_API_URL, SERVICES)")
    for name, url in services.items():
        yield await _service(name, url)


async def _nats(url: str) -> Finding:
    parts, shown = urlsplit(url), mask_url(url)
    why = await _unreachable(parts.hostname or "", parts.port or NATS_PORT)
    if why is not None:
        return Finding(
            "nats", False, f"CLUSTER_URL: {shown}: {why}", "start NATS, check CLUSTER_URL and firewall"
        )
    return Finding("nats", True, f"{shown} accepts connections")


async def _port(settings: Settings) -> Finding:
    url = Address(settings.host, settings.port).url
    try:
        check_port(settings.host, settings.port)
    except EndpointError as error:
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{url}/health") as response,
            ):
                alive = await response.json(content_type=None)
            if isinstance(alive, dict) and alive.get("status") == "ok":
                return Finding("port", True, f"{SERVES} {url}")
        except TimeoutError:
            silent = f"PORT: who listens at {url} has not answered within {SECONDS:g} s"
            return Finding(
                "port", False, silent, "if it is BitNexus it hangs: restart it; else choose another PORT"
            )
        except (aiohttp.ClientError, ValueError):
            pass
        problem, _, advice = str(error).partition("; ")
        return Finding("port", False, problem, advice or "choose another HOST")
    return Finding("port", True, f"{settings.port} on {settings.host} is free; nothing serves yet")


async def _database(settings: Settings) -> Finding:
    where = "the embedded server" if settings.embedded_database else "DATABASE_URL"
    try:
        async with connected(settings, migrated=False) as connection:
            version = await connection.fetchval("SHOW server_version")
            left = await pending(connection)
            if settings.database_url and await pgbouncer.shares_sessions(
                connection, settings.database_url, asyncpg
            ):
                problem, _, advice = pgbouncer.ADVICE.partition("; ")
                return Finding("database", False, f"{where}: {problem}", advice)
    except ONE_LINE as error:
        advice = (
            "check that PostgreSQL runs, the connection string, and that the database exists"
            if settings.database_url
            else "look at the log in DATA_DIR, or set DATABASE_URL to a server of your own"
        )
        return Finding("database", False, str(error), advice)
    except asyncpg.PostgresError as error:
        return Finding("database", False, f"{where}: {error}", "check the role's rights on the database")
    if left:
        return Finding(
            "database",
            True,
            f"{where} answers, PostgreSQL {version}; migrations are pending ({len(left)}), serve applies them",
        )
    return Finding("database", True, f"{where} answers, PostgreSQL {version}, the schema is up to date")


async def _writing(settings: Settings, serves: bool) -> Finding:
    """Whether writes work: by the running server's readiness, or if none runs, by a write that changes nothing."""
    if serves:
        return await _readiness(Address(settings.host, settings.port).url)
    try:
        async with connected(settings, migrated=False) as connection:
            if await pending(connection):
                return Finding("writing", True, "not tried: the schema is not up to date")
            await connection.execute(f"SET lock_timeout = {LOCK_MS}")
            await connection.fetchval(ledger.PROBE_WRITE, timeout=2 * LOCK_MS / 1000)
    except (*ONE_LINE, OSError, TimeoutError, asyncpg.PostgresError) as error:
        advice = (
            "see Database connection errors in docs/operations.md: a read-only database, a full disk, a lock"
        )
        return Finding("writing", False, f"a write fails: {reason(error)}", advice)
    return Finding("writing", True, "a write that changes nothing works")


async def _readiness(url: str) -> Finding:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/api/v1/health/ready") as response,
        ):
            readiness = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        advice = "look at its log; `bitnexus tree` shows what hangs"
        return Finding(
            "writing", False, f"the server does not say whether it can write: {reason(error)}", advice
        )
    down = [
        f"{name}: {check.get('reason')}"
        for name, check in readiness["checks"].items()
        if check["status"] == "down"
    ]
    if readiness["status"] == "ready":
        return Finding("writing", True, "; ".join(["the server can write", *down]))
    return Finding(
        "writing",
        False,
        f"the server can't serve: {'; '.join(down)}",
        "fix what it names; the server recovers by itself",
    )


def _disk(settings: Settings) -> Finding:
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return Finding(
            "disk", True, f"DATA_DIR={settings.data_dir}: {error.strerror or error}; serve makes it"
        )
    text = f"{free >> 20} MB free in DATA_DIR={settings.data_dir}"
    return Finding(
        "disk",
        free >= LOW_BYTES,
        text,
        "" if free >= LOW_BYTES else "free some space: the database can't write without",
    )


def _secret(settings: Settings) -> Finding:
    advice = "make one with: openssl rand -base64 48"
    if settings.secret_key_base:
        why = weakness(settings.secret_key_base)
        if why:
            return Finding("secret", False, f"SECRET_KEY_BASE is weak: {why}", advice)
        return Finding("secret", True, f"SECRET_KEY_BASE is set, {MIN_SECRET_BYTES} bytes or more")
    try:
        check_secret(settings)
    except ConfigError as error:
        return Finding("secret", False, str(error).partition("; ")[0], advice)
    try:
        _, source = signing_secret(settings)
    except ConfigError as error:
        return Finding("secret", False, str(error), "make DATA_DIR writable, or set SECRET_KEY_BASE")
    return Finding(
        "secret",
        True,
        f"SECRET_KEY_BASE is unset: the development key in {source} is used (prod requires SECRET_KEY_BASE)",
    )


def _keys(settings: Settings) -> Finding:
    try:
        ring = Keyring(settings)
    except ConfigError as error:
        return Finding("keys", False, str(error), "give a PEM file with an Ed25519 or RSA key")
    return Finding("keys", True, f"tokens are signed {ring.active.algorithm}, kid {ring.active.kid}")


TOKEN_ADVICE = {
    "malformed": "send the `token` of the login answer, unchanged, after `Authorization: Bearer `",
    "too long": "send the `token` of the login answer, nothing else",
    "expired": "sign in again or refresh; if it is new, compare the clocks of both machines",
    "signature": "the signer's secret is not SECRET_KEY_BASE; compare them, or add the old one to JWT_PREVIOUS_KEYS",
    "unknown key": "the signer's key is not this server's; compare JWT_PRIVATE_KEY, or add the old one to JWT_PREVIOUS_KEYS",
}


def _token(settings: Settings, token: str) -> Finding:
    try:
        principal = Keyring(settings).check(token.strip())
    except InvalidToken as error:
        advice = (advice for part, advice in TOKEN_ADVICE.items() if part in str(error))
        return Finding(
            "token", False, str(error), next(advice, "see docs/api.md for the claims that a token must have")
        )
    except ConfigError as error:
        return Finding("token", False, f"can't be checked: {error}", "fix the keys first")
    seconds = round(principal.exp - time.time())
    return Finding(
        "token", True, f"belongs to {principal.subject}, role {principal.role}, valid for {seconds} s"
    )


async def _service(name: str, url: str) -> Finding:
    parts, shown = urlsplit(url), mask_url(url)
    why = await _unreachable(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    if why is not None:
        return Finding(
            "go",
            False,
            f"{name} at {shown} can't be reached: {why}",
            "start the service, check GO_API_URL, SERVICES and firewall",
        )
    return Finding("go", True, f"{name} at {shown} accepts connections")


async def _unreachable(host: str, port: int) -> str | None:
    """Why no connection to this port can be made, in one line; None if one can."""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except socket.gaierror:
        return f"the name {host} is unknown"
    except OSError as error:
        return reason(error)
    writer.close()
    return None
