"""The real server's transaction channel: resume by last_seq, whose topics, the end of the token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import httpx
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.database import execute
from tests.support.server import SECRET, Server, User, wait_until

Scenario = Callable[[], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


def open_socket(server: Server, token: str) -> connect:
    address = server.url.replace("http", "ws") + f"/socket/websocket?vsn=2.0.0&token={token}"
    return connect(address, proxy=None)


async def join(socket: ClientConnection, topic: str, payload: dict[str, Any]) -> dict[str, Any]:
    await socket.send(json.dumps(["1", "1", topic, "phx_join", payload]))
    reply = json.loads(await socket.recv())
    assert reply[3] == "phx_reply", "the answer to a join comes before all events"
    return reply[4]


async def events(socket: ClientConnection, count: int) -> list[int]:
    """The ledger_seq of the next events."""
    seqs: list[int] = []
    while len(seqs) < count:
        frame = json.loads(await socket.recv())
        assert frame[3] == "new_transaction", frame
        seqs.append(frame[4]["ledger_seq"])
    return seqs


def post(user: User, count: int) -> list[int]:
    body = {"amount": "1.00", "currency": "EUR"}
    answers = [user.client.post("/api/v1/transactions", json=body) for _ in range(count)]
    return [answer.json()["ledger"]["seq"] for answer in answers]


def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_twice(
    server: Server, user: User, other: User
) -> None:
    first = post(user, 3)
    post(other, 2)
    missed = post(user, 4)

    async def scenario() -> None:
        async with open_socket(server, user.token) as socket:
            assert (await join(socket, f"transaction:{user.id}", {"last_seq": first[0]}))["status"] == "ok"
            assert await events(socket, 6) == first[1:] + missed
            assert await asyncio.to_thread(post, user, 2) == await events(socket, 2)

    play(scenario)


def test_resume_while_others_write_loses_nothing_and_doubles_nothing(server: Server) -> None:
    user = server.user()
    columns = "(user_id, amount, currency) SELECT $1, 1, 'EUR'"
    # More than one page, written behind our back.
    server.execute(f"INSERT INTO transactions {columns} FROM generate_series(1, 1300)", user.id)

    async def writer(client: httpx.AsyncClient, written: list[int]) -> None:
        for _ in range(40):
            answer = await client.post("/api/v1/transactions", json={"amount": "2.00", "currency": "EUR"})
            written.append(answer.json()["ledger"]["seq"])

    async def scenario() -> None:
        written: list[int] = []
        headers = {"authorization": f"Bearer {user.token}"}
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=60, trust_env=False
        ) as client:
            writers = [asyncio.create_task(writer(client, written)) for _ in range(3)]
            async with open_socket(server, user.token) as socket:
                assert (await join(socket, f"transaction:{user.id}", {"last_seq": 0}))["status"] == "ok"
                got = await events(socket, 1300 + 120)
                await asyncio.gather(*writers)
                assert got == sorted(set(got)), "in order, none twice"
                assert set(written) <= set(got)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(events(socket, 1), 0.3)

    play(scenario)


def test_who_joins_while_the_database_is_away_gets_what_it_missed_once_it_is_back(
    server: Server, user: User
) -> None:
    """The channels wait: none of them crashes, and nothing is logged for each."""
    first, *missed = post(user, 3)
    name = server.database.rpartition("/")[2].partition("?")[0]
    elsewhere = server.database.replace(f"/{name}?", "/bitnexus?")
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            await execute(elsewhere, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            try:
                await execute(elsewhere, ends, name)
                await asyncio.to_thread(wait_until, lambda: "database down" in "".join(server.lines))
                before = len(server.lines)
                sockets = [
                    await stack.enter_async_context(open_socket(server, user.token)) for _ in range(20)
                ]
                for socket in sockets:
                    answer = await join(socket, f"transaction:{user.id}", {"last_seq": first})
                    assert answer["status"] == "ok"
            finally:
                await execute(elsewhere, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            for socket in sockets:
                assert await events(socket, 2) == missed
            assert not [line for line in server.lines[before:] if "crash report" in line]

    play(scenario)
    wait_until(lambda: user.client.get("/api/v1/health/ready").status_code == 200)


def test_a_client_that_is_ahead_of_the_ledger_gets_what_happens(server: Server, user: User) -> None:
    async def scenario() -> None:
        async with open_socket(server, user.token) as socket:
            await join(socket, f"transaction:{user.id}", {"last_seq": 10**12})
            assert await asyncio.to_thread(post, user, 1) == await events(socket, 1)

    play(scenario)


@pytest.mark.parametrize("bad", [-1, "5", 1.5, True, None, 1 << 63])
def test_a_bad_last_seq_is_refused_with_a_reason(server: Server, user: User, bad: Any) -> None:
    async def scenario() -> None:
        async with open_socket(server, user.token) as socket:
            reply = await join(socket, f"transaction:{user.id}", {"last_seq": bad})
            assert reply["status"] == "error" and "last_seq" in reply["response"]["reason"]

    play(scenario)


def test_topics_are_their_owners_and_admin_topics_the_admins(
    server: Server, user: User, other: User, admin: User
) -> None:
    async def status(who: User, topic: str) -> str:
        async with open_socket(server, who.token) as socket:
            return (await join(socket, topic, {}))["status"]

    async def scenario() -> None:
        assert await status(user, f"notification:{user.id}") == "ok"
        for kind in ("transaction", "notification"):
            assert await status(user, f"{kind}:{other.id}") == "error"
            assert await status(admin, f"{kind}:{other.id}") == "error", "an admin has his own topics only"
        assert await status(user, "admin:tree") == "error"
        assert await status(admin, "admin:tree") == "ok"

    play(scenario)


def test_a_token_that_ends_closes_its_socket(server: Server, user: User) -> None:
    claims = jwt.decode(user.token, options={"verify_signature": False})
    ends = time.time() + 5  # late enough to join before
    short = jwt.encode(claims | {"exp": ends}, SECRET, headers=jwt.get_unverified_header(user.token))

    async def scenario() -> None:
        async with open_socket(server, short) as socket:
            await join(socket, f"transaction:{user.id}", {})
            assert time.time() < ends, "the machine was too slow to join in time"
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001
        # One clock for handshake and socket: the end of JWT_LEEWAY, 10 s. Else the client would come back at once.
        assert time.time() - ends > 9
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(server, short)
        assert refused.value.response.status_code == 403

    play(scenario)


def test_a_socket_that_talks_too_much_is_closed(server: Server, user: User) -> None:
    async def scenario() -> None:
        async with open_socket(server, user.token) as socket:
            with pytest.raises(ConnectionClosed):  # while it still talks, or after
                for number in range(1000):
                    await socket.send(json.dumps([None, str(number), "phoenix", "heartbeat", {}]))
                while True:
                    await socket.recv()

    play(scenario)


def test_a_service_has_missed_nothing(server: Server, user: User) -> None:
    post(user, 1)

    async def scenario() -> None:
        now = int(time.time())
        claims = {"iss": "bitnexus", "aud": "bitnexus", "iat": now, "exp": now + 600, "role": "service"}
        for subject in ("billing", user.id.replace("-", ""), f"{{{user.id}}}"):
            token = jwt.encode({**claims, "sub": subject}, SECRET)
            async with open_socket(server, token) as socket:
                answer = await join(socket, f"transaction:{subject}", {"last_seq": 0})
                assert answer == {"status": "ok", "response": {}}
                await socket.send(json.dumps(["1", "2", f"transaction:{subject}", "ping", {}]))
                assert json.loads(await socket.recv())[3:] == ["phx_reply", {"status": "ok", "response": {}}]

    play(scenario)
