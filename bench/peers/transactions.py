"""What the HTTP peers in Python share: whose token it is, the statement, the answer."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import asyncpg
import jwt

SECRET = os.environ.get("BENCH_SECRET", "")
INSERT = """
    INSERT INTO transactions (user_id, amount, currency, description) VALUES ($1, $2, $3, $4)
    RETURNING id, user_id, amount, currency, description, inserted_at"""


class Refused(Exception):
    """No good token."""


def owner(authorization: str | None) -> str:
    """The user whom the header's bearer token speaks for. Raises Refused."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused
    try:
        return jwt.decode(token, SECRET, ["HS256"], audience="bitnexus", issuer="bitnexus")["sub"]
    except jwt.InvalidTokenError:
        raise Refused from None


async def pool() -> asyncpg.Pool:
    """Connections, as many as asyncpg takes by default."""
    return await asyncpg.create_pool(os.environ["DATABASE_URL"])


async def insert(
    pool: asyncpg.Pool, user: str, amount: str, currency: str, description: str | None
) -> dict[str, Any]:
    """Writes one row; what the answer says of it."""
    row = await pool.fetchrow(INSERT, user, Decimal(amount), currency, description)
    assert row is not None
    return {
        "id": str(row["id"]),
        "user_id": str(row["user_id"]),
        "amount": str(row["amount"]),
        "currency": row["currency"],
        "description": row["description"],
        "inserted_at": row["inserted_at"].isoformat(),
    }
