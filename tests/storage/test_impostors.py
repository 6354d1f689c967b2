"""E1: whatever answers in place of the database, and however it answers: it is away, and the server waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actors.ledger.writer import OutcomeUnknown, Unavailable
from actors.storage import connecting, repo
from runtime.core.asyncio_engine import AsyncioEngine
from tests.ledger.test_writer import assert_sound, until_recorded
from tests.storage.test_away import processes
from tests.support.database import add_user
from tests.support.impostor import IMPOSTORS, error, message
from tests.support.proxy import Proxy, tcp_proxy
from tests.support.storage import Storage, run, storage, until

# Answers to statements of sessions that are open.
NONSENSE = {
    "zeros": bytes(64),
    "an HTTP server": b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    "a row of no columns": message(b"D", b"\0\0"),
    "a row that ends within": message(b"D", b"\0\x01\0\0\0\x7f"),
    "text that is no UTF-8": message(b"E", b"SERROR\0VERROR\0C22000\0M\xff\xfe\0\0") + message(b"Z", b"I"),
    "ready, and nothing before it": message(b"Z", b"I"),
    "half a message": b"T\0\0\0\xff",
    "a violation of the protocol": error("08P01", "terminating"),
    "an operator's command": error("57P01", "terminating connection due to administrator command"),
    "a crash of another": error("57P02", "terminating because of crash of another server process"),
    "an idle session": error("57P05", "terminating connection due to idle-session timeout"),
}

# One of each way to fail: the others differ in what a connect says.
WAITED_FOR = (
    "accepts and closes", "resets", "zeros", "an SSH server", "a message shorter than its length", "TLS begun and ended",
    "GSSAPI asked for", "closes once let in", "silent once let in", "the password is wrong", "no such database", "shutting down",
)  # fmt: skip


def test_a_connect_says_unavailable_in_one_line(database: str) -> None:
    async def connect(which: str, parameters: str) -> None:
        async with tcp_proxy(database) as (link, url):
            link.impostor = IMPOSTORS[which]
            with pytest.raises(Unavailable) as told:
                await connecting.connect(url + parameters, "test", command_timeout=1)
        assert str(told.value) and "\n" not in str(told.value), which

    async def main() -> None:
        engine = AsyncioEngine().start()
        ways = ("", "?sslmode=require")
        await asyncio.gather(*(connect(which, way) for which in IMPOSTORS for way in ways))
        await engine.stop()

    run(main())


@asynccontextmanager
async def working(database: str) -> AsyncIterator[tuple[Proxy, Storage, object]]:
    """A storage that has recorded a row of a user over a link that may turn into an impostor."""
    async with tcp_proxy(database) as (link, url), storage(url) as s:
        user = await add_user(database)
        await until_recorded(s, user, idempotency_key="first", request_hash=b"r")
        yield link, s, user


@pytest.mark.parametrize("which", WAITED_FOR)
def test_the_server_waits_for_the_database_behind_it(
    database: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with working(database) as (link, s, user):
            before = processes()
            caplog.clear()
            link.impostor = IMPOSTORS[which]
            link.cut()
            assert isinstance(await s.record(user), (Unavailable, OutcomeUnknown))
            await until(lambda: repo.status().state == "down")
            for _ in range(5):
                assert isinstance(await s.record(user), Unavailable)
            assert len([r for r in caplog.records if "database down" in r.getMessage()]) == 1
            assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) <= 1
            link.impostor = None
            await until_recorded(s, user)
            assert processes() == before
            await assert_sound(database)

    run(main())


@pytest.mark.parametrize("which", NONSENSE)
def test_an_answer_that_is_none_says_nothing_about_the_write(
    database: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E7: the row may be there, and it is told once the answers are PostgreSQL's again."""

    async def main() -> None:
        async with working(database) as (link, s, user):
            before = processes()
            caplog.clear()
            link.garbled = NONSENSE[which]
            got = await s.record(user, idempotency_key="k", request_hash=b"r")
            assert isinstance(got, (OutcomeUnknown, Unavailable)), got
            assert not [r for r in caplog.records if r.exc_info]
            link.garbled = None
            link.cut()
            again = await asyncio.wait_for(
                until_recorded(s, user, idempotency_key="k", request_hash=b"r"), 60
            )
            assert isinstance(got, OutcomeUnknown) or not again.replayed
            assert processes() == before
            await assert_sound(database, 2)

    run(main())
