"""FastAPI and asyncpg, one INSERT a request, the body as a model of pydantic: run by uvicorn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from bench.peers import transactions


class NewTransaction(BaseModel):
    amount: str
    currency: str
    description: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await transactions.pool()
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


def owner(authorization: Annotated[str | None, Header()] = None) -> str:
    try:
        return transactions.owner(authorization)
    except transactions.Refused:
        raise HTTPException(401) from None


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/api/v1/transactions", status_code=201)
async def create(new: NewTransaction, user: Annotated[str, Depends(owner)]) -> dict[str, Any]:
    return await transactions.insert(app.state.pool, user, new.amount, new.currency, new.description)
