"""The writer on a real database: group commit, idempotency, bad rows, crashes, several servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from actors.ledger import audit as ledger_audit
from actors.ledger import record_call
from actors.ledger import server as ledger_server
from actors.ledger import writer as db_writer
from actors.ledger.batch import IdempotencyConflict, Recorded, RecordTransaction, Rejected, UserMissing
from actors.ledger.server import GetHead, prepare
from actors.ledger.writer import DbWriter
from actors.server_state import server_state
from actors.storage import repo
from actors.storage.failures import OutcomeUnknown, Unavailable
from runtime.core import reports, telemetry
from runtime.core.exits import Exit
from runtime.otp import erlang, gen_server, sys
from runtime.otp.process_info import process_info
from runtime.testing.simulation import Simulation
from schema.activity import Activity, Statement
from schema.rows import LedgerHead, TransactionRow
from tests.support.database import add_user, execute, fetchval
from tests.support.server import PATIENCE
from tests.support.storage import kill, payloads, run, storage, until


async def assert_sound(url: str, entries: int | None = None) -> None:
    """The whole ledger verifies, each row has one entry, seq has no gap."""
    connection = await asyncpg.connect(url)
    try:
        last = [step async for step in ledger_audit.verify_ledger(connection)][-1]
        assert last.fault is None and last.done
        assert last.checked == await connection.fetchval("SELECT count(*) FROM transactions")
        if entries is not None:
            assert last.checked == entries
    finally:
        await connection.close()


def batches() -> tuple[list[int], Callable[[], None]]:
    """The sizes of the batches that are committed from now on, and how to stop listening."""
    sizes: list[int] = []
    telemetry.attach(
        "test-batches",
        ("db_writer", "batch"),
        lambda _e, measured, _m, _c=None: sizes.append(measured["rows"]),
    )
    return sizes, lambda: telemetry.detach("test-batches")


def test_a_transaction_is_durable_in_the_ledger_and_broadcast(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}")
            recorded = await s.record(user, "-0.10", description="Käse\U0001f9c0")
            assert isinstance(recorded, Recorded) and recorded.seq == 1 and not recorded.replayed
            row = await fetchval(database, "SELECT (amount, currency, description)::text FROM transactions")
            assert row == "(-0.10,EUR,Käse\U0001f9c0)"
            await until(lambda: seen)
            assert payloads(seen, "new_transaction") == [recorded.transaction.payload() | {"ledger_seq": 1}]
            assert recorded.transaction.payload()["amount"] == "-0.10"
            head = await gen_server.call("ledger_server", GetHead())
            assert (head.seq, head.hash) == (1, recorded.hash)
            await assert_sound(database, 1)

    run(main())


def test_what_waits_becomes_one_batch_in_order_and_each_event_comes_once(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            users = [await add_user(database, f"u{i}@example.com") for i in range(3)]
            seen = await s.subscribe(*(f"transaction:{user}" for user in users))
            sizes, stop = batches()
            answers = await asyncio.gather(*(s.record(users[i % 3], f"{i + 1}.00") for i in range(700)))
            stop()
            assert sorted(a.seq for a in answers) == list(range(1, 701))
            assert [a.seq for a in answers] == [int(a.transaction.amount) for a in answers]
            assert len(sizes) <= 4 and max(sizes) <= 500
            await until(lambda: len(payloads(seen, "new_transaction")) >= 700)
            assert [p["ledger_seq"] for p in payloads(seen, "new_transaction")] == list(range(1, 701))
            await assert_sound(database, 700)

    run(main())


def test_the_same_key_is_the_same_answer_another_body_a_conflict(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user, other = await add_user(database), await add_user(database, "b@example.com")
            seen = await s.subscribe(f"transaction:{user}")
            first = await s.record(user, idempotency_key="k", request_hash=b"1" * 32)
            again = await s.record(user, idempotency_key="k", request_hash=b"1" * 32)
            assert not first.replayed and again.replayed
            assert (again.transaction, again.seq, again.hash) == (first.transaction, first.seq, first.hash)
            assert await s.record(user, idempotency_key="k", request_hash=b"2" * 32) == IdempotencyConflict()
            theirs = await s.record(other, idempotency_key="k", request_hash=b"2" * 32)
            assert theirs.seq == 2
            # Without a hash the fields are the body.
            assert not (await s.record(user, "1.00", idempotency_key="f")).replayed
            assert (await s.record(user, "1.00", idempotency_key="f")).replayed
            assert await s.record(user, "1.01", idempotency_key="f") == IdempotencyConflict()
            await until(lambda: len(payloads(seen, "new_transaction")) >= 2)
            await assert_sound(database, 3)
            assert len(payloads(seen, "new_transaction")) == 2

    run(main())


def test_keys_inside_one_batch(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            await s.record(user, idempotency_key="old", request_hash=b"o")
            got = await asyncio.gather(
                s.record(user, idempotency_key="new", request_hash=b"n"),
                s.record(user, idempotency_key="new", request_hash=b"n"),
                s.record(user, idempotency_key="new", request_hash=b"other"),
                s.record(user, idempotency_key="old", request_hash=b"o"),
                s.record(user, idempotency_key="old", request_hash=b"other"),
                s.record(user),
                s.record(uuid4(), idempotency_key="x"),
                s.record(uuid4()),
            )
            assert [getattr(a, "replayed", type(a)) for a in got] == [
                False, True, IdempotencyConflict, True, IdempotencyConflict, False, UserMissing, UserMissing,
            ]  # fmt: skip
            assert got[0].seq == got[1].seq == 2 and got[3].seq == 1 and got[5].seq == 3
            await assert_sound(database, 3)

    run(main())


FOREIGN = """
INSERT INTO transactions (user_id, amount, currency, description, idempotency_key) VALUES ($1, 12.5, 'EUR', 'same', 'k')
"""
WAITING_FOR_IT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'transactionid'
"""


@pytest.mark.parametrize("others", [0, 2], ids=["alone", "among others"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "rolled back"])
def test_a_key_that_another_program_takes_while_we_insert(database: str, others: int, kept: bool) -> None:
    """Its row is not visible when the key is looked up, and is there when ours is to go in."""

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            foreign = await asyncpg.connect(database)
            for description, amount in (("same", "12.50"), ("another", "12.50"), ("same", "12.51")):
                transaction = foreign.transaction()
                await transaction.start()
                await foreign.execute(FOREIGN, user)
                ours = s.record(user, amount, description=description, idempotency_key="k")
                asked = asyncio.gather(ours, *(s.record(user) for _ in range(others)))

                async def waits() -> bool:
                    return await fetchval(database, WAITING_FOR_IT) == 1

                await until(waits)
                await (transaction.commit if kept else transaction.rollback)()
                got, *rest = await asked
                assert all(isinstance(other, Recorded) and not other.replayed for other in rest)
                if not kept:
                    assert isinstance(got, Recorded) and not got.replayed
                elif (description, amount) == ("same", "12.50"):
                    assert isinstance(got, Recorded) and got.replayed
                    assert got.transaction.idempotency_key == "k" and got.seq >= 1
                else:
                    assert got == IdempotencyConflict()
                await foreign.execute("DELETE FROM transactions WHERE idempotency_key = 'k'")
            await foreign.close()

    run(main())


def test_a_bad_row_fails_its_caller_alone(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            bad: list[dict[str, Any]] = [
                {"description": "x" * 1001}, {"description": "nul\0"}, {"currency": "eur"},
                {"currency": "EURO"}, {"currency": "E,R"}, {"amount": "0"}, {"amount": "1.005"}, {"amount": "NaN"},
                {"amount": "sNaN"}, {"amount": "Infinity"}, {"amount": "1e999999"},
                {"amount": "10000000000000000"}, {"description": "\ud800"}, {"idempotency_key": ""},
                {"idempotency_key": "k" * 256},
            ]  # fmt: skip
            calls = []
            for fields in bad:
                calls.append(s.record(user, **fields))
                calls.append(s.record(user, "1.00"))
            got = await asyncio.gather(*calls)
            assert [type(a) for a in got] == [Rejected, Recorded] * len(bad)
            assert all(a.message and "\n" not in a.message for a in got[::2])
            assert sorted(a.seq for a in got[1::2]) == list(range(1, len(bad) + 1))
            await assert_sound(database, len(bad))

    run(main())


@pytest.mark.parametrize("size", [1, 2])
def test_the_head_row_stays_locked_until_the_batch_is_committed(database: str, size: int) -> None:
    """A second batch from the same head waits for the first, and is then told that its head is stale."""

    async def main() -> None:
        async with storage(database, listen=False):
            user = await add_user(database)
            at = datetime.now(UTC)

            def batch() -> list[TransactionRow]:
                return [TransactionRow(uuid4(), user, Decimal("1.00"), "EUR", "", at) for _ in range(size)]

            rows, others = batch(), batch()
            prepared = prepare(await ledger_server.head(), rows)
            first, second = await asyncpg.connect(database), await asyncpg.connect(database)
            transaction = first.transaction()
            await transaction.start()
            assert await record_call.record(first, rows, prepared, 60) is None
            prepared = prepare(await ledger_server.head(), others)
            waits = asyncio.create_task(record_call.record(second, others, prepared, 60))
            await asyncio.sleep(0.1)
            assert not waits.done()
            await transaction.commit()
            outcome = await waits
            assert outcome is not None and (outcome["outcome"], outcome["seq"]) == ("stale", size)
            await first.close()
            await second.close()
            await assert_sound(database, size)

    run(main())


def test_two_servers_write_one_ledger_and_each_tells_its_own_channels_everything(database: str) -> None:
    """The second server is a process of its own."""

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}")
            other = await asyncio.create_subprocess_exec(
                *_second_server(database, str(user), 60), stdout=asyncio.subprocess.PIPE
            )
            assert other.stdout is not None
            assert await other.stdout.readline() == b"ready\n"
            mine: list[Any] = []
            for _ in range(20):
                mine += await asyncio.gather(
                    *(
                        s.record(user, "1.00", idempotency_key=f"shared-{i}", request_hash=b"same")
                        for i in range(3)
                    ),
                    *(s.record(user, "2.00") for _ in range(3)),
                )
            assert all(isinstance(a, Recorded) for a in mine), mine
            said = (await asyncio.wait_for(other.stdout.read(), PATIENCE)).split()
            assert await other.wait() == 0
            total = await fetchval(database, "SELECT count(*) FROM transactions")
            assert total == 3 + 60 + 60
            assert said == [b"60", b"123"], said  # recorded of its own; told to its channels
            await until(lambda: len(payloads(seen, "new_transaction")) >= 123)
            assert [p["ledger_seq"] for p in payloads(seen, "new_transaction")] == list(range(1, 124))
            await assert_sound(database, 123)

    run(main())


def _second_server(url: str, user: str, count: int) -> list[str]:
    import sys

    return [sys.executable, "-m", "tests.support.second_server", url, user, str(count)]


def test_a_killed_writer_loses_no_acknowledged_transaction_and_doubles_no_event(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}")
            acknowledged: list[int] = []
            failed = 0
            running = True

            async def client(number: int) -> None:
                nonlocal failed
                n = 0
                while running:
                    n += 1
                    key = f"{number}-{n}"
                    while True:  # until it is acknowledged, however long what was killed takes to come back
                        try:
                            got = await s.record(user, "1.00", idempotency_key=key, request_hash=b"r")
                        except Exit:
                            failed += 1
                            await asyncio.sleep(0.002)
                            continue
                        if isinstance(got, Recorded):
                            acknowledged.append(got.seq)
                            break
                        assert isinstance(got, Unavailable), got
                        await asyncio.sleep(0.002)

            clients = [asyncio.create_task(client(i)) for i in range(8)]
            for name in (
                "db_writer",
                "ledger_server",
                "db_listener",
                "repo",
                "db_writer",
                "ledger_server",
                "db_writer",
            ):
                await asyncio.sleep(0.05)
                await kill(name)
            await asyncio.sleep(0.1)
            running = False
            await asyncio.gather(*clients)
            total = await fetchval(database, "SELECT count(*) FROM transactions")
            assert failed > 0
            # A retry finds what an unanswered try wrote.
            assert sorted(acknowledged) == list(range(1, total + 1))
            await until(lambda: len(payloads(seen, "new_transaction")) >= total)
            assert [p["ledger_seq"] for p in payloads(seen, "new_transaction")] == list(range(1, total + 1))
            await assert_sound(database)
            await until(lambda: repo.status().acquired <= 2)  # killed writers leak no connections

    run(main())


def test_a_terminated_connection_fails_at_most_one_batch(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            assert isinstance(await s.record(user), Recorded)
            await execute(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            first = await s.record(user)
            assert isinstance(first, Recorded | Unavailable | OutcomeUnknown)
            recorded = await until_recorded(s, user)
            assert recorded.seq >= 2
            await assert_sound(database)

    run(main())


async def until_recorded(s: Any, user: Any, **fields: Any) -> Recorded:
    """Try until it is recorded; also while the writer is being started again, or takes longer than a call waits."""

    async def attempt() -> Any:
        try:
            got = await s.record(user, **fields)
        except Exit:
            return None
        return got if isinstance(got, Recorded) else None

    return await until(attempt)


def test_a_database_that_is_away_is_said_at_once(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False) as s:
            user = await add_user(database)
            await s.record(user)
            admin = database.replace("bitnexus:", "bitnexus:", 1)
            name = await fetchval(database, "SELECT current_database()")
            elsewhere = admin.replace(f"/{name}?", "/bitnexus?")
            await execute(elsewhere, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await execute(
                elsewhere, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            await until(lambda: repo.status().state == "down")
            took: list[float] = []
            for _ in range(3):
                began = asyncio.get_running_loop().time()
                got = await s.record(user)
                assert isinstance(got, Unavailable) and str(got)
                took.append(asyncio.get_running_loop().time() - began)
            assert min(took) < 0.5, took  # a busy machine may hold up one of them
            with pytest.raises(Unavailable):
                repo.pool()
            await execute(elsewhere, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await until(lambda: repo.status().state == "up")
            assert (await until_recorded(s, user)).seq == 2
            assert repo.status().outages == 1
            await assert_sound(database, 2)

    run(main())


def test_a_full_mailbox_fails_the_caller_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DbWriter, "max_mailbox", 20)

    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            got = await asyncio.gather(*(s.record(user) for _ in range(100)), return_exceptions=True)
            refused = [a for a in got if isinstance(a, Exit)]
            assert refused and all(a.reason[0] == "overload" for a in refused)
            recorded = [a for a in got if isinstance(a, Recorded)]
            assert len(recorded) + len(refused) == 100
            await assert_sound(database, len(recorded))

    run(main())


def test_a_stale_head_is_read_again(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False) as s:
            user = await add_user(database)
            await s.record(user)
            server_state().ledger_head = LedgerHead(0, bytes(32), sha256(b"").digest(), ())
            assert (await s.record(user)).seq == 2
            server_state().ledger_head = LedgerHead(2, b"x" * 32, b"y" * 32, (b"z" * 32,))
            assert (await s.record(user)).seq == 3
            await assert_sound(database, 3)

    run(main())


def test_stopping_writes_what_waits(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False) as s:
            user = await add_user(database)
            calls = [
                gen_server.send_request("db_writer", RecordTransaction(user, Decimal("1.00"), "EUR"))
                for _ in range(5)
            ]
            await gen_server.stop("db_writer", "shutdown")
            assert [(await call).seq for call in calls] == [1, 2, 3, 4, 5]
            await until(lambda: erlang.whereis("db_writer"))
            await assert_sound(database, 5)
            assert (await s.record(user)).seq == 6

    run(main())


def test_one_who_sends_much_does_not_make_others_wait(database: str) -> None:
    """What waits is more than two batches; the one who came last is in the first."""

    async def main() -> None:
        async with storage(database) as s:
            writer = erlang.whereis("db_writer")
            assert writer is not None

            def waiting() -> int:
                return process_info(writer, "message_queue_len")[1]

            greedy, modest = await add_user(database), await add_user(database, "other@example.com")
            await s.record(greedy)
            await sys.suspend("db_writer")
            many = [asyncio.create_task(s.record(greedy, description=str(n))) for n in range(600)]
            await until(lambda: waiting() >= 600)
            few = [asyncio.create_task(s.record(modest, description=str(n))) for n in range(2)]
            await until(lambda: waiting() >= 602)
            await sys.resume("db_writer")
            seqs = [(await each).seq for each in few]
            assert max(seqs) <= 1 + db_writer.MAX_BATCH and seqs == sorted(seqs)
            sent = [(await each).seq for each in many]
            assert sent == sorted(sent)
            await assert_sound(database, 603)

    run(main())


def test_a_crash_report_of_the_writer_shows_its_own_state_alone() -> None:
    with Simulation() as sim:
        actor = sim.start(DbWriter).cell.actor
        assert isinstance(actor, DbWriter)
        slow = [Statement(number, "psql", f"SELECT {'secret' * 80}", 1.0) for number in range(20)]
        actor.server.activity = Activity(slowest=tuple(slow))
        shown = reports.text(actor.format_status())
    assert shown.endswith("'flush_due': 0.0}") and "secret" not in shown
