"""A primary that dies and a standby that takes its place: `DATABASE_URL` names both."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from actors.connection_string import check, each_host
from actors.ledger.writer import OutcomeUnknown, Recorded, Unavailable
from actors.server_state import server_state
from actors.storage import repo
from actors.storage.listener import DbListener
from runtime.core.exits import Exit
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.storage.test_listener import TERMINATE_LISTENER
from tests.support.database import add_user, execute, fetchval
from tests.support.proxy import proxy
from tests.support.replication import both, primary_and_standby
from tests.support.storage import payloads, run, storage, until


def test_nothing_acknowledged_is_lost_with_synchronous_replication() -> None:
    """Writers go on all the time: the primary is killed among them, and the standby is promoted while they wait."""

    async def main() -> None:
        async with (
            primary_and_standby(synchronous=True) as (one, two),
            storage(both(one.url(), two.url())) as s,
        ):
            user = await add_user(one.url())
            seen = await s.subscribe(f"transaction:{user}")
            got: list[Any] = []
            running = True

            async def write(writer: int) -> None:
                number = 0
                while running:
                    number += 1
                    with suppress(Exit):  # longer than a call waits
                        got.append(await s.record(user, description=f"{writer}/{number}"))
                    await asyncio.sleep(0.005)

            writing = [asyncio.create_task(write(writer)) for writer in range(4)]
            await until(lambda: sum(isinstance(answer, Recorded) for answer in got) > 50)
            await one.kill()
            await until(lambda: repo.status().state == "down")
            await two.promote()
            before = len(got)
            await until(lambda: sum(isinstance(answer, Recorded) for answer in got[before:]) > 50)
            running = False
            await asyncio.gather(*writing)
            acknowledged = {
                answer.transaction.id: answer.seq for answer in got if isinstance(answer, Recorded)
            }
            head: Any = await fetchval(two.url(), "SELECT seq FROM ledger_head")
            await until(lambda: len(payloads(seen, "new_transaction")) >= head)
            told = [payload["ledger_seq"] for payload in payloads(seen, "new_transaction")]
            assert told == list(range(1, head + 1))
            await assert_sound(two.url())
            for transaction, seq in acknowledged.items():
                there = "SELECT seq FROM ledger_entries WHERE transaction_id = $1"
                assert await fetchval(two.url(), there, transaction) == seq

    run(main())


def test_what_did_not_wait_for_the_standby_to_the_end_is_not_acknowledged() -> None:
    """An operator ends the wait of a COMMIT, which PostgreSQL then calls done: a failover would lose it."""

    async def main() -> None:
        async with primary_and_standby(synchronous=True) as (one, two), storage(one.url()) as s:
            user = await add_user(one.url())
            assert isinstance(await s.record(user), Recorded)
            await two.kill()
            recording = asyncio.ensure_future(s.record(user))

            async def is_cancelled() -> bool:
                cancel = (
                    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep' AND query LIKE '%INTO transactions%'"
                )
                return await fetchval(one.url(), cancel) == 1

            await until(is_cancelled)
            assert isinstance(await recording, OutcomeUnknown)
            await two.start()
            # With a key: it may be cancelled once more, until the standby has connected.
            assert isinstance(await until_recorded(s, user, idempotency_key="k"), Recorded)
            await assert_sound(one.url(), 3)

    run(main())


def test_a_commit_that_a_dead_server_has_left_behind_is_said_soon_and_waited_for() -> None:
    """It holds the ledger's head until the standby is back: the others hear that nothing was written, and are not ready."""

    async def main() -> None:
        async with primary_and_standby(synchronous=True) as (one, two), storage(one.url()) as s:
            user = await add_user(one.url())
            assert isinstance(await s.record(user), Recorded)
            await two.kill()
            dead = await asyncpg.connect(one.url())
            committing = asyncio.ensure_future(dead.execute("UPDATE ledger_head SET updated_at = now()"))
            held = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE%'"
            )

            async def is_held() -> bool:
                return await fetchval(one.url(), held) == 1

            await until(is_held)
            dead.terminate()
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await committing
            answers: list[Any] = []

            async def is_unavailable() -> bool:
                with suppress(Exit):  # on a machine that is busy: longer than a call waits
                    answers.append(await s.record(user))
                return bool(answers) and isinstance(answers[-1], Unavailable)

            await until(is_unavailable)
            assert not any(isinstance(answer, Recorded) for answer in answers)
            assert server_state().write_error is not None, "readiness is the ability to write"
            assert await is_held()
            await two.start()
            assert isinstance(await until_recorded(s, user), Recorded)
            await until(lambda: server_state().write_error is None)
            await assert_sound(one.url(), 2)

    run(main())


def test_a_row_that_only_the_primary_has_is_told_and_not_acknowledged() -> None:
    """An operator ends the wait of the COMMIT, so the row is visible: who asks for it again must not hear that it is durable.

    Its channel hears of it, from a listener that has connected while no standby is there, too.
    """

    async def main() -> None:
        async with primary_and_standby(synchronous=True) as (one, two), storage(one.url()) as s:
            user = await add_user(one.url())
            seen = await s.subscribe(f"transaction:{user}")
            await two.kill()
            await execute(one.url(), TERMINATE_LISTENER)
            got: list[Any] = []

            async def is_visible() -> bool:
                with suppress(Exit):  # the writer may be trying something else, which takes its time as well
                    got.append(await s.record(user, idempotency_key="k"))
                await one.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep' AND query NOT LIKE '%listen_to_ledger%'"
                )
                return await fetchval(one.url(), "SELECT count(*) FROM transactions") == 1

            await until(is_visible)
            await until(lambda: payloads(seen, "new_transaction"))
            assert not any(isinstance(answer, Recorded) for answer in got)

            async def again() -> Any:
                with suppress(Exit):
                    answer = await s.record(user, idempotency_key="k")
                    return answer if isinstance(answer, Recorded) else None

            for _ in range(2):
                assert await again() is None
            await two.start()
            assert (await until(again)).replayed
            await assert_sound(one.url(), 1)

    run(main())


def test_what_an_asynchronous_standby_did_not_have_is_lost_and_the_rest_goes_on() -> None:
    """The numbers of lost entries are given again, and those entries are told."""

    async def main() -> None:
        async with (
            primary_and_standby(synchronous=False) as (one, two),
            storage(both(one.url(), two.url())) as s,
        ):
            user = await add_user(one.url())
            seen = await s.subscribe(f"transaction:{user}")
            assert isinstance(await s.record(user), Recorded)

            async def replicated() -> bool:
                return await fetchval(two.url(), "SELECT seq FROM ledger_head") == 1

            await until(replicated)
            await two.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await two.execute("SELECT pg_reload_conf()")

            async def cut_off() -> bool:
                return await fetchval(two.url(), "SELECT count(*) FROM pg_stat_wal_receiver") == 0

            await until(cut_off)
            for _ in range(3):
                assert isinstance(await s.record(user), Recorded)
            await one.kill()
            await until(lambda: repo.status().state == "down")
            await two.promote()
            assert (await until_recorded(s, user)).seq == 2
            await until(lambda: len(payloads(seen, "new_transaction")) == 5)
            told = [payload["ledger_seq"] for payload in payloads(seen, "new_transaction")]
            assert told == [1, 2, 3, 4, 2]
            await assert_sound(two.url(), 2)

    run(main())


def test_a_standby_that_is_the_only_host_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """The server starts and says what is missing, once; when the standby is promoted it works, and nobody starts it again."""

    async def main() -> None:
        async with primary_and_standby(synchronous=False) as (one, two):
            user = await add_user(one.url())

            async def replicated() -> bool:
                return await fetchval(two.url(), "SELECT count(*) FROM users") == 1

            await until(replicated)
            await one.kill()
            async with storage(two.url(), listen=False) as s:
                await DbListener.start(name="db_listener")
                for _ in range(3):
                    assert isinstance(await s.record(user), Unavailable)
                assert "read-only" in str(server_state().write_error)
                assert repo.status().state == "up"  # who only reads is served
                await until(lambda: "can't listen" in caplog.text)
                await two.promote()
                assert (await until_recorded(s, user)).seq == 1
                await until(lambda: "listening to the database again" in caplog.text)
                for line in ("can't listen", "can't be written", "writing again"):
                    assert caplog.text.count(line) == 1
            await assert_sound(two.url(), 1)

    run(main())


@pytest.mark.parametrize("mode", ["close", "silent"])
def test_a_host_that_does_not_answer_does_not_hide_the_one_that_does(database: str, mode: str) -> None:
    async def main() -> None:
        async with proxy(database) as first, proxy(database) as second:
            first.mode = mode
            async with storage(both(first.url, second.url)) as s:
                user = await add_user(database)
                assert isinstance(await s.record(user), Recorded)
                second.mode, first.mode = mode, "pass"
                assert (await until_recorded(s, user)).seq >= 2
                await assert_sound(database)

    run(main())


HOSTS = {
    "postgresql://u:p@one:1,two:2/db?target_session_attrs=primary": [
        "postgresql://u:p@one:1/db?target_session_attrs=primary",
        "postgresql://u:p@two:2/db?target_session_attrs=primary",
    ],
    "postgresql://u:p@[::1]:5432,two/db": ["postgresql://u:p@[::1]:5432/db", "postgresql://u:p@two/db"],
    "postgresql://u@/db?host=/a,/b&port=5432": [
        "postgresql://u@/db?host=%2Fa&port=5432",
        "postgresql://u@/db?host=%2Fb&port=5432",
    ],
    "postgresql:///db?host=/a,/b&port=1,2": [
        "postgresql:///db?host=%2Fa&port=1",
        "postgresql:///db?host=%2Fb&port=2",
    ],
    "postgresql://u@one/db": ["postgresql://u@one/db"],
    # libpq's own limits are none of the server's settings, as which asyncpg would send them.
    "postgresql://u@one/db?connect_timeout=10&sslmode=require&keepalives_idle=5": [
        "postgresql://u@one/db?sslmode=require"
    ],
    "postgresql://u@one:1,two:2/db?connect_timeout=10": [
        "postgresql://u@one:1/db",
        "postgresql://u@two:2/db",
    ],
    "postgresql:///db?connect_timeout=10&host=/a,/b": [
        "postgresql:///db?host=%2Fa&port=",
        "postgresql:///db?host=%2Fb&port=",
    ],
}


@pytest.mark.parametrize("url", HOSTS)
def test_a_url_once_for_each_host(url: str) -> None:
    assert each_host(check(url)) == HOSTS[url]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://u@one:1,two:x/db", "not a URL"),
        ("postgresql://u@one,,two/db", "one of several hosts is empty"),
        ("postgresql://u@/db?host=/a,/b,/c&port=1,2", "as many as hosts"),
        ("postgresql://u@one,two/db?target_session_attrs=any", "expected read-write or primary"),
        ("postgresql://u@one/db?target_session_attrs=standby", "expected read-write or primary"),
        ("mysql://u@one,two/db", "expected a URL that starts with"),
        ("postgresql://u@one/db?channel_binding=require", "channel_binding=require: not supported"),
    ],
)
def test_a_url_that_cant_be_written_to_is_refused_with_one_line(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check(url)
