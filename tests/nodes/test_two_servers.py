"""Two servers joined by a real NATS server, on one database: what one does the sockets of both hear, once and in order."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.nodes.nats_client import FabricError, NatsOptions, probe
from tests.nodes.nats import Nats, nats
from tests.support.channel import follow_transactions
from tests.support.server import PASSWORD, PATIENCE, Server, User, start, wait_until
from tests.system.test_two_servers import (
    another_password,
    answers,
    closes,
    deactivate,
    deactivate_in_sql,
    delete_in_sql,
    logout,
    socket,
)

SOCKETS, WRITERS, EACH = 12, 8, 40


@pytest.fixture(scope="module")
def fabric() -> Iterator[Nats]:
    with nats() as server:
        yield server


@pytest.fixture(scope="module")
def both(module_database: str, fabric: Nats) -> Iterator[tuple[Server, Server]]:
    """Two servers that are nodes of one cluster."""
    with ExitStack() as stack:
        running = []
        for name in ("one@test", "two@test"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            running.append(
                start(
                    module_database,
                    DATA_DIR=folder,
                    CLUSTER_URL=fabric.url,
                    NODE_NAME=name,
                    CLUSTER_NAME="test",
                )
            )
        one, two = running
        wait_until(lambda: sees(one, "two@test") and sees(two, "one@test"))
        yield one, two
        for server in running:
            assert server.stop() == 0, "\n".join(server.lines[-40:])


def sees(server: Server, node: str) -> bool:
    """Whether the server has said that it is connected to the node."""
    return any(f"node {node} is connected" in line for line in server.lines)


async def write(server: Server, user: User, session: Any) -> list[int]:
    recorded = []
    for number in range(EACH):
        body = {"amount": f"{number + 1}.00", "currency": "EUR", "description": f"no. {number}"}
        headers = {"authorization": f"Bearer {user.token}"}
        async with session.post(f"{server.url}/api/v1/transactions", json=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            recorded.append((await answer.json())["ledger"]["seq"])
    return recorded


async def play(servers: tuple[Server, Server], user: User) -> tuple[list[int], list[list[int]]]:
    """All at once: what was recorded, and what each socket saw."""
    seen: list[list[dict[str, Any]]] = [[] for _ in range(SOCKETS)]
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE * 2):
        joins = [asyncio.Event() for _ in range(SOCKETS)]
        listeners = [
            asyncio.create_task(
                follow_transactions(servers[number % 2], user, joins[number], seen[number].append, session)
            )
            for number in range(SOCKETS)
        ]
        for joined in joins:
            await joined.wait()
        writers = [write(servers[number % 2], user, session) for number in range(WRITERS)]
        recorded = [seq for seqs in await asyncio.gather(*writers) for seq in seqs]
        while any(len(one) < len(recorded) for one in seen):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # for one too many to show
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
    return sorted(recorded), [[each["ledger_seq"] for each in one] for one in seen]


def test_every_socket_has_every_event_once_and_in_order(both: tuple[Server, Server]) -> None:
    user = both[0].user()
    recorded, seen = asyncio.run(play(both, user))
    assert len(recorded) == WRITERS * EACH
    for number, one in enumerate(seen):
        assert one == recorded, f"socket {number}"


def cluster_check(server: Server) -> str:
    """What readiness says of the cluster; the server is ready in any case."""
    with server.client() as client:
        answer = client.get("/api/v1/health/ready")
    assert answer.status_code == 200
    return answer.json()["checks"]["cluster"]["status"]


def test_nats_gone_for_a_while_costs_nobody_an_event(both: tuple[Server, Server], fabric: Nats) -> None:
    user = both[0].user()
    assert [cluster_check(server) for server in both] == ["ok", "ok"]
    fabric.kill()
    wait_until(lambda: [cluster_check(server) for server in both] == ["down", "down"])
    recorded, seen = asyncio.run(play(both, user))
    fabric.start()
    assert len(recorded) == WRITERS * EACH and all(one == recorded for one in seen)
    for server in both:
        wait_until(lambda server=server: sum("is connected" in line for line in server.lines) >= 2)
    recorded, seen = asyncio.run(play(both, user))
    assert all(one == recorded for one in seen)


def test_a_name_that_is_taken_is_one_line_at_start(both: tuple[Server, Server], fabric: Nats) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(AssertionError) as failed:
        start(
            both[0].database,
            DATA_DIR=folder,
            CLUSTER_URL=fabric.url,
            NODE_NAME="one@test",
            CLUSTER_NAME="test",
        )
    said = str(failed.value)
    assert "bitnexus: NODE_NAME: one@test is used by another server of this cluster" in said


def test_wrong_credentials_are_one_line_at_start(both: tuple[Server, Server], fabric: Nats) -> None:
    wrong = fabric.url.replace("tester", "nobody")
    with tempfile.TemporaryDirectory() as folder, pytest.raises(AssertionError) as failed:
        start(both[0].database, DATA_DIR=folder, CLUSTER_URL=wrong, NODE_NAME="x@test", CLUSTER_NAME="test")
    assert "bitnexus: CLUSTER_URL: the NATS server refuses the user, password or credentials" in str(
        failed.value
    )


def test_a_file_that_is_no_creds_file_is_one_line_at_start(both: tuple[Server, Server], fabric: Nats) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(AssertionError) as failed:
        path = Path(folder) / "broken.creds"
        path.write_text("no credentials")
        start(
            both[0].database,
            DATA_DIR=folder,
            CLUSTER_URL=fabric.url,
            NODE_NAME="x@test",
            CLUSTER_CREDENTIALS=str(path),
        )
    assert "bitnexus: CLUSTER_URL: the credentials file is no .creds file" in str(failed.value)


def test_tls_that_the_server_does_not_speak_is_refused(fabric: Nats) -> None:
    assert asyncio.run(probe(NatsOptions((fabric.url,)), "free@test"))
    with pytest.raises(FabricError, match=r"^TLS is asked for, and the NATS server does not require it"):
        asyncio.run(probe(NatsOptions((fabric.url.replace("nats:", "tls:"),))))


def test_a_longpoll_session_answers_from_any_node(both: tuple[Server, Server]) -> None:
    one, two = both
    user = one.user()

    def poll(server: Server, token: str | None, sent: list[Any] | None = None) -> dict[str, Any]:
        params = {"vsn": "2.0.0", "token": user.token} if token is None else {"vsn": "2.0.0", "token": token}
        with server.client() as client:
            path = "/socket/longpoll"
            answer = (
                client.get(path, params=params)
                if sent is None
                else client.post(path, params=params, content=json.dumps(sent))
            )
        return answer.json()

    opened = poll(one, None)
    assert opened["status"] == 410
    token = opened["token"]
    assert poll(two, token, ["1", "1", f"transaction:{user.id}", "phx_join", {}])["status"] == 200
    got = poll(two, token)
    assert got["status"] == 200 and json.loads(got["messages"][0])[3:] == [
        "phx_reply",
        {"status": "ok", "response": {}},
    ]
    body = {"amount": "1.00", "currency": "EUR", "description": "x"}
    with two.client(user.token) as client:
        assert client.post("/api/v1/transactions", json=body).status_code == 201
    events = poll(two, token)["messages"]
    assert [json.loads(event)[3] for event in events] == ["new_transaction"]
    assert poll(two, "forged." + token.rpartition(".")[2])["status"] == 403


def sign_in(server: Server, user: User, password: str) -> int:
    with server.client() as client:
        body = {"email": user.email, "password": password}
        return client.post("/api/v1/auth/login", json=body).status_code


def test_wrong_passwords_are_counted_by_all_nodes(both: tuple[Server, Server]) -> None:
    one, two = both
    user = one.user()
    assert [sign_in(one, user, "not the password") for _ in range(5)] == [401] * 5
    # Two alone would let five pass. Some may: before it has heard of the others, and when a busy machine takes longer than the
    # pause, which doubles each time.
    passed = 0
    while sign_in(two, user, "not the password") != 429:
        passed += 1
    assert passed < 5

    def refused_by_one() -> bool:
        while sign_in(two, user, "not the password") != 429:
            pass
        return sign_in(one, user, PASSWORD) == 429

    wait_until(refused_by_one)
    other = two.user()
    assert sign_in(two, other, "not the password") == 401
    assert sign_in(one, other, PASSWORD) == 200


# ---- what ends or changes on one node does so on both


@pytest.mark.parametrize("end", [logout, deactivate, another_password, deactivate_in_sql, delete_in_sql])
def test_a_session_that_ends_on_one_node_ends_its_sockets_on_the_other(
    both: tuple[Server, Server], end: Callable[[Server, User, User], None]
) -> None:
    one, two = both
    admin, user, bystander = one.user("admin"), one.user(), one.user()
    with (
        socket(one, user.token) as here,
        socket(two, user.token) as there,
        socket(two, bystander.token) as other,
    ):
        assert answers(here) and answers(there) and answers(other)
        end(one, user, admin)
        closes(here)
        closes(there)
        assert answers(other)
    with pytest.raises(Exception, match="403"):
        socket(two, user.token)


def test_a_longpoll_session_ends_with_its_users_session_on_the_other_node(
    both: tuple[Server, Server],
) -> None:
    one, two = both
    admin, user = one.user("admin"), one.user()

    def polled(server: Server, token: str) -> int:
        with server.client() as client:
            return client.get("/socket/longpoll", params={"vsn": "2.0.0", "token": token}).json()["status"]

    with two.client() as client:
        opened = client.get("/socket/longpoll", params={"vsn": "2.0.0", "token": user.token}).json()
    assert opened["status"] == 410
    deactivate(one, user, admin)
    for server in both:
        wait_until(lambda server=server: polled(server, opened["token"]) == 403)  # there is no such session
        assert polled(server, user.token) == 403, "nor a new one"


def test_a_new_role_counts_on_both_nodes(both: tuple[Server, Server]) -> None:
    one, two = both
    admin, user = one.user("admin"), one.user("admin")
    with socket(two, user.token) as there:
        assert answers(there)
        assert admin.client.patch(f"/api/v1/users/{user.id}", json={"role": "user"}).status_code == 200
        closes(there)


def test_a_flag_that_changes_on_one_node_is_pushed_once_on_both(both: tuple[Server, Server]) -> None:
    one, two = both
    admin = one.user("admin")
    with socket(one, admin.token) as here, socket(two, admin.token) as there:
        for opened in (here, there):
            opened.send(json.dumps(["1", "1", "admin:flags", "phx_join", {}]))
            assert json.loads(opened.recv(PATIENCE))[4]["status"] == "ok"
        for percent in (10, 20):
            assert (
                admin.client.put("/api/v1/flags/of-two-nodes", json={"percent": percent}).status_code == 200
            )
        for opened in (here, there):
            pushed = [json.loads(opened.recv(PATIENCE)) for _ in range(2)]
            assert [(event, payload["percent"]) for *_, event, payload in pushed] == [
                ("flag_updated", 10),
                ("flag_updated", 20),
            ]
            assert answers(opened), "and nothing more before this answer"
    for server in both:
        with server.client(admin.token) as client:
            wait_until(lambda client=client: "of-two-nodes" in client.get("/api/v1/flags").text)
