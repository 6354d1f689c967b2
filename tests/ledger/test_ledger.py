"""The ledger: entries, proofs an outsider can check, and every kind of tampering found."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger import audit as ledger_audit
from actors.ledger import entry as ledger_entry
from actors.ledger import merkle, proofs
from actors.ledger import server as ledger_server
from actors.ledger.server import prepare
from actors.server_state import server_state
from actors.storage import repo
from runtime import sys
from schema.rows import LedgerHead, TransactionRow
from tests.support.database import add_user, execute, fetchval
from tests.support.storage import kill, run, storage, until

EMPTY = LedgerHead(0, ledger_entry.GENESIS, merkle.EMPTY_ROOT, ())


def row(number: int = 1, **fields: Any) -> TransactionRow:
    values: dict[str, Any] = {
        "id": UUID(int=number),
        "user_id": UUID(int=7),
        "amount": Decimal("12.50"),
        "currency": "EUR",
        "description": "Käse",
        "inserted_at": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    }
    return TransactionRow(**(values | fields))


def test_a_leaf_is_as_documented() -> None:
    data = (
        b"bitnexus.transaction.1\n1:3,36:00000000-0000-0000-0000-000000000001,"
        b"36:00000000-0000-0000-0000-000000000007,5:12.50,3:EUR,5:K\xc3\xa4se,0:,4:01ff,16:1767323045000006,"
    )
    assert ledger_entry.leaf_data(3, row(request_hash=b"\x01\xff")) == data
    data = data.replace(b"5:K\xc3\xa4se,0:,4:", b"5:K\xc3\xa4se,1:k,4:")
    assert ledger_entry.leaf_data(3, row(request_hash=b"\x01\xff", idempotency_key="k")) == data
    leaf = sha256(b"\0" + data).digest()
    assert ledger_entry.leaf_hash(3, row(request_hash=b"\x01\xff", idempotency_key="k")) == leaf
    assert (
        ledger_entry.entry_hash(b"p" * 32, 3, leaf)
        == sha256(b"\2" + b"p" * 32 + b"\0" * 7 + b"\3" + leaf).digest()
    )


CHANGES: list[dict[str, Any]] = [
    {"id": UUID(int=2)}, {"user_id": UUID(int=8)}, {"amount": Decimal("12.51")}, {"currency": "USD"},
    {"description": "Kase"}, {"idempotency_key": "k"}, {"request_hash": b"h"},
    {"inserted_at": datetime(2026, 1, 2, 3, 4, 5, 7, UTC)},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_column_is_in_the_leaf(change: dict[str, Any]) -> None:
    assert ledger_entry.leaf_hash(1, row()) != ledger_entry.leaf_hash(1, row(**change))


def test_the_place_is_in_the_leaf_and_fields_cannot_run_into_each_other() -> None:
    assert ledger_entry.leaf_hash(1, row()) != ledger_entry.leaf_hash(2, row())
    one = row(description="a,1:b", idempotency_key="c")
    other = row(description="a", idempotency_key="b,1:c")
    assert ledger_entry.leaf_hash(1, one) != ledger_entry.leaf_hash(1, other)


@given(st.lists(st.integers(1, 40), max_size=12))
def test_batches_of_any_size_make_the_same_ledger(sizes: list[int]) -> None:
    rows = [row(number) for number in range(sum(sizes))]
    whole = prepare(EMPTY, rows)
    head, leaves, hashes, nodes, start = EMPTY, [], [], [], 0
    for size in sizes:
        part = prepare(head, rows[start : start + size])
        head, start = part.after, start + size
        leaves += part.leaf_hashes
        hashes += part.hashes
        nodes += part.nodes
    assert (head, leaves, hashes, nodes) == (whole.after, whole.leaf_hashes, whole.hashes, whole.nodes)


async def fill(url: str, count: int) -> Any:
    """A user with `count` transactions, written as another program would and recorded by the listener.

    Waits for ledger_server as well: the database has the entries before the writer, which reports them, has its answer.
    """
    user = await add_user(url, f"{uuid4()}@example.com")
    await execute(
        url,
        "INSERT INTO transactions (user_id, amount, currency, description)"
        f" SELECT $1, n, 'EUR', 'row ' || n FROM generate_series(1, {count}) n",
        user,
    )
    await until(lambda: fetchval(url, "SELECT seq >= $1 FROM ledger_head", count), 60)

    async def is_known() -> bool:
        return (await ledger_server.head()).seq >= count

    await until(is_known)
    return user


def test_proofs_convince_an_outsider(database: str) -> None:
    """Sizes around 16 and 256: stored nodes of several levels and leaves mix."""

    async def main() -> None:
        async with storage(database):
            user = await fill(database, 1300)
            head = await ledger_server.head()
            assert head.tree_size == 1300
            ids = await fetch_ids(database)
            randomly = random.Random(1)
            for seq in {
                1,
                2,
                255,
                256,
                257,
                512,
                1024,
                1280,
                1281,
                1299,
                1300,
                *randomly.sample(range(1, 1301), 20),
            }:
                found = await ledger_server.verify(ids[seq])
                assert found.verified and found.reason is None and found.seq == seq
                assert (found.tree_size, found.root_hash) == (1300, head.root_hash)
                assert found.leaf_hash is not None
                assert merkle.verify_inclusion(
                    found.leaf_hash, seq - 1, found.tree_size, found.inclusion_proof, head.root_hash
                )
            roots = await roots_by_size(database)
            for first in {
                1,
                2,
                3,
                255,
                256,
                257,
                700,
                1024,
                1299,
                1300,
                *randomly.sample(range(1, 1301), 10),
            }:
                proof = await ledger_server.consistency(first, 1300)
                assert merkle.verify_consistency(first, 1300, roots[first], head.root_hash, proof)
            proof = await ledger_server.consistency(300, 900)
            assert merkle.verify_consistency(300, 900, roots[300], roots[900], proof)
            assert await ledger_server.consistency(0, 5) == []
            for first, second in ((5, 4), (1, 1301), (-1, 4)):
                with pytest.raises(ValueError):
                    await ledger_server.consistency(first, second)
            assert (await ledger_server.verify(uuid4())).reason == "unknown_transaction"
            assert user

    run(main())


async def fetch_ids(url: str) -> dict[int, UUID]:
    connection = await asyncpg.connect(url)
    try:
        return {r[0]: r[1] for r in await connection.fetch("SELECT seq, transaction_id FROM ledger_entries")}
    finally:
        await connection.close()


async def roots_by_size(url: str) -> dict[int, bytes]:
    connection = await asyncpg.connect(url)
    try:
        frontier = merkle.Frontier()
        roots = {}
        for record in await connection.fetch("SELECT leaf_hash FROM ledger_entries ORDER BY seq"):
            frontier.append(record[0])
            roots[frontier.size] = frontier.root()
        return roots
    finally:
        await connection.close()


# What somebody does to the database ($1 is the transaction of entry 100), the reason verify gives for that
# transaction, the seq and the reason the audit gives.
THIS = " WHERE transaction_id = $1"
ANY = " WHERE $1::uuid IS NOT NULL"
TAMPERING: list[tuple[str, str | None, int, str]] = [
    ("UPDATE transactions SET amount = amount + 0.01 WHERE id = $1",
     "transaction_changed", 100, "transaction_changed"),
    ("UPDATE transactions SET description = '' WHERE id = $1",
     "transaction_changed", 100, "transaction_changed"),
    ("UPDATE transactions SET inserted_at = inserted_at + '1us' WHERE id = $1",
     "transaction_changed", 100, "transaction_changed"),
    ("UPDATE transactions SET idempotency_key = 'x' WHERE id = $1",
     "transaction_changed", 100, "transaction_changed"),
    ("DELETE FROM transactions WHERE id = $1", "transaction_removed", 100, "transaction_removed"),
    ("DELETE FROM ledger_entries" + THIS, "not_in_ledger", 100, "entry_removed"),
    ("WITH t AS (DELETE FROM transactions WHERE id = $1) DELETE FROM ledger_entries" + THIS,
     "unknown_transaction", 100, "entry_removed"),
    ("UPDATE ledger_entries SET leaf_hash = sha256('x')" + THIS,
     "transaction_changed", 100, "transaction_changed"),
    ("UPDATE ledger_entries SET hash = sha256('x')" + THIS, "chain_broken", 100, "chain_broken"),
    ("UPDATE ledger_entries SET prev_hash = sha256('x')" + THIS, "chain_broken", 100, "chain_broken"),
    ("UPDATE ledger_entries SET hash = sha256('x')" + ANY + " AND seq = 99",
     "chain_broken", 99, "chain_broken"),
    ("UPDATE ledger_head SET root_hash = sha256('x')" + ANY, "head_changed", 300, "head_changed"),
    ("UPDATE ledger_head SET seq = 299" + ANY, "head_changed", 300, "entry_added"),
    ("UPDATE ledger_nodes SET hash = sha256('x')" + ANY, "proof_failed", 1, "node_changed"),
    ("UPDATE ledger_nodes SET hash = sha256('x')" + ANY + " AND (level, position) = (8, 0)",
     None, 1, "node_changed"),
    ("DELETE FROM ledger_nodes" + ANY + " AND (level, position) = (4, 17)", None, 273, "node_changed"),
    ("DELETE FROM ledger_nodes" + ANY + " AND (level, position) = (4, 3)", "proof_failed", 49, "node_changed"),
    ("INSERT INTO ledger_nodes SELECT 4, 18, sha256('x') FROM users" + ANY, None, 289, "node_changed"),
    ("INSERT INTO ledger_entries SELECT 301, id, sha256(''), sha256(''), sha256('')"
     " FROM users" + ANY, None, 301, "entry_added"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "reason", "seq", "audited"), TAMPERING)
def test_tampering_is_found(
    database: str, statement: str, reason: str | None, seq: int | None, audited: str
) -> None:
    async def main() -> None:
        async with storage(database):
            await fill(database, 300)
            ids = await fetch_ids(database)
            assert (await ledger_server.verify(ids[100])).verified
            assert await audit(database) == (300, 300, None)
            await ledger_server.head()
            await execute(database, statement, ids[100])
            found = await ledger_server.verify(ids[100])
            assert (found.verified, found.reason) == (reason is None, reason)
            fault = (await audit(database))[2]
            assert fault is not None and (fault.seq, fault.reason) == (seq, audited)

    run(main())


async def audit(url: str) -> tuple[int, int, ledger_audit.Fault | None]:
    connection = await asyncpg.connect(url)
    try:
        steps = [step async for step in ledger_audit.verify_ledger(connection)]
        assert [step.checked for step in steps] == sorted(step.checked for step in steps) and steps[-1].done
        return steps[-1].checked, steps[-1].total, steps[-1].fault
    finally:
        await connection.close()


def test_a_head_that_contradicts_itself_proves_nothing(database: str) -> None:
    """A server that has just started knows no earlier head."""

    async def main() -> None:
        async with storage(database):
            await fill(database, 300)
            ids = await fetch_ids(database)
            await execute(database, "UPDATE ledger_head SET seq = 299")
            assert (await proofs.verify(ids[100])).reason == "proof_failed"
            with pytest.raises(proofs.MissingNodes):
                await ledger_server.consistency(100, 299)

    run(main())


def test_a_row_inserted_past_the_trigger_is_found(database: str) -> None:
    async def main() -> None:
        async with storage(database):
            user = await fill(database, 10)
            connection = await asyncpg.connect(database)
            async with connection.transaction():
                await connection.execute("SET LOCAL bitnexus.batch = 'on'")
                smuggled = await connection.fetchval(
                    "INSERT INTO transactions (user_id, amount, currency) VALUES ($1, 1, 'EUR') RETURNING id",
                    user,
                )
            await connection.close()
            found = await ledger_server.verify(smuggled)
            assert (found.verified, found.reason, found.seq) == (False, "not_in_ledger", None)
            assert (await audit(database))[2] == ledger_audit.Fault(None, smuggled, "not_in_ledger")

    run(main())


def test_a_ledger_rewritten_as_a_whole_is_found_by_the_running_server(database: str) -> None:
    """Every hash fits, but the head this server has seen is not in it."""

    async def main() -> None:
        async with storage(database):
            await fill(database, 20)
            await ledger_server.head()
            connection = await asyncpg.connect(database)
            records = await connection.fetch(
                "SELECT t.* FROM transactions t JOIN ledger_entries ON id = transaction_id ORDER BY seq"
            )
            rows = [TransactionRow.from_record(r) for r in records]
            await connection.execute("UPDATE transactions SET amount = 99 WHERE id = $1", rows[4].id)
            rows[4] = TransactionRow.from_record(
                await connection.fetchrow("SELECT * FROM transactions WHERE id = $1", rows[4].id)
            )
            forged = prepare(EMPTY, rows)
            await connection.executemany(
                "UPDATE ledger_entries SET leaf_hash = $2, hash = $3, prev_hash = $4 WHERE seq = $1",
                [
                    (n + 1, leaf, forged.hashes[n], forged.hashes[n - 1] if n else ledger_entry.GENESIS)
                    for n, leaf in enumerate(forged.leaf_hashes)
                ],
            )
            await connection.execute(
                "UPDATE ledger_head SET hash = $1, root_hash = $2, frontier = $3",
                forged.after.hash, forged.after.root_hash, forged.after.frontier,
            )  # fmt: skip
            await connection.executemany(
                "UPDATE ledger_nodes SET hash = $3 WHERE level = $1 AND position = $2",
                [(subtree.level, subtree.index, value) for subtree, value in forged.nodes],
            )
            await connection.close()
            assert (await audit(database))[2] is None
            found = await ledger_server.verify(rows[4].id)
            assert (found.verified, found.reason) == (False, "head_changed")

    run(main())


def test_history_pages_newest_first_without_gap_or_repeat(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await fill(database, 25)  # all of one moment
            other = await add_user(database, "other@example.com")
            await s.record(other)
            for number in range(5):
                await s.record(user, f"{100 + number}.00")
            seen: list[Any] = []
            cursor = None
            while True:
                page = await ledger_server.get_history(user, 7, cursor)
                seen += page.items
                assert len(page.items) <= 7
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert len({item.transaction.id for item in seen}) == len(seen) == 30
            assert [str(item.transaction.amount) for item in seen[:5]] == [
                f"{n}.00" for n in (104, 103, 102, 101, 100)
            ]
            assert {item.seq for item in seen} == set(range(1, 26)) | set(range(27, 32))
            for wrong in ("", "x", "2026-01-01T00:00:00_" + str(uuid4()), "2026-01-01T00:00:00Z_x"):
                with pytest.raises(ValueError):
                    await ledger_server.get_history(user, 7, wrong)

    run(main())


def test_without_a_database_the_ledger_says_unavailable(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False):
            await fetchval(database, "SELECT 1")
            work: list[Callable[[], Awaitable[Any]]] = [
                lambda: ledger_server.verify(uuid4()),
                lambda: ledger_server.consistency(0, 0),
                lambda: ledger_server.get_history(uuid4()),
                ledger_server.head,
            ]
            await sys.suspend("repo")  # its next ping would find the database
            await sys.suspend("db_writer")  # its probe tells the ledger the head
            await kill("ledger_server")
            server_state().database_error = "down"
            for call in work:
                with pytest.raises(repo.Unavailable):
                    await call()

    run(main())


def test_proof_reads_few_hashes_of_a_large_ledger(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with storage(database):
            await fill(database, 5000)
            ids = await fetch_ids(database)
            read: list[int] = []
            root = merkle.subtree_root

            def counting(hashes: bytes) -> bytes:
                read[-1] += len(hashes) // merkle.HASH_BYTES
                return root(hashes)

            monkeypatch.setattr(merkle, "subtree_root", counting)
            for seq in (1, 2500, 4999):
                read.append(0)
                assert (await ledger_server.verify(ids[seq])).verified
            assert 0 < max(read) <= 4 * 15  # 13 levels, four a tile

    run(main())
