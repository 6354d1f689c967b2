"""Transactions over real HTTP, on a real server and database."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from actors.storage.postgres.cluster import SUPERUSER, DatabaseCluster
from tests.support.database import execute
from tests.support.server import Server, User, error_of, start, wait_until

PATH = "/api/v1/transactions"
GOOD = {"amount": "12.50", "currency": "EUR", "description": "rent"}


def test_post_answers_the_exact_shape_and_the_row_is_there(server: Server, user: User) -> None:
    answer = user.client.post(PATH, json=GOOD)
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"transaction", "ledger"}
    made = body["transaction"]
    assert set(made) == {"id", "user_id", "amount", "currency", "description", "inserted_at"}
    assert (made["user_id"], made["amount"], made["currency"], made["description"]) == (
        user.id,
        "12.50",
        "EUR",
        "rent",
    )
    assert made["inserted_at"].endswith("Z")
    assert set(body["ledger"]) == {"seq", "hash"} and len(body["ledger"]["hash"]) == 64
    row = server.fetchrow(
        "SELECT seq, hash FROM ledger_entries WHERE transaction_id = $1::text::uuid", made["id"]
    )
    assert (row["seq"], row["hash"].hex()) == (body["ledger"]["seq"], body["ledger"]["hash"])


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        ("1", "1.00"),
        ("-3.5", "-3.50"),
        (7, "7.00"),
        (7.25, "7.25"),
        ("9999999999999999.99",) * 2,
        (1e3, "1000.00"),
    ],
)
def test_amounts_that_are_taken(user: User, amount: object, stored: str) -> None:
    answer = user.client.post(PATH, json={**GOOD, "amount": amount})
    assert answer.status_code == 201, answer.text
    assert answer.json()["transaction"]["amount"] == stored


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "0.00",
        0,
        -0.0,
        "1.234",
        1.234,
        0.1 + 0.2,
        "abc",
        "",
        "NaN",
        "Infinity",
        "1e3",
        "1_0",
        " 1",
        "１",
        "10000000000000000",
        1e16,
        10**30,
        True,
        None,
        [],
        {},
        "--1",
        "+1",
        ".5",
        "5.",
    ],
)
def test_amounts_that_are_refused_by_name(user: User, amount: object) -> None:
    error = error_of(user.client.post(PATH, json={**GOOD, "amount": amount}), 422, "validation_failed")
    assert set(error["fields"]) == {"amount"}


def test_every_bad_field_is_named_at_once(user: User) -> None:
    bad = {"amount": "0", "currency": "euro", "description": "x" * 1001, "user_id": "me"}
    error = error_of(user.client.post(PATH, json=bad), 422)
    assert set(error["fields"]) == {"amount", "currency", "description", "user_id"}
    assert set(error_of(user.client.post(PATH, json={}), 422)["fields"]) == {"amount", "currency"}


@pytest.mark.parametrize("currency", ["eur", "EU", "EURO", "XYZ", "", 978, None])
def test_currencies_that_are_no_iso_code(user: User, currency: object) -> None:
    error = error_of(user.client.post(PATH, json={**GOOD, "currency": currency}), 422)
    assert set(error["fields"]) == {"currency"}


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_postgresql_cannot_hold(user: User, text: str) -> None:
    raw = json.dumps({**GOOD, "description": text}).encode()
    answer = user.client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert set(error_of(answer, 422)["fields"]) == {"description"}


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\ud800": 1}, {"a": "\udfff\ud800"}])
def test_half_of_a_pair_in_any_field(user: User, field: str, value: object) -> None:
    raw = json.dumps({**GOOD, field: value}).encode()
    answer = user.client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert set(error_of(answer, 422)["fields"]) == {field}


@pytest.mark.parametrize("raw", [b"{", b"", b"nonsense", b"\xff", b'{"amount":NaN}', b"[" * 50_000])
def test_a_body_that_is_no_json(user: User, raw: bytes) -> None:
    answer = user.client.post(PATH, content=raw, headers={"content-type": "application/json"})
    error_of(answer, 400, "malformed_json")


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"x"', b"1"])
def test_a_body_that_is_no_object(user: User, raw: bytes) -> None:
    answer = user.client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert set(error_of(answer, 422)["fields"]) == {"body"}


def test_a_wrong_content_type_and_a_body_too_large(user: User) -> None:
    error_of(user.client.post(PATH, content=b"x", headers={"content-type": "text/plain"}), 415)
    large = json.dumps({**GOOD, "description": "x" * (1 << 20)}).encode()
    error_of(user.client.post(PATH, content=large, headers={"content-type": "application/json"}), 413)

    def pieces():  # chunked: no content-length tells in advance
        yield from (b" " * 65536 for _ in range(20))

    error_of(user.client.post(PATH, content=pieces(), headers={"content-type": "application/json"}), 413)


def test_no_token_wrong_token_other_scheme(server: Server) -> None:
    with server.client() as client:
        answer = client.post(PATH, json=GOOD)
        error_of(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        error_of(
            client.post(PATH, json=GOOD, headers={"authorization": "Bearer x.y.z"}), 401, "invalid_token"
        )
        error_of(client.post(PATH, json=GOOD, headers={"authorization": "Basic eDp5"}), 401)


def test_idempotency_key(server: Server, user: User, other: User) -> None:
    headers = {"idempotency-key": secrets.token_hex(8)}
    first = user.client.post(PATH, json=GOOD, headers=headers)
    again = user.client.post(PATH, json={**GOOD, "amount": 12.5}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    error_of(
        user.client.post(PATH, json={**GOOD, "amount": "12.51"}, headers=headers), 409, "idempotency_conflict"
    )
    assert (
        other.client.post(PATH, json=GOOD, headers=headers).json()["transaction"]["id"]
        != first.json()["transaction"]["id"]
    )
    key = headers["idempotency-key"]
    assert server.fetchval("SELECT count(*) FROM transactions WHERE idempotency_key = $1", key) == 2
    error_of(user.client.post(PATH, json=GOOD, headers={"idempotency-key": "x" * 256}), 422)


def test_the_same_key_at_once_records_once(server: Server, user: User) -> None:
    key = secrets.token_hex(8)
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: user.client.post(PATH, json=GOOD, headers={"idempotency-key": key}), range(16))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert server.fetchval("SELECT count(*) FROM transactions WHERE idempotency_key = $1", key) == 1


def test_the_key_of_a_row_that_got_past_the_ledger_holds_up_nobody(server: Server) -> None:
    user, body = server.user(), {"amount": "1", "currency": "EUR"}
    server.execute(
        "BEGIN; SET LOCAL bitnexus.batch = 'on'; INSERT INTO transactions (user_id, amount, currency,"
        f" idempotency_key) VALUES ('{user.id}', 1, 'EUR', 'past'); COMMIT"
    )
    error = error_of(user.client.post(PATH, json=body, headers={"idempotency-key": "past"}), 422)
    assert error["message"] == "The transaction of this Idempotency-Key is not in the ledger"
    assert user.client.post(PATH, json=body).status_code == 201


def test_only_an_admin_names_another_user(user: User, other: User, admin: User, service: User) -> None:
    error_of(other.client.post(PATH, json={**GOOD, "user_id": user.id}), 403)
    error_of(service.client.post(PATH, json={**GOOD, "user_id": user.id}), 403)
    assert other.client.post(PATH, json={**GOOD, "user_id": other.id}).status_code == 201
    answer = admin.client.post(PATH, json={**GOOD, "user_id": user.id})
    assert answer.json()["transaction"]["user_id"] == user.id
    error_of(admin.client.post(PATH, json={**GOOD, "user_id": str(uuid4())}), 404, "user_not_found")


def test_list_pages_newest_first_without_loss(server: Server) -> None:
    owner = server.user()
    answers = [owner.client.post(PATH, json={**GOOD, "amount": str(n + 1)}).json() for n in range(7)]
    made = [{**one["transaction"], "ledger_seq": one["ledger"]["seq"]} for one in answers]
    seen, cursor = [], None
    for _ in range(4):
        answer = owner.client.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        body = answer.json()
        seen += body["transactions"]
        cursor = body["next_cursor"]
    assert cursor is None
    assert seen == list(reversed(made))


def test_list_filters(server: Server) -> None:
    owner = server.user()
    for currency in ("EUR", "USD", "EUR"):
        owner.client.post(PATH, json={**GOOD, "currency": currency})
    shown = owner.client.get(PATH, params={"currency": "EUR"}).json()["transactions"]
    assert [one["currency"] for one in shown] == ["EUR", "EUR"]
    assert len(owner.client.get(PATH, params={"from": "2020-01-01T00:00:00Z"}).json()["transactions"]) == 3
    assert owner.client.get(PATH, params={"to": "2020-01-01T00:00:00Z"}).json()["transactions"] == []


def test_list_of_another_is_for_admins(user: User, other: User, admin: User) -> None:
    user.client.post(PATH, json=GOOD)
    error_of(other.client.get(PATH, params={"user_id": user.id}), 403)
    shown = admin.client.get(PATH, params={"user_id": user.id}).json()["transactions"]
    assert shown and {one["user_id"] for one in shown} == {user.id}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "x"},
        {"cursor": "zz"},
        {"user_id": "1"},
        {"currency": "eur"},
        {"from": "yesterday"},
        {"to": "0.5"},
        {"limit": "1.5"},
        {"cursor": "null"},
        {"cursor": "0" * 48 + "\n"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_a_bad_query_names_the_field(user: User, query: dict[str, object]) -> None:
    assert set(error_of(user.client.get(PATH, params=query), 422)["fields"]) == set(query)


def test_one_is_shown_to_its_owner_and_admins(user: User, other: User, admin: User) -> None:
    made = user.client.post(PATH, json=GOOD).json()["transaction"]
    assert user.client.get(f"{PATH}/{made['id']}").json() == {"transaction": made}
    assert admin.client.get(f"{PATH}/{made['id']}").status_code == 200
    error_of(other.client.get(f"{PATH}/{made['id']}"), 404)
    error_of(user.client.get(f"{PATH}/{uuid4()}"), 404)
    error_of(user.client.get(f"{PATH}/17"), 404)


def test_verify_and_head_and_consistency(server: Server, user: User, other: User) -> None:
    made = user.client.post(PATH, json=GOOD).json()
    before = user.client.get("/api/v1/ledger/head").json()
    assert set(before) == {"seq", "tree_size", "root_hash", "hash"}
    proof = user.client.get(f"{PATH}/{made['transaction']['id']}/verify").json()
    assert set(proof) == {"verified", "seq", "leaf_hash", "tree_size", "root_hash", "inclusion_proof"}
    assert proof["verified"] is True and proof["seq"] == made["ledger"]["seq"]
    assert _root(proof) == proof["root_hash"]
    error_of(other.client.get(f"{PATH}/{made['transaction']['id']}/verify"), 404)

    user.client.post(PATH, json=GOOD)
    query = {"from": before["tree_size"], "to": before["tree_size"] + 1}
    answer = user.client.get("/api/v1/ledger/consistency", params=query)
    assert answer.status_code == 200 and isinstance(answer.json()["proof"], list)
    error_of(user.client.get("/api/v1/ledger/consistency", params={"from": 5, "to": 1}), 404)
    # Rows that somebody removed: no proof, and the answer says which.
    server.execute("CREATE TABLE aside AS TABLE ledger_entries")
    server.execute("DELETE FROM ledger_entries WHERE seq = 2")
    try:
        error = error_of(user.client.get("/api/v1/ledger/consistency", params={"from": 1, "to": 2}), 500)
        assert (error["code"], error["message"]) == (
            "ledger_damaged", "The ledger is damaged: hashes are missing at level 0, positions 1 to 1",
        )  # fmt: skip
    finally:
        server.execute("INSERT INTO ledger_entries SELECT * FROM aside WHERE seq = 2; DROP TABLE aside")
    assert set(error_of(user.client.get("/api/v1/ledger/consistency"), 422)["fields"]) == {"from", "to"}


def test_an_edited_amount_is_found(server: Server, user: User) -> None:
    made = user.client.post(PATH, json=GOOD).json()["transaction"]
    sql = "UPDATE transactions SET amount = $2::text::numeric WHERE id = $1::text::uuid"
    server.execute(sql, made["id"], "99.00")
    proof = user.client.get(f"{PATH}/{made['id']}/verify").json()
    assert proof["verified"] is False and proof["reason"] == "transaction_changed"
    server.execute(sql, made["id"], made["amount"])
    assert user.client.get(f"{PATH}/{made['id']}/verify").json()["verified"] is True


def _root(proof: dict[str, object]) -> str:
    """RFC 9162, 2.1.3.2."""
    index, size = proof["seq"] - 1, proof["tree_size"] - 1  # type: ignore[operator]
    node = bytes.fromhex(proof["leaf_hash"])  # type: ignore[arg-type]
    for text in proof["inclusion_proof"]:  # type: ignore[union-attr]
        sibling = bytes.fromhex(text)
        if index & 1 or index == size:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while not index & 1 and index:
                index, size = index >> 1, size >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        index, size = index >> 1, size >> 1
    return node.hex()


def test_while_the_database_is_down_every_data_route_says_503(
    embedded: DatabaseCluster, database: str, tmp_path: Path
) -> None:
    running = start(database, DATA_DIR=str(tmp_path))
    try:
        owner = running.user()
        assert owner.client.post(PATH, json=GOOD).status_code == 201
        name = re.search(r"/(test_\d+)", database)[1]  # type: ignore[index]
        superuser = embedded.url("postgres", SUPERUSER)
        asyncio.run(execute(superuser, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        asyncio.run(execute(superuser, ended))
        wait_until(lambda: owner.client.get("/api/v1/health/ready").status_code == 503)
        for answer in (
            owner.client.post(PATH, json=GOOD),
            owner.client.get(PATH),
            owner.client.get("/api/v1/tasks"),
        ):
            error_of(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert owner.client.get("/health").status_code == 200
        asyncio.run(execute(superuser, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        wait_until(lambda: owner.client.post(PATH, json=GOOD).status_code == 201)
    finally:
        assert running.stop() == 0
