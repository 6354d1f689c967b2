"""A key twice is refused, and none other for it, however that is found out; what is wrong with fields (api/http/decoder.py)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from api.http.decoder import Decoder
from api.http.errors import ApiError
from api.http.fields import Amount, Text, Timestamp


class Flat(msgspec.Struct, frozen=True):
    amount: Amount
    description: Text = ""
    note: str | None = None


class Deep(msgspec.Struct, frozen=True):
    description: Text = ""
    value: Any = None


FLAT, DEEP, LENIENT = Decoder(Flat), Decoder(Deep), Decoder(Flat, lenient=True)

TWICE = [
    (FLAT, b'{"amount": "1", "amount": "2"}'),
    (FLAT, b'{"amount": "1", "amoun\\u0074": "2"}'),
    (FLAT, b'{"amount": "1", "other": 1, "other": 2}'),
    (FLAT, b'{"amount": "1", "note": "\\u003a", "note": null}'),
    (FLAT, b'{"amount": "1", "note": {"a": 1, "a": 2}}'),
    (LENIENT, b'{"amount": "1", "other": {"a": 1, "a": 2}}'),
    (DEEP, b'{"value": {"a": 1, "a": 2}}'),
    (DEEP, b'{"value": [{"a": ":", "a": ""}]}'),
]
ONCE = [
    (FLAT, {"amount": "1", "description": '"amount"', "note": ":"}),
    (FLAT, {"amount": "1", "description": "amount", "note": "description"}),
    (FLAT, {"amount": "1", "description": '\\"note": "note":'}),
    (FLAT, {"amount": "1", "note": "ä\\"}),
    (LENIENT, {"amount": "1", "other": {"amount": 3}}),
    (DEEP, {"description": "value", "value": {"description": {"description": 1}}}),
]


@pytest.mark.parametrize(("decoder", "body"), TWICE)
def test_a_key_twice_is_refused(decoder: Decoder, body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        decoder.json(body)
    assert refused.value.status == 400 and b"twice" in refused.value.body()


@pytest.mark.parametrize(("decoder", "value"), ONCE)
def test_what_looks_like_a_key_and_is_none_passes(decoder: Decoder, value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, separators=(",", ":"))):
        read = decoder.json(text.encode())
        assert {
            name: str(getattr(read, name)) for name in value if name in ("amount", "note", "description")
        } == {name: str(part) for name, part in value.items() if name in ("amount", "note", "description")}


class Fields(msgspec.Struct, frozen=True):
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=3)] = "x"
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = 1
    kind: Literal["plain", "wide", "long"] | None = None
    at: Timestamp | None = None
    owner: UUID | None = None
    done: bool = False


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("title", 1, "expected text, got a whole number"), ("title", "", "expected text of length >= 1"),
        ("title", None, "expected text, got null"), ("title", ["x"], "expected text, got a list"),
        ("count", 0, "expected a whole number >= 1"), ("count", "1", "expected a whole number or null, got text"),
        ("count", 1.5, "expected a whole number or null, got a number"), ("count", {}, "got an object"),
        ("kind", "Wide", "expected plain, wide or long"), ("kind", 1, "got a whole number"),
        ("at", "2026-01-31", "expected a timestamp with its offset from UTC"),
        ("at", "2026-01-31T12:00:00", "expected a timestamp with its offset from UTC"), ("at", "x", "like 2026-01-31T12:00:00Z"),
        ("owner", "x", "invalid UUID"), ("done", "true", "expected true or false, got text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words_of_json(field: str, value: Any, said: str) -> None:
    with pytest.raises(ApiError) as refused:
        Decoder(Fields).json(json.dumps({field: value}).encode())
    fields = refused.value.detail.fields
    assert fields is not None and list(fields) == [field]
    assert said in fields[field] and "`" not in fields[field]
