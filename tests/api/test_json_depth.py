"""JSON in a body is at most 128 levels deep, whatever it is made of and wherever it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.http.decoder import MAX_DEPTH, Decoder
from api.http.errors import ApiError
from tests.support.server import User, error_of


class Note(msgspec.Struct, frozen=True):
    """A body with a field of each kind: one that may hold anything, and one that may not."""

    text: str = ""
    data: Any = None


FLAT = msgspec.defstruct("Flat", [("text", str, "")], frozen=True)
WIDE = b"[" + b",".join([b"[[]]", b'{"b":{}}'] * 200) + b"]"


def nested(levels: int, opening: bytes, closing: bytes) -> bytes:
    """A value of so many levels."""
    return opening * levels + b"1" + closing * levels


@pytest.mark.parametrize("field", ["data", "other"])
@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]"), (b"[0,", b"]")]
)
def test_a_body_has_a_hundred_and_twenty_eight_levels(field: str, opening: bytes, closing: bytes) -> None:
    decoder = Decoder(Note)
    each = 2 if opening == b'[{"a":' else 1

    def body(levels: int) -> bytes:
        return b'{"text":"x","%b":%b}' % (field.encode(), nested(levels // each, opening, closing))

    most = MAX_DEPTH - 1  # the body is an object itself
    assert decoder.json(body(most - most % each)).text == "x"
    for deeper in (most + 2, 300, 900, 1_100, 5_000):
        with pytest.raises(ApiError) as refused:
            decoder.json(body(deeper))
        assert refused.value.status == 400 and refused.value.detail.code == "malformed_json"
        assert "128" in refused.value.detail.message


@pytest.mark.parametrize("kind", [Note, FLAT])
def test_what_is_wide_is_not_deep(kind: type[msgspec.Struct]) -> None:
    value: Any = Decoder(kind).json(b'{"text":"' + b"[{" * 500 + b'","other":' + WIDE + b"}")
    assert value.text == "[{" * 500


def test_brackets_that_are_not_closed_are_no_json() -> None:
    for body in (b"[" * 200, b"[" * 900, b'{"a":' * 300, b"[" * 300 + b"}" * 300):
        with pytest.raises(ApiError) as refused:
            Decoder(Note).json(body)
        assert refused.value.status == 400 and refused.value.detail.code == "malformed_json"


def test_a_deep_body_is_refused_by_the_server(user: User) -> None:
    body = b'{"amount":"1.00","currency":"EUR","note":' + nested(400, b"[", b"]") + b"}"
    answer = user.client.post(
        "/api/v1/transactions", content=body, headers={"content-type": "application/json"}
    )
    assert "128 levels" in error_of(answer, 400, "malformed_json")["message"]
