"""The two serializers of Phoenix: V1 (objects, text) and V2 (arrays, text and binary).

Pure functions: bytes to `Message`; reply, push or broadcast to `Frame`. Decoding raises where Phoenix crashes; the transport then
closes with code 1011.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from runtime.phoenix import json_library
from runtime.phoenix.messages import BINARY, TEXT, Broadcast, Frame, Message
from runtime.phoenix.string_chars import to_string

_PUSH: Final = 0
_REPLY: Final = 1
_BROADCAST: Final = 2


class InvalidMessage(ValueError):
    """A message that the serializer cannot decode or encode."""


class Serializer:
    """`Phoenix.Socket.Serializer`. `requirement` is (major, minor) of its version requirement `~> x.y.0`."""

    requirement: tuple[str, str]

    def decode(self, data: bytes, opcode: int) -> Message:
        """Decodes a message of a client; raises if it is invalid."""
        raise InvalidMessage(data)

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, payload: Any) -> Frame:
        """`encode!(%Reply{})`."""
        raise InvalidMessage(payload)

    def encode_message(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> Frame:
        """`encode!(%Message{})`."""
        raise InvalidMessage(payload)

    def fastlane(self, broadcast: Broadcast) -> Frame:
        """`fastlane!(%Broadcast{})`: one frame for all subscribers with this serializer."""
        raise InvalidMessage(broadcast)


class V1(Serializer):
    """`Phoenix.Socket.V1.JSONSerializer`: `{"topic", "event", "payload", "ref"}`; no binary."""

    requirement = ("1", "0")

    def decode(self, data: bytes, opcode: int) -> Message:
        value: Any = json_library.decode(data)
        if type(value) is not dict:
            raise InvalidMessage("expected an object")
        try:
            return Message(
                value["topic"], value["event"], value["payload"], value["ref"], value.get("join_ref")
            )
        except KeyError as error:
            raise InvalidMessage(f"key {error} is missing") from None

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, payload: Any) -> Frame:
        reply = {"status": status, "response": payload}
        return self._frame({"topic": topic, "event": "phx_reply", "ref": ref, "payload": reply})

    def encode_message(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> Frame:
        return self._frame({"topic": topic, "event": event, "ref": ref, "payload": payload})

    def fastlane(self, broadcast: Broadcast) -> Frame:
        return self._frame(
            {"topic": broadcast.topic, "event": broadcast.event, "ref": None, "payload": broadcast.payload}
        )

    def _frame(self, value: dict[str, Any]) -> Frame:
        return Frame(TEXT, json_library.encode(value))


class V2(Serializer):
    """`Phoenix.Socket.V2.JSONSerializer`: `[join_ref, ref, topic, event, payload]`, and binary frames."""

    requirement = ("2", "0")

    def decode(self, data: bytes, opcode: int) -> Message:
        if opcode == BINARY:
            return _decode_binary(data)
        value: Any = json_library.decode(data)
        if type(value) is not list or len(value) < 5:
            raise InvalidMessage("expected an array of five")
        return Message(value[2], value[3], value[4], value[1], value[0])

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, payload: Any) -> Frame:
        if type(payload) is bytes:
            return _binary(_REPLY, (join_ref, ref, topic, status), payload)
        reply = {"status": status, "response": payload}
        return Frame(TEXT, json_library.encode([join_ref, ref, topic, "phx_reply", reply]))

    def encode_message(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> Frame:
        if type(payload) is bytes:
            return _binary(_PUSH, (join_ref, topic, event), payload)
        if not isinstance(payload, dict):
            raise InvalidMessage(f"expected payload to be a map, got: {payload!r}")
        return Frame(TEXT, json_library.encode([join_ref, ref, topic, event, payload]))

    def fastlane(self, broadcast: Broadcast) -> Frame:
        payload = broadcast.payload
        if type(payload) is bytes:
            return _binary(_BROADCAST, (broadcast.topic, broadcast.event), payload)
        if not isinstance(payload, dict):
            raise InvalidMessage(f"expected broadcasted payload to be a map, got: {payload!r}")
        return Frame(TEXT, json_library.encode([None, None, broadcast.topic, broadcast.event, payload]))


def _decode_binary(data: bytes) -> Message:
    if len(data) < 5 or data[0] != _PUSH:
        raise InvalidMessage("not a binary push")
    position = 5
    fields: list[str] = []
    for size in data[1:5]:
        end = position + size
        # As in Phoenix invalid UTF-8 can be echoed in a binary reply but not in JSON; so it is with surrogateescape.
        fields.append(data[position:end].decode("utf-8", "surrogateescape"))
        position = end
    if position > len(data):
        raise InvalidMessage("binary push is too short")
    join_ref, ref, topic, event = fields
    return Message(topic, event, data[position:], ref, join_ref)


def _binary(kind: int, fields: tuple[Any, ...], payload: bytes) -> Frame:
    try:
        texts = [to_string(field).encode("utf-8", "surrogateescape") for field in fields]
    except ValueError as error:
        raise InvalidMessage(str(error)) from None
    for text in texts:
        if len(text) > 255:
            raise InvalidMessage("a ref, topic or event of a binary message must be at most 255 bytes")
    return Frame(BINARY, bytes((kind, *map(len, texts))) + b"".join(texts) + payload)


V1_SERIALIZER: Final = V1()
V2_SERIALIZER: Final = V2()
SERIALIZERS: Final[tuple[Serializer, ...]] = (V1_SERIALIZER, V2_SERIALIZER)

_VERSION: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def negotiate(vsn: str, serializers: Iterable[Serializer] = SERIALIZERS) -> Serializer | None:
    """The serializer whose requirement the client's `vsn` matches, or None."""
    wanted = _requirement(vsn)
    for serializer in serializers:
        if serializer.requirement == wanted:
            return serializer
    return None


@lru_cache(64)
def _requirement(vsn: str) -> tuple[str, str] | None:
    found = _VERSION.fullmatch(vsn)
    if found is None or (found[3] == "0" and found[4]):  # 2.0.0-rc.1 comes before 2.0.0
        return None
    return found[1], found[2]
