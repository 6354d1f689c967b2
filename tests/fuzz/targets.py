"""What the streams go through, and what must hold of it. A target raises where something does not.

connection: the HTTP/1.1 state machine. frames: WebSocket frames, compressed and not. messages: both serializers.
handshake: queries, origins, tokens, subprotocols, extensions. longpoll: requests to a living endpoint. router: paths,
queries, bodies and cursors of every operation.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import orjson

from api.app import ROUTES
from api.http import cursor
from api.http.errors import ApiError
from api.http.request import query_pairs, refuse_query
from api.http.router import Router
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http.connection import CLOSED, END, Connection
from runtime.http.messages import Request
from runtime.http.options import HttpOptions
from runtime.http.target import Refusal
from runtime.phoenix import Accept, Channel, LongPollOptions, Reply, Socket, deflate, handshake, longpoll
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.frames import PAUSE, FrameParser, ProtocolError
from runtime.phoenix.handshake import Candidate
from runtime.phoenix.json_library import DecodeError
from runtime.phoenix.messages import BINARY, TEXT
from runtime.phoenix.mount import LONGPOLL, WEBSOCKET, Mount, Mounts, WebSocketOptions
from runtime.phoenix.request import TransportRequest
from runtime.phoenix.serializer import V1_SERIALIZER, V2_SERIALIZER, InvalidMessage
from tests.fuzz import corpus
from tests.phoenix.client import start_endpoint
from tests.support.transport_request import transport_request

OPTIONS: Final = HttpOptions(upgradable=lambda request: request.path == "/socket")
STEPS: Final = (1, 7, 64, 1000)  # how large the reads are that a stream is cut into, by its own bytes


class Target(Protocol):
    """Reads one stream; raises if what must hold does not.

    Where it is read in turns, between which others have theirs, what is given back is the CPU time of the longest, in ns.
    """

    def __call__(self, data: bytes, /) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A target, and what its streams are made of."""

    open: Callable[[], Target]
    seeds: Sequence[bytes]
    parts: Sequence[bytes]
    share: float = 1.0  # of the streams, beside those of other targets


# ---- HTTP


class Turns:
    """The longest of the times between two marks."""

    def __init__(self) -> None:
        self.longest = 0
        self._since = time.thread_time_ns()

    def mark(self) -> None:
        """Others have their turn."""
        now = time.thread_time_ns()
        self.longest = max(self.longest, now - self._since)
        self._since = now


def http_events(data: bytes, step: int, turns: Turns) -> list[Any]:
    """What a connection makes of these bytes; a body's pieces are joined."""
    connection = Connection(OPTIONS)
    found: list[Any] = []
    answers = 0
    for at in range(0, len(data), step):
        new = connection.receive(data[at : at + step])
        while new or connection.unfinished:
            for event in new:
                assert not (found and isinstance(found[-1], Refusal)), "an event behind a refusal"
                if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                    found[-1] += event
                else:
                    found.append(event)
                if isinstance(event, Request):
                    assert event.headers.get(b"host") or event.version == "1.0"
                    assert 0 < connection.pending <= OPTIONS.max_ahead
                    answers += 1
            for _ in range(answers):
                connection.answered()
            answers = 0
            turns.mark()
            new = connection.receive(b"")
        assert connection.phase != CLOSED or not connection.rest
    connection.close()
    turns.mark()
    return found


def read_connection(data: bytes) -> int:
    """However the bytes are cut, the same requests and bodies come out, and each END follows its request."""

    def plain(events: list[Any]) -> list[Any]:
        told: list[Any] = []
        for event in events:
            if isinstance(event, Request):
                told.append((event.method, event.path, event.query, event.fields, event.content_length))
            elif not isinstance(event, Refusal):
                told.append(event)
            elif event.reason != "the method is unknown":  # told from garbage only by what follows it
                told.append(event.status if event.status != 505 else 400)
            else:
                told.append(400)
        return told

    turns = Turns()
    whole = http_events(data, max(1, len(data)), turns)
    open_body = False
    for event in whole:
        if isinstance(event, Request):
            assert not open_body, "a request within the body of another"
            open_body = event.content_length != 0 and not event.upgrade
        elif event is END:
            assert open_body
            open_body = False
        elif isinstance(event, bytes):
            assert open_body and event
    if len(data) < 2000 and data:
        assert plain(http_events(data, STEPS[data[-1] % len(STEPS)], Turns())) == plain(whole)
    return turns.longest


# ---- WebSocket


def read_frames(data: bytes) -> int:
    """However the bytes are cut, the same messages come out, within the bounds."""
    turns = Turns()

    def run(step: int, packed: bool) -> tuple[list[Any], int]:
        parser = FrameParser(70_000, 100_000, deflate.negotiate(["permessage-deflate"]) if packed else None)
        found: list[Any] = []
        try:
            for at in range(0, len(data), step):
                for event in parser.feed(data[at : at + step]):
                    if event[0] != PAUSE:
                        found.append(event)
                    else:
                        turns.mark()
        except ProtocolError as error:
            return found, error.code
        assert parser.pending <= 170_000
        assert all(len(payload) <= 100_000 for _opcode, payload in found)
        return found, 0

    packed = bool(data) and data[0] & 0x40 != 0
    whole = run(max(1, len(data)), packed)
    turns.mark()
    longest = turns.longest
    if len(data) < 2000 and data:
        assert run(STEPS[data[-1] % len(STEPS)], packed) == whole
    return longest


def read_messages(data: bytes) -> int:
    """A message, or an error that the transport knows; a socket reads it in one of these ways."""
    turns = Turns()
    for serializer in (V1_SERIALIZER, V2_SERIALIZER):
        for opcode in (TEXT, BINARY):
            try:
                message = serializer.decode(data, opcode)
            except (InvalidMessage, DecodeError):
                continue
            finally:
                turns.mark()
            if serializer is V2_SERIALIZER and opcode == TEXT and isinstance(message.payload, dict):
                frame = serializer.encode_message(
                    message.join_ref, message.ref, message.topic, "echo", message.payload
                )
                again = serializer.decode(frame.payload, TEXT)
                assert json.dumps(again.payload) == json.dumps(message.payload)
                turns.mark()
    return turns.longest


class Room(Channel):
    """Answers what it is sent."""

    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        return Accept()

    def handle_in(self, event: Any, payload: Any) -> Any:
        return Reply(("ok", {})) if isinstance(payload, dict) else Reply("ok")


class UserSocket(Socket):
    """Takes everybody."""

    channels = {"room:*": Room}

    def connect(self, params: Any, connect_info: Any) -> Any:
        return Accept()


MOUNT: Final = Mount(
    "/socket",
    UserSocket,
    websocket=WebSocketOptions(check_origin=["https://*.example.org", "//localhost"], compress=True),
    longpoll=LongPollOptions(check_origin=["https://*.example.org"], window_ms=3_600_000),
    auth_token=True,
)


def _request(data: bytes) -> TransportRequest:
    """Query, Origin, token, subprotocols, extensions and Host of a request: the lines of the stream."""
    lines = [*data.split(b"\n"), b"", b"", b"", b"", b"", b""]
    names = ("origin", "sec-websocket-protocol", "sec-websocket-extensions", "host", "x-phoenix-authtoken")
    texts = [line.decode("latin-1") for line in lines]
    fields = tuple((name, text) for name, text in zip(names, texts[1:], strict=False) if text)
    more = (("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13"))
    key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    return transport_request("GET", "/socket/websocket", texts[0], (*fields, *more, key), "http", None)


def open_handshake() -> Target:
    """Both transports' checks, and what `vsn` and extensions come to."""
    endpoint = Endpoint("fuzz.pubsub", "fuzz.channels", "fuzz.sockets")
    mounts = Mounts([MOUNT])
    routes = [mounts.match(f"/socket/{kind}") for kind in (WEBSOCKET, LONGPOLL)]

    def read(data: bytes) -> None:
        request = _request(data[: OPTIONS.max_target])
        number = len(data) & 1
        found, check = routes[number], (handshake.check_websocket, handshake.check_longpoll)[number]
        assert found is not None
        candidate = check(found[0], found[1], request)
        if isinstance(candidate, Candidate):
            assert isinstance(candidate.params, dict)
            handshake.connect(candidate, endpoint)
            if check is handshake.check_websocket:
                handshake.upgrade(candidate)

    return read


BEAT: Final = b'[null,"1","phoenix","heartbeat",{}]'


def open_longpoll() -> Target:
    """POSTs to sessions of a living endpoint; another client's session goes on all the while."""
    loop = asyncio.new_event_loop()

    async def begin() -> Endpoint:
        AsyncioEngine().start()
        return await start_endpoint()

    endpoint = loop.run_until_complete(begin())
    found = Mounts([MOUNT]).match("/socket/longpoll")
    assert found is not None
    route = found[0]

    async def wait(answer: Any) -> Any:
        return await answer

    async def ask(method: str, params: dict[str, Any], body: bytes, kind: str) -> dict[str, Any]:
        async def read_body(limit: int) -> bytes | None:
            return body if len(body) <= limit else None

        def headers(name: str) -> list[str]:
            return [kind] if name == "content-type" else []

        request = transport_request(method, "/socket/longpoll", "", (), "http", None)
        candidate = Candidate(route, request, {"vsn": "2.0.0", **params}, {})
        answer = await longpoll.handle(endpoint, candidate, method, headers, read_body, wait)
        if answer.status != 200:
            assert answer.status in (400, 500), answer.status
            return {"status": answer.status}
        return orjson.loads(answer.body)

    async def session() -> str:
        answer = await ask("GET", {}, b"", "")
        assert answer["status"] == 410
        return answer["token"]

    tokens = [loop.run_until_complete(session()), loop.run_until_complete(session())]
    count = 0

    async def run(data: bytes) -> None:
        nonlocal count
        count += 1
        kind = "application/x-ndjson" if count & 1 else "application/json"
        answer = await ask("POST", {"token": tokens[0]}, data, kind)
        assert answer["status"] in (200, 400, 408, 410, 500), answer
        if answer["status"] in (408, 410):
            tokens[0] = await session()
        elif count % 64 == 0:
            await ask("POST", {"token": tokens[0]}, BEAT, "application/json")
            await ask("GET", {"token": tokens[0]}, b"", "")
        if count % 256 == 0:
            assert (await ask("POST", {"token": tokens[1]}, BEAT, "application/json"))["status"] == 200
            got = await ask("GET", {"token": tokens[1]}, b"", "")
            assert len(got["messages"]) == 1, got

    return lambda data: loop.run_until_complete(run(data))


# ---- the API


def open_router() -> Target:
    """A line with path and query, then a body for the operations that are found and for one that is chosen by it."""
    router = Router(ROUTES)
    bodies = [operation for operation in router.operations if operation.body is not None]
    queries = [operation for operation in router.operations if operation.query is not None]

    def read(data: bytes) -> None:
        line, _, body = data.partition(b"\n")
        line = line[: OPTIONS.max_target]
        path, _, asked = line.partition(b"?")
        chosen = sum(line)
        taking = bodies[chosen % len(bodies)]
        asking = queries[chosen % len(queries)]
        found = router.find(path.decode("latin-1"))
        assert found is None or found[0]
        assert taking.body is not None and asking.query is not None

        def ask() -> None:
            assert asking.query is not None
            query = asking.query.strings(query_pairs(asked))
            if any(field.type == cursor.Cursor | None for field in msgspec.structs.fields(type(query))):
                cursor.decode(query.cursor)

        for attempt in (
            ask,
            lambda: refuse_query(asked.decode("latin-1")),
            lambda: taking.body.json(body),  # type: ignore[union-attr]
        ):
            try:
                attempt()
            except ApiError as error:
                assert error.status in (400, 415, 422)

    return read


TARGETS: Final = {
    "connection": Fuzzed(lambda: read_connection, corpus.HTTP_SEEDS, corpus.HTTP_PARTS, 3.0),
    "frames": Fuzzed(lambda: read_frames, corpus.FRAME_SEEDS, corpus.FRAME_PARTS, 3.0),
    "messages": Fuzzed(lambda: read_messages, corpus.MESSAGES, corpus.JSON_PARTS, 2.0),
    "handshake": Fuzzed(open_handshake, corpus.HANDSHAKES, corpus.QUERY_PARTS),
    "longpoll": Fuzzed(
        open_longpoll, (*corpus.MESSAGES, b"\n".join(corpus.MESSAGES[:4])), corpus.JSON_PARTS, 0.5
    ),
    "router": Fuzzed(open_router, corpus.CALLS, corpus.API_PARTS, 1.5),
}
