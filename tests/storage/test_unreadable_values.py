"""E1: answers that are well-framed, but whose values are none of their types. The database is away, and no fault is ours."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

from actors.storage import repo
from actors.storage.failures import OutcomeUnknown, Unavailable
from api.http.errors import from_exception
from tests.support.impostor import message
from tests.support.proxy import tcp_proxy
from tests.support.storage import run, storage

NO_VALUES = {
    "uuid": ("SELECT gen_random_uuid()", b""),
    "numeric": ("SELECT 1.5::numeric", struct.pack("!hhHh2h", 2, 0, 0x7777, -1, -1, -1)),
    "moment": ("SELECT now()", b"\0"),
    "moment out of range": ("SELECT now()", b"\x7f" + bytes([255] * 6) + b"\0"),
    "text": ("SELECT 'x'", b"\xff\xfe"),
    "number": ("SELECT 1", b"\0"),
    "truth": ("SELECT true", b""),
    "address": ("SELECT '10.0.0.1'::inet", b"\2\xff\0\4\1\2\3\4"),
    "array": ("SELECT ARRAY[1, 2]", struct.pack("!5i", 99, 0, 23, -1, 1)),
    "JSON": ("SELECT '{}'::jsonb", b"\1{"),
    "two columns": ("SELECT 1", None),
}


def with_value(answer: bytes, value: bytes | None) -> bytes:
    """The answer with this value in its row; None: one column more."""
    given = b""
    while answer:
        end = 1 + int.from_bytes(answer[1:5], "big")
        given += answer[:end] if answer[:1] != b"D" else message(b"D", _row(value))
        answer = answer[end:]
    return given


def _row(value: bytes | None) -> bytes:
    if value is None:
        return struct.pack("!hii", 2, 0, 0)
    return struct.pack("!hi", 1, len(value)) + value


async def read(sql: str) -> object:
    async with repo.connection() as connection:
        return await connection.fetchval(sql)


def test_a_value_that_is_none_of_its_type_is_the_databases_fault(database: str) -> None:
    async def main() -> None:
        async with tcp_proxy(database) as (link, url), storage(url):
            for what, (sql, value) in NO_VALUES.items():
                sound = await read(sql)  # and is prepared
                link.garbled = lambda answer, value=value: with_value(answer, value)  # type: ignore[misc]
                with pytest.raises((Unavailable, OutcomeUnknown)) as told:
                    await read(sql)
                link.garbled = None
                assert code_of(told.value, writes=False) == "unavailable", what
                assert code_of(told.value, writes=True) == "outcome_unknown", what
                await asyncio.wait_for(until_read(sql), 60)
                assert type(await read(sql)) is type(sound)

    run(main())


def code_of(error: Exception, writes: bool) -> str:
    """What a client is told."""
    return json.loads(from_exception(error, writes).body())["error"]["code"]


async def until_read(sql: str) -> None:
    """Returns once the database is up again."""
    while True:
        try:
            await read(sql)
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(0.01)
        else:
            return
