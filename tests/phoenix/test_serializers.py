"""`Phoenix.Socket.V1.JSONSerializer` and V2, and which a client gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from runtime.phoenix.json_library import EncodeError
from runtime.phoenix.messages import BINARY, TEXT, Broadcast
from runtime.phoenix.serializer import V1_SERIALIZER, V2, V2_SERIALIZER, InvalidMessage, negotiate
from runtime.phoenix.socket import same_ref
from runtime.phoenix.string_chars import to_string


def test_v2_text() -> None:
    message = V2_SERIALIZER.decode(b'["1","2","room:a","echo",{"x":1},"more"]', TEXT)
    assert (message.join_ref, message.ref, message.topic, message.event, message.payload) == (
        "1", "2", "room:a", "echo", {"x": 1},
    )  # fmt: skip
    frame = V2_SERIALIZER.encode_reply("1", 2, "t", "ok", [1])
    assert json.loads(frame.payload) == ["1", 2, "t", "phx_reply", {"status": "ok", "response": [1]}]
    for payload in ("not a map", None, 1, []):
        with pytest.raises(InvalidMessage):
            V2_SERIALIZER.encode_message("1", None, "t", "e", payload)
        with pytest.raises(InvalidMessage):
            V2_SERIALIZER.fastlane(Broadcast("t", "e", payload))
    for text in (b"[]", b'["1","2","t","e"]', b"{}", b'"x"'):
        with pytest.raises(InvalidMessage):
            V2_SERIALIZER.decode(text, TEXT)


def test_v2_binary() -> None:
    data = b"\x00\x01\x01\x04\x0412roomechopayload"
    message = V2_SERIALIZER.decode(data, BINARY)
    assert (message.join_ref, message.ref, message.topic, message.event) == ("1", "2", "room", "echo")
    assert message.payload == b"payload"
    assert V2_SERIALIZER.encode_reply(1, None, "t", "ok", b"\xff").payload == b"\x01\x01\x00\x01\x021tok\xff"
    assert V2_SERIALIZER.encode_message("1", None, "t", "e", b"x").payload == b"\x00\x01\x01\x011tex"
    assert V2_SERIALIZER.fastlane(Broadcast("t", "e", b"")).payload == b"\x02\x01\x01te"
    assert (
        V2_SERIALIZER.encode_reply([104, ["i"]], True, "t", "ok", b"").payload
        == b"\x01\x02\x04\x01\x02hitruetok"
    )
    for bad in (b"", b"\x00", b"\x01\x00\x00\x00\x00", b"\x02\x00\x00\x00\x00", b"\x00\x09\x00\x00\x00abc"):
        with pytest.raises(InvalidMessage):
            V2_SERIALIZER.decode(bad, BINARY)
    with pytest.raises(InvalidMessage):
        V2_SERIALIZER.encode_reply("1", "2", "t" * 256, "ok", b"")
    with pytest.raises(InvalidMessage):
        V2_SERIALIZER.encode_reply({}, "2", "t", "ok", b"")


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        (0.0, "0.0"), (-0.0, "-0.0"), (1.0, "1.0"), (1.5, "1.5"), (100.0, "100.0"), (1000.0, "1.0e3"), (123456.0, "123456.0"),
        (1.2e6, "1.2e6"), (1e20, "1.0e20"), (1234567890123456789.0, "1.2345678901234568e18"),
        (9007199254740991.0, "9007199254740991.0"), (9007199254740992.0, "9.007199254740992e15"), (0.001, "0.001"),
        (0.0001, "0.0001"), (0.00001, "1.0e-5"), (0.00012345, "1.2345e-4"), (0.012345, "0.012345"), (-1e-10, "-1.0e-10"),
        (5e-324, "5.0e-324"), (1.7976931348623157e308, "1.7976931348623157e308"),
    ],
)  # fmt: skip
def test_a_number_in_a_binary_reply_is_written_as_erlang_writes_it(ref: float, text: str) -> None:
    payload = V2_SERIALIZER.encode_reply(None, ref, "t", "ok", b"").payload
    assert payload == bytes((1, 0, len(text), 1, 2)) + text.encode() + b"tok"


@pytest.mark.parametrize("ref", [[-1], [0x110000], [1 << 80], [0xD800], [1.5], [None], [True], {}, [{}]])
def test_what_has_no_string_form_is_no_ref_of_a_binary_reply(ref: Any) -> None:
    with pytest.raises(ValueError):
        V2_SERIALIZER.encode_reply(None, ref, "t", "ok", b"")


def test_a_list_of_any_depth_has_a_string_form() -> None:
    nested: Any = ["a", 98]
    for _ in range(5000):
        nested = [nested, "c"]
    assert to_string(nested) == "ab" + "c" * 5000


def test_binary_refs_that_are_no_utf8_survive_and_never_become_json() -> None:
    message = V2_SERIALIZER.decode(b"\x00\x01\x01\x01\x01\xff\xfete", BINARY)
    reply = V2_SERIALIZER.encode_reply(message.join_ref, message.ref, message.topic, "ok", b"")
    assert reply.payload == b"\x01\x01\x01\x01\x02\xff\xfetok"
    with pytest.raises(EncodeError):
        V2_SERIALIZER.encode_reply(message.join_ref, message.ref, message.topic, "ok", {})


def test_v1() -> None:
    message = V1_SERIALIZER.decode(b'{"topic":"t","event":"e","payload":1,"ref":null,"join_ref":"9"}', BINARY)
    assert (message.topic, message.event, message.payload, message.ref, message.join_ref) == (
        "t",
        "e",
        1,
        None,
        "9",
    )
    assert json.loads(V1_SERIALIZER.encode_message("1", None, "t", "e", "any").payload) == {
        "topic": "t", "event": "e", "payload": "any", "ref": None,
    }  # fmt: skip
    for text in (
        b"[]",
        b"1",
        b'{"topic":"t","event":"e","payload":{}}',
        b'{"event":"e","payload":{},"ref":"1"}',
    ):
        with pytest.raises(InvalidMessage):
            V1_SERIALIZER.decode(text, TEXT)
    with pytest.raises(EncodeError):
        V1_SERIALIZER.fastlane(Broadcast("t", "e", b"binary"))


@pytest.mark.parametrize(
    ("vsn", "serializer"),
    [
        ("1.0.0", V1_SERIALIZER), ("1.0.5", V1_SERIALIZER), ("2.0.0", V2_SERIALIZER),
        ("2.0.3", V2_SERIALIZER),
        ("2.0.0+build.5", V2_SERIALIZER), ("2.0.1-rc.1", V2_SERIALIZER), ("2.0.0-rc.1", None),
        ("2.1.0", None),
        ("1.1.0", None), ("3.0.0", None), ("2", None), ("2.0", None), ("", None), ("abc", None),
        ("02.0.0", None),
        ("2." + "9" * 5000 + ".0", None),
        ("2.0.0 ", None), ("2.0.0-", None), ("2.0.1-01", None), ("2.0.0.0", None),
    ],
)  # fmt: skip
def test_versions(vsn: str, serializer: Any) -> None:
    assert negotiate(vsn) is serializer


def test_an_applications_serializers_need_no_hash() -> None:
    @dataclass
    class Own(V2):
        """Which has `__eq__` and so no `__hash__`."""

    own = Own()
    assert negotiate("2.0.0", [V1_SERIALIZER, own]) is own


def test_refs_are_compared_strictly() -> None:
    assert same_ref("1", "1") and same_ref(None, None) and same_ref({"a": [1]}, {"a": [1]})
    for left, right in (("1", 1), (1, 1.0), (1, True), ({"a": 1}, {"a": 1.0}), ([1], [1, 2]), ({}, [])):
        assert not same_ref(left, right)
