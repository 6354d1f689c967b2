"""The npm `phoenix` client under Node: every transaction arrives in order, a crash of its channel is survived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from tests import node
from tests.node import Script
from tests.support.ports import free_port
from tests.support.server import Server, User, wait_until
from tests.support.tree import Node, kill, nodes, tree, until_healthy

CLIENT = Path(node.HERE) / "client.mjs"


@pytest.fixture(scope="module")
def server_environment() -> Mapping[str, str]:
    """One port for the server's life."""
    return {"PORT": str(free_port())}


@pytest.fixture
def client(server: Server, user: User) -> Iterator[Script]:
    """A client that has joined the user's transaction channel."""
    with Script(CLIENT, server.url, user.token, f"transaction:{user.id}") as script:
        script.until("joined")
        yield script


def post(user: User, amount: str, description: str = "") -> str:
    """Records a transaction; its id."""
    body = {"amount": amount, "currency": "EUR", "description": description}
    answer = user.client.post("/api/v1/transactions", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["transaction"]["id"]


def channels(admin: User) -> list[Node]:
    """Those that run."""
    return next(each for each in nodes(tree(admin.client)) if each["name"] == "channels")["children"]


def test_every_post_arrives_in_order_and_once(client: Script, user: User) -> None:
    posted = [post(user, f"{number}.25", f"no. {number}") for number in range(1, 51)]
    payloads = [client.until("new_transaction")["payload"] for _ in posted]
    assert [payload["id"] for payload in payloads] == posted
    assert [Decimal(payload["amount"]) for payload in payloads] == [Decimal(f"{n}.25") for n in range(1, 51)]
    sequence = [payload["ledger_seq"] for payload in payloads]
    assert sequence == list(range(sequence[0], sequence[0] + 50))
    last = post(user, "1")
    assert client.until("new_transaction")["payload"]["id"] == last, "one of them came twice"


def test_the_payload_is_the_transaction_and_its_ledger_number(client: Script, user: User) -> None:
    body = {"amount": "12.50", "currency": "CHF", "description": "Züri"}
    made = user.client.post("/api/v1/transactions", json=body).json()
    payload = client.until("new_transaction")["payload"]
    assert payload == {**made["transaction"], "ledger_seq": made["ledger"]["seq"]}


def test_the_client_rejoins_by_itself_when_its_channel_is_killed(
    client: Script, user: User, admin: User
) -> None:
    before = post(user, "1")
    assert client.until("new_transaction")["payload"]["id"] == before
    # That of the client before may not be gone yet.
    [channel] = wait_until(lambda: len(found := channels(admin)) == 1 and found)
    kill(admin.client, channel["pid"])
    client.until("phx_error")
    client.until("joined")
    assert not [each for each in client.seen if each["event"] == "close"], "the socket itself must live on"
    after = post(user, "2")
    assert client.until("new_transaction")["payload"]["id"] == after


def test_a_stranger_is_refused(server: Server, user: User, other: User) -> None:
    with Script(CLIENT, server.url, other.token, f"transaction:{user.id}") as script:
        assert script.until("refused")["response"] == {"reason": "unauthorized"}


def test_the_client_gets_the_next_one_when_the_endpoint_is_killed(
    client: Script, user: User, admin: User
) -> None:
    kill(admin.client, "endpoint")
    until_healthy(admin.client)
    client.until("joined")  # the server may be whole before the client is back
    after = post(user, "3")
    assert client.until("new_transaction")["payload"]["id"] == after
