"""A body with a key twice is refused, and none other for it, whichever way that is found out (api/http/decoder.py)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from api.http.decoder import Decoder
from api.http.errors import ApiError
from api.http.fields import Amount, Text


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
