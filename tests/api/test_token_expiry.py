"""Expired sessions are forgotten, living ones kept, with the database away in between."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from actors import token_expiry
from actors.storage import repo
from actors.token_expiry import TokenExpiry
from runtime.otp import erlang
from runtime.otp import sys as debug
from runtime.otp.supervisor import start_child
from runtime.otp.tree_config import load as load_tree
from schema import users
from tests.support.server import ROOT
from tests.support.storage import child, run, storage, until

ADD = """
INSERT INTO refresh_tokens (user_id, family_id, token_hash, expires_at) VALUES ($1, $2, $3, now() + $4)
"""
DAY = timedelta(days=1)


async def families(connection: asyncpg.Connection) -> set[object]:
    """The sessions that are kept."""
    return {row["family_id"] for row in await connection.fetch("SELECT family_id FROM refresh_tokens")}


async def add(connection: asyncpg.Connection, *expiries: timedelta) -> object:
    """A session with tokens that expire then."""
    user = await connection.fetchrow(users.CREATE, f"{uuid4().hex}@example.com", "", "user", None)
    family = uuid4()
    for expiry in expiries:
        await connection.execute(ADD, user["id"], family, uuid4().bytes * 2, expiry)
    return family


def test_only_sessions_whose_last_token_expired_a_day_ago_are_forgotten(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with storage(database, listen=False) as tree:
            connection = await asyncpg.connect(database)
            dead = [await add(connection, -DAY * 2), await add(connection, -DAY * 3, -DAY * 2)]
            living = {
                await add(connection, DAY),
                await add(connection, -DAY * 2, DAY),  # its first token was used up long ago
                await add(connection, -DAY / 2),
            }
            assert await families(connection) == {*dead, *living}
            await start_child(tree.supervisor, child(TokenExpiry, "token_expiry", 1, 20, 20))
            await until(lambda: _is(connection, living))
            assert (await debug.get_state(erlang.whereis("token_expiry")))["forgotten"] == 3

            # The database away: the process waits, and goes on when it is back.
            pid, tried = erlang.whereis("token_expiry"), []

            def away() -> None:
                tried.append(1)
                raise repo.Unavailable("away")

            with monkeypatch.context() as patched:
                patched.setattr(repo, "pool", away)
                await add(connection, -DAY * 2)
                await until(lambda: len(tried) > 2)
            await until(lambda: _is(connection, living))
            assert erlang.whereis("token_expiry") is pid
            await connection.close()

    run(main())


async def _is(connection: asyncpg.Connection, wanted: set[object]) -> bool:
    return await families(connection) == wanted


def test_a_large_table_is_emptied_in_parts(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_expiry, "MORE_MS", 1)

    async def main() -> None:
        async with storage(database, listen=False) as tree:
            connection = await asyncpg.connect(database)
            user = await connection.fetchrow(users.CREATE, "many@example.com", "", "user", None)
            await connection.execute(
                "INSERT INTO refresh_tokens (user_id, family_id, token_hash, expires_at) "
                "SELECT $1, gen_random_uuid(), sha256(n::text::bytea), now() - interval '2 days' "
                "FROM generate_series(1, 2500) n",
                user["id"],
            )
            # The next pass: an hour.
            await start_child(tree.supervisor, child(TokenExpiry, "token_expiry", 1))
            await until(lambda: _is(connection, set()))
            await connection.close()

    run(main())


def test_the_servers_tree_has_it_below_storage() -> None:
    nodes = load_tree(ROOT / "supervisor.toml").nodes
    assert nodes["token_expiry"].actor is TokenExpiry and "token_expiry" in nodes["storage"].table["children"]
