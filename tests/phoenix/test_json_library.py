"""JSON as Phoenix's Jason reads and writes it."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from runtime.phoenix import json_library
from runtime.phoenix.json_library import DecodeError, EncodeError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,"a":2}', {"a": 1}),
        ('{"a":{"b":1,"b":2,"c:d":3}}', {"a": {"b": 1, "c:d": 3}}),
        ('{"a": "x:y", "b": ":"}', {"a": "x:y", "b": ":"}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("-9223372036854775809", -9223372036854775809),
        ("9" * 400, int("9" * 400)),
        ('{"a":1,"a":"\\u003a"}', {"a": 1}),
        ('{"a":1,"a":"\\u003A"}', {"a": 1}),
        ('{"\\u0061":1,"a":2}', {"a": 1}),
        ('"\\\\u003a"', "\\u003a"),
        ('["0000000000000000000", 1e15, 9007199254740993]', ["0" * 19, 1e15, 9007199254740993]),
        ("1.0e2", 100.0),
        ("1e22", 1e22),
        (' [1 , "\\u00e9"] ', [1, "é"]),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_json_is_read_as_jason_reads_it(text: str, value: Any) -> None:
    got = json_library.decode(text.encode())
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "Infinity",
        "[1,]",
        "01",
        '"\\ud800"',
        '"\\udc00"',
        "1e400",
        "-1e400",
        '{"a":1,"a":1e400}',
        '"\x01"',
        "[] x",
        "\ufeff[]",
        "[][]",
    ],
)
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(DecodeError):
        json_library.decode(text.encode())


@pytest.mark.parametrize("depth", [1, 200, 400, 900])
def test_deep_json_goes_both_ways(depth: int) -> None:
    text = '{"k":[' * depth + '"v",1,-2.5,true,null,{}' + "]}" * depth
    value = json_library.decode(text.encode())
    assert json_library.encode(value).decode() == text


def test_deep_arrays_with_spaces_and_empty_ones() -> None:
    text = "[[], [ ]," + "[ \n" * 1_200 + "[\t]" + "\r ]" * 1_200 + "]"
    dense = text.translate({ord(space): None for space in " \t\r\n"})
    value = json_library.decode(text.encode())
    assert value[:2] == [[], []]
    assert json_library.encode(value).decode() == dense
    for cut in (text[:-1], text + "]", text[: len(text) // 2], text.replace("\t", "\t,")):
        with pytest.raises(DecodeError):
            json_library.decode(cut.encode())


@pytest.mark.parametrize("opening", ["[", '{"k":', '{"k":1,"k":', "[[],"])
def test_json_that_is_nested_too_deep_costs_nothing(opening: str) -> None:
    text = ('[null,"1","phoenix","heartbeat",' + opening * 60_000).encode()
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(DecodeError):
            json_library.decode(text)
    deep = time.process_time() - began
    flat = json.dumps(["x" * 20] * (len(text) // 24)).encode()
    began = time.process_time()
    for _ in range(20):
        json_library.decode(flat)
    assert deep < 20 * (time.process_time() - began) + 0.5


@pytest.mark.parametrize("part", ["[]", "{}", '{"a":0}', "1e1", '":"', '"\\u003a"', "9" * 30])
def test_a_large_message_is_read_quickly_or_not_at_all(part: str) -> None:
    """No slower than a few times what reading its parts takes anyhow; where a key came twice, it is refused."""
    large = ("[" + ",".join([part] * (1_000_000 // (len(part) + 1))) + "]").encode()
    assert json_library.decode(large) == json.loads(large)
    with pytest.raises(DecodeError):
        json_library.decode(large[:-1] + b',{"a":1,"a":2}]')


def test_json_is_written_as_jason_writes_it() -> None:
    assert (
        json_library.encode({"n": 10**30, "d": Decimal("1.10")})
        == b'{"n":1000000000000000000000000000000,"d":"1.10"}'
    )
    for value in (b"bytes", {"a": b"bytes"}, {"n": 10**30, "b": b""}, {"n": 10**30, "s": "\udc80"}, object()):
        with pytest.raises(EncodeError):
            json_library.encode(value)
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(EncodeError):
        json_library.encode(circular)
