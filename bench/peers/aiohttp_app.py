"""aiohttp's server and asyncpg, one INSERT a request: `python -m bench.peers.aiohttp_app PORT`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import asyncpg
import orjson
import uvloop
from aiohttp import web

from bench.peers import transactions

POOL = web.AppKey("pool", asyncpg.Pool)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    app[POOL] = await transactions.pool()
    yield
    await app[POOL].close()


async def health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def create(request: web.Request) -> web.Response:
    try:
        user = transactions.owner(request.headers.get("authorization"))
    except transactions.Refused:
        return web.json_response({"error": "unauthorized"}, status=401)
    body = orjson.loads(await request.read())
    row = await transactions.insert(
        request.app[POOL], user, body["amount"], body["currency"], body.get("description")
    )
    return web.json_response(row, status=201)


app = web.Application()
app.cleanup_ctx.append(lifespan)
app.add_routes([web.get("/health", health), web.post("/api/v1/transactions", create)])

if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)
