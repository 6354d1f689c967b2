"""Random and mutated input: no exception escapes, no state is lost, nothing grows."""

from __future__ import annotations

import gc
import json
import logging
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.otp import dynamic_supervisor, erlang
from runtime.phoenix import Accept, Channel, NoReply, Reply, Socket, WebSocketOptions, json_library, query
from runtime.phoenix.check_origin import OriginPolicy
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.phoenix.frames import FrameParser, ProtocolError
from runtime.phoenix.json_library import DecodeError
from runtime.phoenix.messages import BINARY, TEXT
from runtime.phoenix.serializer import V1_SERIALIZER, V2_SERIALIZER, InvalidMessage, negotiate
from runtime.testing import simulation as testing
from tests.phoenix.client import Client, client_frame, start_endpoint

slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
topics = st.sampled_from(["room:a", "room:b", "room:crash", "nope", "phoenix"]) | scalars
events = st.sampled_from(
    ["phx_join", "phx_leave", "heartbeat", "echo", "push", "shout", "stop", "crash", "phx_close", "phx_reply"]
)
refs = st.sampled_from(["1", "2", None, 1, 7]) | values
v2_messages = st.tuples(refs, refs, topics, events | scalars, values).map(list)
v1_messages = st.fixed_dictionaries(
    {"topic": topics, "event": events | scalars, "payload": values}, optional={"ref": refs, "join_ref": refs}
)
raw_frames = st.builds(
    client_frame,
    st.integers(0, 15),
    st.binary(max_size=200),
    st.sampled_from([0x80, 0x80, 0x80, 0x00, 0xC0, 0xA0, 0x90]),
)
mutations = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3)


def encoded(message: Any) -> bytes:
    return client_frame(TEXT, json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def mutated(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for position, value in changes:
        if out:
            out[position % len(out)] = value
    return bytes(out)


@given(values)
def test_json_round_trip_property(value: Any) -> None:
    assert json_library.decode(json_library.encode(value)) == json.loads(json.dumps(value))


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()), mutations)
def test_json_fuzz_agrees_with_the_slow_parser(data: bytes, changes: list[tuple[int, int]]) -> None:
    data = mutated(data, changes)
    try:
        value: Any = json_library.decode(data)
    except DecodeError:
        value = DecodeError
    try:
        deep: Any = json_library._decode_deep(data.decode())
    except (DecodeError, UnicodeDecodeError):
        deep = DecodeError
    assert value == deep


@given(st.binary(max_size=100), st.sampled_from([TEXT, BINARY]))
def test_serializers_fuzz(data: bytes, opcode: int) -> None:
    for serializer in (V1_SERIALIZER, V2_SERIALIZER):
        try:
            serializer.decode(data, opcode)
        except (InvalidMessage, DecodeError):
            pass


@given(st.text(), st.text())
def test_handshake_texts_fuzz(text: str, more: str) -> None:
    negotiate(text)
    negotiate_deflate([text, f"permessage-deflate; {more}"])
    OriginPolicy(["https://*.example.org"]).allows(text, "http", more, 1)
    try:
        query.decode((text + "=" + more).encode("latin-1", "replace").decode("latin-1"))
    except query.InvalidQuery:
        pass


@given(st.lists(raw_frames, max_size=6), st.binary(max_size=20), mutations, st.integers(1, 64))
def test_frame_parser_fuzz(
    frames: list[bytes], tail: bytes, changes: list[tuple[int, int]], step: int
) -> None:
    """However the bytes are cut into reads, the same messages come out, and only a ProtocolError ends it."""
    data = mutated(b"".join(frames) + tail, changes)

    def run(size: int) -> tuple[list[Any], int | None]:
        parser = FrameParser(1024, 2048, negotiate_deflate(["permessage-deflate"]))
        got: list[Any] = []
        try:
            for at in range(0, len(data), size):
                got.extend(parser.feed(data[at : at + size]))
        except ProtocolError as error:
            return got, error.code
        assert parser.pending <= 1024 + 2048
        return got, None

    assert run(step) == run(max(1, len(data)))


class Room(Channel):
    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        if topic == "room:crash":
            raise RuntimeError(topic)
        return Accept({"p": payload} if not isinstance(payload, bytes) else {})

    def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "echo":
                return Reply(("ok", payload))
            case "push":
                self.push("pushed", payload)
            case "shout":
                self.broadcast("shout", payload)
            case "stop":
                from runtime.phoenix import Stop

                return Stop("shutdown")
            case _:
                return super().handle_in(event, payload)
        return NoReply()


class UserSocket(Socket):
    channels = {"room:*": Room}

    def connect(self, params: Any, connect_info: Any) -> Any:
        return Accept()


async def check_consistent(endpoint: Any, client: Client) -> None:
    """The socket's table, the supervisor, PubSub and the processes agree on who is there."""
    connection = client.connection
    alive = await dynamic_supervisor.count_children(endpoint.channels)
    subscriptions = endpoint.pubsub.count()[1]
    if connection.closing:
        assert not erlang.is_process_alive(client.pid)
        assert alive["active"] == 0 and subscriptions == 0
    else:
        entries = connection.channels
        assert all(erlang.is_process_alive(entry.pid) for entry in entries.values())
        assert alive["active"] == len(entries) == subscriptions
        if connection.parser._buffer or connection.parser._fragments is not None:
            return  # bytes that came last began a message: a heartbeat would go on with it
        client.take()
        frame = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "hb"}
        client.send(
            [None, "hb", "phoenix", "heartbeat", {}] if client.socket.serializer is V2_SERIALIZER else frame
        )
        assert len(await client.settle()) == 1


@slow
@given(
    st.sampled_from([1, 2]),
    st.lists(v2_messages.map(encoded) | v1_messages.map(encoded) | raw_frames, max_size=12),
    mutations,
    st.integers(1, 400),
    st.integers(0, 1000),
)
def test_socket_fuzz(
    vsn: int, frames: list[bytes], changes: list[tuple[int, int]], step: int, seed: int
) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = Client(
            endpoint, UserSocket, vsn=vsn, options=WebSocketOptions(max_frame_size=4096, max_buffer=50_000)
        )
        other = Client(endpoint, UserSocket)
        data = mutated(b"".join(frames), changes)
        for at in range(0, len(data), step):
            client.send_bytes(data[at : at + step])
        await erlang.sleep(10)
        await check_consistent(endpoint, client)
        assert await other.ask([None, "1", "phoenix", "heartbeat", {}])

    testing.play(body, seed=seed)


@slow
@given(st.lists(v2_messages, min_size=1, max_size=12), st.integers(0, 1000))
def test_valid_messages_fuzz(messages: list[Any], seed: int) -> None:
    """Well-formed messages never end a socket, whatever their topics, events, refs and payloads are."""

    async def body() -> None:
        endpoint = await start_endpoint()
        client = Client(endpoint, UserSocket)
        for message in messages:
            client.send_bytes(encoded(message))
        await erlang.sleep(10)
        surrogates = any("\\ud" in json.dumps(message) for message in messages)
        assert not client.connection.closing or surrogates
        await check_consistent(endpoint, client)

    testing.play(body, seed=seed)


def test_memory_stays_flat_fuzz() -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        sizes: list[int] = []
        for index in range(600):
            client = Client(endpoint, UserSocket)
            client.send(
                ["1", "1", "room:a", "phx_join", {"n": index}], ["1", "2", "room:a", "echo", "x" * 500]
            )
            client.send_bytes(client_frame(1, b"{broken") if index % 2 else client_frame(8, b""))
            for _ in range(1000):
                await erlang.sleep(1)
                if client.connection.closing:
                    break
            else:
                pytest.fail("the connection did not close")
            if index in (199, 599):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        assert sizes[1] - sizes[0] < 400 * 100, sizes

    logging.disable(logging.CRITICAL)  # pytest would keep the crash reports
    tracemalloc.start()
    try:
        testing.play_real(body)
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)
