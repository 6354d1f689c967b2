"""CPU per POSTed transaction and per GET /health: the server's and PostgreSQL's, not the clients'.

A real `bitnexus serve` with its embedded PostgreSQL, 32 clients on keep-alive connections, one channel joined.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import uvloop

from bench.row import Row

CLIENTS = 32
POSTS = 6000
GETS = 10000
WARM_UP = 500
PASSWORD = "correct horse battery staple"  # noqa: S105


class Service:
    """A running server in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self.environment = {**os.environ, "DATA_DIR": folder, "PORT": "0", "LOG_LEVEL": "warning"}
        self.environment.pop("DATABASE_URL", None)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"serves on (\S+)", self.process.stdout.readline())
        assert found is not None, "the server did not start"
        self.url = found[1]

    def create_user(self) -> None:
        """Whom the clients are."""
        command = [
            sys.executable,
            "-m",
            "api.cli",
            "user",
            "create",
            "bench@example.com",
            "--password",
            PASSWORD,
        ]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def seconds(self) -> tuple[float, float]:
        """CPU seconds so far: of the server, of PostgreSQL."""
        own = psutil.Process(self.process.pid).cpu_times()
        return own.user + own.system, sum(map(_seconds, self._postgres()))

    def _postgres(self) -> list[psutil.Process]:
        [pid_file] = Path(self.folder).rglob("postmaster.pid")
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(20)


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # What backends that ended meanwhile have used is their parent's to tell.
    return times.user + times.system + times.children_user + times.children_system


async def measure(
    service: Service, count: int, work: Callable[[int], Awaitable[None]]
) -> tuple[float, float, float]:
    """Microseconds of CPU a unit (server, PostgreSQL), and units a second."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await work(number)

    before, started = service.seconds(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    took, after = time.perf_counter() - started, service.seconds()
    server, database = ((end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True))
    return server, database, count / took


async def load(service: Service) -> list[Row]:
    """The figures."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.url, connector=connector) as session:
        async with session.post(
            "/api/v1/auth/login", json={"email": "bench@example.com", "password": PASSWORD}
        ) as answer:
            signed_in = await answer.json()
        headers = {"authorization": f"Bearer {signed_in['token']}"}

        async def post(number: int) -> None:
            body = {"amount": "12.50", "currency": "EUR", "description": f"no. {number}"}
            async with session.post("/api/v1/transactions", json=body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
                await answer.read()

        async def get(_number: int) -> None:
            async with session.get("/health") as answer:
                assert answer.status == 200
                await answer.read()

        url = f"/socket/websocket?vsn=2.0.0&token={signed_in['token']}"
        async with session.ws_connect(url) as socket:
            await socket.send_str(
                json.dumps(["1", "1", f"transaction:{signed_in['user']['id']}", "phx_join", {}])
            )
            reading = asyncio.create_task(_read_all(socket))
            await measure(service, WARM_UP, post)
            server, database, rate = await measure(service, POSTS, post)
            reading.cancel()
        await measure(service, WARM_UP, get)
        health, _, health_rate = await measure(service, GETS, get)
    unit = "us of CPU"
    return [
        Row(
            "POST transaction, 201, event: all",
            server + database,
            unit,
            mark=643,
            note=f"{rate:,.0f}/s with {CLIENTS} clients",
        ),
        Row("POST transaction: server", server, unit, mark=438),
        Row("POST transaction: PostgreSQL", database, unit, mark=205),
        Row("GET /health", health, unit, mark=98, note=f"{health_rate:,.0f}/s"),
    ]


async def _read_all(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


def run() -> list[Row]:
    """The answer."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        service = Service(folder)
        try:
            service.create_user()
            return uvloop.run(load(service))
        finally:
            service.stop()
