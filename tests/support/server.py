"""A whole BitNexus for tests: `bitnexus serve` as a process of its own on a fresh database, and clients signed in to it."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from actors.storage.postgres.cluster import DatabaseCluster
from api.security.passwords import hash_password
from schema import users
from tests.support.database import TEMPLATE, _database

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a test key that is long enough: " + "0123456789abcdef"
PASSWORD = "correct horse battery staple"
# Seconds to wait for an event: generous, since the machine may be slow and busy, and only a failure takes all of them.
PATIENCE = 60.0
START_SECONDS = 100.0

_hash = hash_password(PASSWORD)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with these variables, and none other of BitNexus's."""
    from actors.settings import VARIABLES

    own = {variable.name for variable in VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in own} | {"PORT": "0"} | changes


@dataclass
class Server:
    """A running `bitnexus serve`."""

    process: subprocess.Popen[str]
    database: str
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of the server, with this token."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)

    def user(self, role: str = "user", email: str | None = None) -> User:
        """A new user, signed in."""
        email = email or f"{role}-{secrets.token_hex(6)}@example.com"
        row = self.fetchrow(users.CREATE, email, role.title(), role, _hash)
        with self.client() as client:
            answer = client.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        made = answer.json()
        return User(str(row["id"]), email, made["token"], made["refresh_token"], self.client(made["token"]))

    def execute(self, sql: str, *arguments: Any) -> Any:
        """Runs SQL as another program would."""
        return self._query("execute", sql, *arguments)

    def fetchrow(self, sql: str, *arguments: Any) -> Any:
        """One row, read on a connection of its own."""
        return self._query("fetchrow", sql, *arguments)

    def fetchval(self, sql: str, *arguments: Any) -> Any:
        """One value, read on a connection of its own."""
        return self._query("fetchval", sql, *arguments)

    def _query(self, how: str, sql: str, *arguments: Any) -> Any:
        async def run() -> Any:
            connection = await asyncpg.connect(self.database)
            try:
                return await getattr(connection, how)(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(run())

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@dataclass
class User:
    """A user and their signed-in client."""

    id: str
    email: str
    token: str
    refresh_token: str
    client: httpx.Client


def start(database: str, arguments: tuple[str, ...] = (), **changes: str) -> Server:
    """Starts a server and waits until it serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", *arguments],
        cwd=ROOT,
        env=environment(**({"DATABASE_URL": database, "SECRET_KEY_BASE": SECRET} | changes)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    server = Server(process, database)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.lines.append(line.rstrip())
            if (found := re.search(r"BitNexus serves on (\S+)", line)) is not None:
                server.url = found[1]
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    if not ready.wait(START_SECONDS) or not server.url:
        process.kill()
        raise AssertionError("the server did not start:\n" + "\n".join(server.lines[-40:]))
    return server


def wait_until(condition: Any, seconds: float = PATIENCE, pause: float = 0.02) -> Any:
    """The first true value of `condition()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(pause)


@pytest.fixture(scope="module")
def module_database(embedded: DatabaseCluster) -> Iterator[str]:
    """The URL of a fresh migrated database for one test module."""
    yield from _database(embedded, TEMPLATE)


@pytest.fixture(scope="module")
def server_environment() -> Mapping[str, str]:
    """What a module's server has in its environment; a module overrides it."""
    return {}


@pytest.fixture(scope="module")
def server(module_database: str, server_environment: Mapping[str, str]) -> Iterator[Server]:
    """A server for one test module."""
    with tempfile.TemporaryDirectory() as folder:
        running = start(module_database, **{"DATA_DIR": folder, **server_environment})
        yield running
        assert running.stop() == 0, "\n".join(running.lines[-40:])


@pytest.fixture(scope="module")
def user(server: Server) -> User:
    """A plain user."""
    return server.user()


@pytest.fixture(scope="module")
def other(server: Server) -> User:
    """Another plain user."""
    return server.user()


@pytest.fixture(scope="module")
def admin(server: Server) -> User:
    """An admin."""
    return server.user("admin")


@pytest.fixture(scope="module")
def service(server: Server) -> User:
    """A service that is a user."""
    return server.user("service")


def error_of(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error of an answer, after checking that it has the API's error format."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"} and {"code", "message"} <= set(body["error"]) <= {
        "code",
        "message",
        "fields",
    }, body
    if code is not None:
        assert body["error"]["code"] == code
    return body["error"]
