"""Sessions that end while something is under way, and sockets whose user is no longer who he was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from api.security.tokens import refresh_hash, refresh_token
from schema import users
from tests.support.server import PASSWORD, Server, User, error_of


def logout(user: User, admin: User) -> Any:
    return user.client.post("/api/v1/auth/logout", json={})


def logout_by_name(user: User, admin: User) -> Any:
    return user.client.post("/api/v1/auth/logout", json={"refresh_token": user.refresh_token})


def new_password(user: User, admin: User) -> Any:
    body = {"password": "quite another one", "current_password": PASSWORD}
    return user.client.patch(f"/api/v1/users/{user.id}", json=body)


@pytest.mark.parametrize("end", [logout, logout_by_name, new_password])
def test_a_refresh_under_way_does_not_survive_the_sessions_end(
    server: Server, admin: User, end: Callable[[User, User], Any]
) -> None:
    user = server.user()
    token, token_hash = refresh_token()

    async def main() -> None:
        connection = await asyncpg.connect(server.database)
        async with connection.transaction():  # what POST /refresh does
            row = await connection.fetchrow(users.USE_REFRESH, refresh_hash(user.refresh_token))
            await connection.execute(users.ADD_REFRESH, UUID(user.id), row["family_id"], token_hash, 3600.0)
            ending = asyncio.create_task(asyncio.to_thread(end, user, admin))
            await asyncio.sleep(0.5)
            assert not ending.done()
        assert (await ending).status_code == 200
        await connection.close()

    asyncio.run(main())
    with server.client() as client:
        error_of(client.post("/api/v1/auth/refresh", json={"refresh_token": token}), 401)


def test_who_is_no_admin_any_more_hears_no_more_of_what_admins_hear(server: Server, admin: User) -> None:
    other = server.user("admin")
    url = server.url.replace("http", "ws", 1) + f"/socket/websocket?vsn=2.0.0&token={other.token}"
    with connect(url) as socket:
        socket.send(json.dumps(["1", "1", "admin:tasks", "phx_join", {}]))
        assert json.loads(socket.recv(5))[4]["status"] == "ok"
        assert admin.client.patch(f"/api/v1/users/{other.id}", json={"role": "user"}).status_code == 200
        with pytest.raises(ConnectionClosed):
            socket.recv(5)
    with connect(url) as socket:
        socket.send(json.dumps(["1", "1", "admin:tasks", "phx_join", {}]))
        assert json.loads(socket.recv(5))[4]["status"] == "error"
