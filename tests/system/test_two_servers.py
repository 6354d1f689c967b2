"""Two servers on one database: what ends a user's sessions on one, or in the database, ends his sockets on both."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from actors.storage import repo
from schema import users
from tests.support.database import add_user, execute
from tests.support.server import PASSWORD, PATIENCE, Server, User, error_of, start
from tests.support.storage import payloads, run, storage, until


@pytest.fixture(scope="module")
def second(server: Server) -> Iterator[Server]:
    """Another server on the same database."""
    with tempfile.TemporaryDirectory() as folder:
        running = start(server.database, DATA_DIR=folder)
        yield running
        assert running.stop() == 0, "\n".join(running.lines[-40:])


def socket(server: Server, token: str) -> ClientConnection:
    return connect(server.url.replace("http", "ws", 1) + f"/socket/websocket?vsn=2.0.0&token={token}")


def answers(opened: ClientConnection) -> bool:
    """The socket is open: it answers a heartbeat."""
    opened.send(json.dumps([None, "1", "phoenix", "heartbeat", {}]))
    return json.loads(opened.recv(PATIENCE))[4]["status"] == "ok"


def closes(opened: ClientConnection) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        opened.recv(PATIENCE)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


def logout(server: Server, user: User, admin: User) -> None:
    assert user.client.post("/api/v1/auth/logout", json={}).status_code == 200


def deactivate(server: Server, user: User, admin: User) -> None:
    assert admin.client.post(f"/api/v1/users/{user.id}/deactivate").status_code == 200


def another_password(server: Server, user: User, admin: User) -> None:
    changed = {"password": "another " + PASSWORD, "current_password": PASSWORD}
    assert user.client.patch(f"/api/v1/users/{user.id}", json=changed).status_code == 200


def deactivate_in_sql(server: Server, user: User, admin: User) -> None:
    server.execute("UPDATE users SET active = false WHERE id = $1", user.id)


def delete_in_sql(server: Server, user: User, admin: User) -> None:
    server.execute("DELETE FROM users WHERE id = $1", user.id)


@pytest.mark.parametrize("end", [logout, deactivate, another_password, deactivate_in_sql, delete_in_sql])
def test_an_ended_session_ends_the_sockets_everywhere(
    server: Server, second: Server, admin: User, end: Callable[[Server, User, User], None]
) -> None:
    user, bystander = server.user(), server.user()
    with (
        socket(server, user.token) as here,
        socket(second, user.token) as there,
        socket(second, bystander.token) as other,
    ):
        assert answers(here) and answers(there) and answers(other)
        with second.client(user.token) as client:  # and now it believes the token for a while
            assert client.get("/api/v1/auth/me").status_code == 200
            end(server, user, admin)
            closes(here)
            closes(there)
            error_of(client.get("/api/v1/auth/me"), 401)
        assert answers(other)
    with pytest.raises(Exception, match="403"):
        socket(second, user.token)


def test_a_new_role_counts_everywhere(server: Server, second: Server, admin: User) -> None:
    user = server.user("admin")
    with socket(second, user.token) as there:
        assert answers(there)
        assert admin.client.patch(f"/api/v1/users/{user.id}", json={"role": "user"}).status_code == 200
        closes(there)
    with socket(second, user.token) as there:
        there.send(json.dumps(["1", "1", "admin:tasks", "phx_join", {}]))
        assert json.loads(there.recv(PATIENCE))[4]["status"] == "error"


def test_what_a_server_ended_itself_it_is_not_told_again(database: str) -> None:
    """Else the user's other sessions, back within milliseconds, would be sent away a second time."""

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            topic = f"user_socket:{user}"
            seen = await s.subscribe(topic, "db:sessions", "admin:flags")
            for number in range(2):
                await execute(database, users.ADD_REFRESH, user, user, bytes([number]), 60)
            await repo.pool().execute(users.REVOKE_OF_USER, user)
            await repo.pool().execute("INSERT INTO flags (name, percent) VALUES ('behind', 1)")
            await until(lambda: payloads(seen, "flag_updated"))
            assert [message.event for message in seen] == ["flag_updated"]
            await execute(database, users.ADD_REFRESH, user, user, b"3", 60)
            await execute(database, users.REVOKE_OF_USER, user)
            await until(lambda: len(seen) == 3)
            told, away = seen[1:]
            assert (told.table, told.operation, told.row["user_id"]) == ("sessions", "DELETE", str(user))
            assert (away.topic, away.event) == (topic, "disconnect")

    run(main())


def test_what_a_killed_listener_missed_is_told_by_its_successor(server: Server, second: Server) -> None:
    user = server.user()
    with socket(second, user.token) as there:
        assert answers(there)
        os.kill(second.process.pid, signal.SIGSTOP)
        try:
            # Its connections are gone, and with them every notification.
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'bitnexus listener %'"
            )
            server.execute("UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1", user.id)
        finally:
            os.kill(second.process.pid, signal.SIGCONT)
        closes(there)
