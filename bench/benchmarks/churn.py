"""Memory after a day of users who come and go, in a minute: a day's users, not a day's hours, so what time alone frees stays.

In each hour other users come, all in the same way: a token never seen before, a socket with two topics, transactions, lists, a
request that is refused, and then away without a word. What a server keeps of those who have gone grows from hour to hour.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from uuid import UUID

import uvloop

from bench import socket_load
from bench.bitnexus import BitNexus, serving, signed
from bench.figures import Row
from bench.http_load import connect, request
from bench.run import Run, Task

HOURS, WARM = 24, 8  # what the first hours take is what is kept once: pools, caches, the heap's own shape
USERS = 200  # an hour
AT_ONCE = 20
POSTS = 2
SETTLE = 1.0  # seconds

ROWS = (
    Row(f"memory after a day of {HOURS * USERS:,} users who came and went", "MiB"),
    Row(f"the same: grown since hour {WARM}, a user", "bytes"),
    Row("a user's visit: a socket, 2 joins, 2 POSTs, 2 lists: server", "us CPU"),
)


async def visit(server: BitNexus, user: UUID) -> None:
    """One user comes, acts, and goes."""
    token = signed(user)
    socket = await socket_load.connect(server.port, f"/socket/websocket?vsn=2.0.0&token={token}")
    for number, topic in enumerate((f"transaction:{user}", f"notification:{user}"), 1):
        socket.send(json.dumps([str(number), str(number), topic, "phx_join", {}]).encode())
        await socket.expect(number)
    http = await connect(server.port)
    for number in range(POSTS):
        body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
        await http.request(request("POST", "/api/v1/transactions", body, token), 201)
    await http.request(request("GET", "/api/v1/transactions", token=token), 200)
    await http.request(request("GET", "/api/v1/notifications", token=token), 200)
    await http.request(request("GET", "/api/v1/transactions", token=token[:-4] + "nope"), 401)
    await socket.expect(2 + POSTS)
    socket.close()
    http.close()


async def day(server: BitNexus) -> Sequence[float]:
    """MiB at its end, bytes a user since it was warm, CPU a visit."""
    memory: list[int] = []
    cpu = server.cpu()
    for _ in range(HOURS):
        users = await asyncio.to_thread(server.create_users, USERS)
        for first in range(0, USERS, AT_ONCE):
            await asyncio.gather(*(visit(server, user) for user in users[first : first + AT_ONCE]))
        await asyncio.sleep(SETTLE)
        memory.append(server.memory())
    grown = (memory[-1] - memory[WARM - 1]) / ((HOURS - WARM) * USERS)
    return memory[-1] / 2**20, grown, (server.cpu() - cpu) / (HOURS * USERS) * 1e6


def benchmark(run: Run) -> None:
    """Measures the rows: one day of each server."""
    servers: dict[str, BitNexus] = {}
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(stack, revision.name, ROWS, partial(serving, revision), servers)
        uvloop.run(run.alternate([Task(ROWS, day)], servers, rounds=1, warm_up=False))
