"""Sessions that end while something is under way, and sockets whose user is no longer who he was."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from actors.settings import load
from api.security.tokens import Keyring, refresh_hash, refresh_token
from schema import users
from tests.support.server import PASSWORD, PATIENCE, SECRET, Server, User, error_of, wait_until


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
            row = await connection.fetchrow(users.USE_REFRESH, refresh_hash(user.refresh_token), 10.0)
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
        assert json.loads(socket.recv(PATIENCE))[4]["status"] == "ok"
        assert admin.client.patch(f"/api/v1/users/{other.id}", json={"role": "user"}).status_code == 200
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE)
    with connect(url) as socket:
        socket.send(json.dumps(["1", "1", "admin:tasks", "phx_join", {}]))
        assert json.loads(socket.recv(PATIENCE))[4]["status"] == "error"


def opened(server: Server, token: str) -> ClientConnection:
    return connect(server.url.replace("http", "ws", 1) + f"/socket/websocket?vsn=2.0.0&token={token}")


def heartbeat(socket: ClientConnection) -> str:
    socket.send(json.dumps([None, "1", "phoenix", "heartbeat", {}]))
    return json.loads(socket.recv(PATIENCE))[4]["status"]


def closes(socket: ClientConnection) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(PATIENCE)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


def signed_in_again(server: Server, user: User) -> dict[str, Any]:
    with server.client() as client:
        return client.post("/api/v1/auth/login", json={"email": user.email, "password": PASSWORD}).json()


def stolen(server: Server, user: User) -> None:
    """A refresh token that was replaced twice comes again."""
    token = user.refresh_token
    with server.client() as client:
        for _ in range(2):
            token = client.post("/api/v1/auth/refresh", json={"refresh_token": token}).json()["refresh_token"]
        assert (
            client.post("/api/v1/auth/refresh", json={"refresh_token": user.refresh_token}).status_code == 401
        )


def signed_out(server: Server, user: User) -> None:
    assert user.client.post("/api/v1/auth/logout", json={}).status_code == 200


def signed_out_by_refresh_token(server: Server, user: User) -> None:
    with server.client() as client:
        assert (
            client.post("/api/v1/auth/logout", json={"refresh_token": user.refresh_token}).status_code == 200
        )


def revoked_in_sql(server: Server, user: User) -> None:
    server.execute(
        "UPDATE refresh_tokens SET revoked_at = now() WHERE token_hash = $1", refresh_hash(user.refresh_token)
    )


def deleted_in_sql(server: Server, user: User) -> None:
    server.execute("DELETE FROM refresh_tokens WHERE token_hash = $1", refresh_hash(user.refresh_token))


@pytest.mark.parametrize(
    "end", [stolen, signed_out, signed_out_by_refresh_token, revoked_in_sql, deleted_in_sql]
)
def test_the_end_of_a_session_closes_its_sockets_and_no_others(
    server: Server, end: Callable[[Server, User], None]
) -> None:
    user = server.user()
    other = signed_in_again(server, user)
    with opened(server, user.token) as ends, opened(server, other["token"]) as stays:
        assert heartbeat(ends) == heartbeat(stays) == "ok"
        end(server, user)
        closes(ends)
        assert heartbeat(stays) == "ok"
    error_of(user.client.get("/api/v1/auth/me"), 401, "invalid_token")
    with pytest.raises(InvalidStatus, match="403"):
        opened(server, user.token)
    with server.client(other["token"]) as client:
        assert client.get("/api/v1/auth/me").status_code == 200


@pytest.mark.parametrize("sql", ["DELETE FROM refresh_tokens", "TRUNCATE refresh_tokens"])
def test_tokens_that_are_removed_from_the_table_end_every_session(server: Server, sql: str) -> None:
    users_of = [server.user(), server.user()]
    with opened(server, users_of[0].token) as one, opened(server, users_of[1].token) as another:
        assert heartbeat(one) == heartbeat(another) == "ok"
        server.execute(sql)
        closes(one)
        closes(another)
    for user in users_of:
        error_of(user.client.get("/api/v1/auth/me"), 401, "invalid_token")


def minted(user: User, server: Server, **changes: Any) -> str:
    """A token of another service that has the secret."""
    now = int(time.time())
    claims = {"sub": user.id, "iss": "bitnexus", "aud": "bitnexus", "iat": now, "exp": now + 60} | changes
    return jwt.encode(claims, SECRET, "HS256")


def test_one_clock_for_handshake_and_lifetime(server: Server) -> None:
    """A token within the leeway opens a socket that stays until the leeway is over, when the next handshake is refused."""
    user = server.user()
    token = minted(user, server, exp=int(time.time()) - 3)
    with opened(server, token) as socket:
        assert heartbeat(socket) == "ok"
        began = time.monotonic()
        closes(socket)
        assert time.monotonic() - began > 2
    with pytest.raises(InvalidStatus, match="403"):
        opened(server, token)


@pytest.mark.parametrize("exp", [10**309, 10**15, 1e300])
def test_an_exp_beyond_all_years_opens_no_socket(server: Server, exp: float) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        opened(server, minted(server.user(), server, exp=exp))


def test_the_socket_has_the_canonical_id(server: Server) -> None:
    user, admin = server.user(), server.user("admin")
    with opened(server, minted(user, server, sub=user.id.upper())) as socket:
        socket.send(json.dumps(["1", "1", f"notification:{user.id}", "phx_join", {}]))
        assert json.loads(socket.recv(PATIENCE))[4]["status"] == "ok"
        assert admin.client.post(f"/api/v1/users/{user.id}/deactivate").status_code == 200
        closes(socket)


def test_a_token_never_seen_before_costs_no_query(server: Server) -> None:
    user = server.user()
    keyring = Keyring(load({"SECRET_KEY_BASE": SECRET}))
    session = UUID(jwt.decode(user.token, options={"verify_signature": False})["sid"])
    assert user.client.get("/api/v1/flags").status_code == 200
    server.execute("ALTER TABLE users RENAME TO users_away")
    server.execute("ALTER TABLE refresh_tokens RENAME TO tokens_away")
    try:
        for _ in range(5):
            with server.client(keyring.issue(UUID(user.id), "user", user.email, session)) as client:
                assert client.get("/api/v1/flags").status_code == 200
    finally:
        server.execute("ALTER TABLE users_away RENAME TO users")
        server.execute("ALTER TABLE tokens_away RENAME TO refresh_tokens")


def test_roles_in_memory_follow_the_database(server: Server) -> None:
    user = server.user()
    status = lambda: user.client.get("/api/v1/flags/all").status_code  # noqa: E731
    assert status() == 403
    server.execute("UPDATE users SET role = 'admin' WHERE id = $1::text::uuid", user.id)
    wait_until(lambda: status() == 200)
    server.execute("UPDATE users SET role = 'user' WHERE id = $1::text::uuid", user.id)
    wait_until(lambda: status() == 403)
    server.execute("UPDATE users SET active = false WHERE id = $1::text::uuid", user.id)
    wait_until(lambda: status() == 401)
    server.execute("UPDATE users SET active = true WHERE id = $1::text::uuid", user.id)
    wait_until(lambda: status() == 403)
    server.execute("DELETE FROM users WHERE id = $1::text::uuid", user.id)
    wait_until(lambda: status() == 401)
