"""Ten thousand sockets joined at once on a real `bitnexus serve`: idle, then one transaction that all of them are told of.

They are tabs of one user. Meanwhile a client asks for /health every 50 ms; its slowest answer is a row.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time

import psutil
import uvloop

from bench import http_load, socket_load
from bench.main_job import PASSWORD, Service
from bench.row import Row

SOCKETS = 10_000
AT_ONCE = 100
IDLE_SECONDS = 5.0
HEALTH_SECONDS = 0.05


class Health:
    """Asks for /health again and again; fails when it is not green."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.slowest = 0.0
        self.answers = 0

    async def watch(self) -> None:
        """Until cancelled."""
        connection = await http_load.connect(self.port)
        ask = http_load.request("GET", "/health")
        while True:
            began = time.perf_counter()
            await connection.request(ask, 200)
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.answers += 1
            await asyncio.sleep(HEALTH_SECONDS)


async def load(service: Service) -> list[Row]:
    """The figures."""
    port = int(service.url.rpartition(":")[2])
    process = psutil.Process(service.process.pid)
    http = await http_load.connect(port)
    body = json.dumps({"email": "bench@example.com", "password": PASSWORD}).encode()
    answer = await http.request(http_load.request("POST", "/api/v1/auth/login", body), 200)
    signed_in = json.loads(answer.partition(b"\r\n\r\n")[2])
    token = signed_in["token"]
    path = f"/socket/websocket?vsn=2.0.0&token={token}"
    join = json.dumps(["1", "1", f"transaction:{signed_in['user']['id']}", "phx_join", {}]).encode()
    beat = json.dumps([None, "2", "phoenix", "heartbeat", {}]).encode()
    health = Health(port)
    watching = asyncio.create_task(health.watch())
    clients: list[socket_load.Client] = []
    numbers = iter(range(SOCKETS))

    async def entering() -> None:
        for _ in numbers:
            client = await socket_load.connect(port, path)
            client.send(join)
            await client.expect(1)
            clients.append(client)

    memory, began = process.memory_info().rss, time.perf_counter()
    cpu, _ = service.seconds()
    await asyncio.gather(*(entering() for _ in range(AT_ONCE)))
    joined = time.perf_counter() - began
    joining = service.seconds()[0] - cpu
    memory = process.memory_info().rss - memory
    cpu, _ = service.seconds()
    await asyncio.sleep(IDLE_SECONDS)
    idle = (service.seconds()[0] - cpu) / IDLE_SECONDS
    for client in clients:
        client.send(beat)
    await asyncio.gather(*(client.expect(2) for client in clients))

    body = b'{"amount":"12.50","currency":"EUR","description":"to all"}'
    cpu, _ = service.seconds()
    began = time.perf_counter()
    await http.request(http_load.request("POST", "/api/v1/transactions", body, token), 201)
    await asyncio.gather(*(client.expect(3) for client in clients))
    told = time.perf_counter() - began
    telling = service.seconds()[0] - cpu
    assert all(b"new_transaction" in client.last for client in clients)
    assert not watching.done(), watching.exception()
    watching.cancel()
    who = f"{SOCKETS:,} sockets"
    return [
        Row(
            f"{who}: connect and join, each",
            joining / SOCKETS * 1e6,
            "us of CPU",
            mark=360,
            note=f"{SOCKETS / joined:,.0f}/s",
        ),
        Row(f"{who}: memory, each", memory / SOCKETS / 1024, "KiB", mark=31_000 / 1024),
        Row(f"{who}: idle", idle * 100, "% of a CPU"),
        Row(
            f"{who}: one broadcast to all",
            telling / SOCKETS * 1e6,
            "us of CPU a delivery",
            mark=15.4,
            note=f"all told after {told * 1000:.0f} ms",
        ),
        Row(
            f"{who}: slowest /health meanwhile",
            health.slowest * 1000,
            "ms",
            note=f"{health.answers} answers, all 200",
        ),
    ]


def run() -> list[Row]:
    """The answer."""
    socket_load.raise_file_limit()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        service = Service(folder)
        try:
            service.create_user()
            return uvloop.run(load(service))
        finally:
            service.stop()
