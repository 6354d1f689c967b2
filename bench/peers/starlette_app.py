"""Starlette and asyncpg, one INSERT a request: run by uvicorn and by granian."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.peers import transactions


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.pool = await transactions.pool()
    yield
    await app.state.pool.close()


async def health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def create(request: Request) -> Response:
    try:
        user = transactions.owner(request.headers.get("authorization"))
    except transactions.Refused:
        return JSONResponse({"error": "unauthorized"}, 401)
    body = orjson.loads(await request.body())
    row = await transactions.insert(
        request.app.state.pool, user, body["amount"], body["currency"], body.get("description")
    )
    return JSONResponse(row, 201)


app = Starlette(
    routes=[Route("/health", health), Route("/api/v1/transactions", create, methods=["POST"])],
    lifespan=lifespan,
)
