"""CPU per POSTed transaction and per GET /health: the server's and PostgreSQL's, not the clients'.

A real `bitnexus serve` with its embedded PostgreSQL, clients on keep-alive connections, one channel joined that gets every event.
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
from collections.abc import Callable
from pathlib import Path

import psutil
import uvloop

from bench import socket_load
from bench.http_load import Connection, connect, request
from bench.row import Row

FEW, MANY = 32, 128  # clients
POSTS = 6000
GETS = 10000
WARM_UP = 500
PASSWORD = "correct horse battery staple"  # noqa: S105


class Service:
    """A running server in a folder of its own; `module` is what `python -m` runs for it."""

    def __init__(self, folder: str, module: str = "api.cli") -> None:
        self.environment = {**os.environ, "DATA_DIR": folder, "PORT": "0", "LOG_LEVEL": "warning"}
        self.environment.pop("DATABASE_URL", None)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve"],
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
    service: Service, connections: list[Connection], count: int, raw: Callable[[int], bytes], status: int
) -> tuple[float, float, float]:
    """Microseconds of CPU a request (server, PostgreSQL), and requests a second."""
    numbers = iter(range(count))

    async def client(connection: Connection) -> None:
        for number in numbers:
            await connection.request(raw(number), status)

    before, started = service.seconds(), time.perf_counter()
    await asyncio.gather(*map(client, connections))
    took, after = time.perf_counter() - started, service.seconds()
    server, database = ((end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True))
    return server, database, count / took


async def load(service: Service) -> list[Row]:
    """The figures."""
    port = int(service.url.rpartition(":")[2])
    connections = [await connect(port) for _ in range(MANY)]
    body = json.dumps({"email": "bench@example.com", "password": PASSWORD}).encode()
    answer = await connections[0].request(request("POST", "/api/v1/auth/login", body), 200)
    signed_in = json.loads(answer.partition(b"\r\n\r\n")[2])
    token = signed_in["token"]

    def post(number: int) -> bytes:
        body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
        return request("POST", "/api/v1/transactions", body, token)

    health = request("GET", "/health")
    watcher = await socket_load.connect(port, f"/socket/websocket?vsn=2.0.0&token={token}")
    watcher.send(json.dumps(["1", "1", f"transaction:{signed_in['user']['id']}", "phx_join", {}]).encode())
    await watcher.expect(1)
    await measure(service, connections[:FEW], WARM_UP, post, 201)
    server, database, rate = await measure(service, connections[:FEW], POSTS, post, 201)
    many_server, many_database, many_rate = await measure(service, connections, POSTS, post, 201)
    await watcher.expect(1 + WARM_UP + 2 * POSTS)
    await measure(service, connections[:FEW], WARM_UP, lambda _: health, 200)
    get, _, get_rate = await measure(service, connections[:FEW], GETS, lambda _: health, 200)
    unit = "us of CPU"
    what = "POST transaction, 201, event"
    return [
        Row(f"{what}: all, {FEW} clients", server + database, unit, mark=643, note=f"{rate:,.0f}/s"),
        Row(f"{what}: server", server, unit, mark=438),
        Row(f"{what}: PostgreSQL", database, unit, mark=205),
        Row(
            f"{what}: all, {MANY} clients",
            many_server + many_database,
            unit,
            mark=643,
            note=f"{many_rate:,.0f}/s",
        ),
        Row("GET /health", get, unit, mark=98, note=f"{get_rate:,.0f}/s"),
    ]


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
