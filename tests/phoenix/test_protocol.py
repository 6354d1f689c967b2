"""The pure parts of the Phoenix protocol: JSON, serializers, versions, queries, origins, frames, compression,
handshake.
"""

from __future__ import annotations

import itertools
import json
import random
import time
import zlib
from decimal import Decimal
from typing import Any

import pytest

from runtime.phoenix import json_library, query
from runtime.phoenix.check_origin import OriginPolicy
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.phoenix.frames import FRAMES, INFLATE_STEP, PAUSE, FrameParser, ProtocolError, answer_to_close
from runtime.phoenix.handshake import Candidate, WebSocketUpgrade, check_websocket, upgrade
from runtime.phoenix.json_library import DecodeError, EncodeError
from runtime.phoenix.messages import BINARY, TEXT, Broadcast, Frame
from runtime.phoenix.mount import LongPollOptions, Mount, Mounts, WebSocketOptions
from runtime.phoenix.request import TransportRequest, TransportResponse, connect_info
from runtime.phoenix.serializer import V1_SERIALIZER, V2_SERIALIZER, InvalidMessage, negotiate
from runtime.phoenix.socket import Socket, same_ref
from tests.phoenix.client import client_frame

# ---- JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,"a":2}', {"a": 1}),
        ('{"a":{"b":1,"b":2,"c:d":3}}', {"a": {"b": 1, "c:d": 3}}),
        ('{"a": "x:y", "b": ":"}', {"a": "x:y", "b": ":"}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("-9223372036854775809", -9223372036854775809),
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


# ---- serializers


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


def test_refs_are_compared_strictly() -> None:
    assert same_ref("1", "1") and same_ref(None, None) and same_ref({"a": [1]}, {"a": [1]})
    for left, right in (("1", 1), (1, 1.0), (1, True), ({"a": 1}, {"a": 1.0}), ([1], [1, 2]), ({}, [])):
        assert not same_ref(left, right)


# ---- requests


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("vsn=2.0.0&a=1&a=2", {"vsn": "2.0.0", "a": "2"}),
        ("a[b]=1&a[c][d]=2", {"a": {"b": "1", "c": {"d": "2"}}}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a=%C3%A9+x&&b&=&x=%zz&", {"a": "é x", "b": "", "": "", "x": "%zz"}),
        ("a]=1", {"a]": "1"}),
        ("[a]=1&b[=2", {"[a]": "1", "b[": "2"}),
        ("a[][b]=1&a[][c]=2", {"a": [{"b": "1", "c": "2"}]}),
        (
            "a[b][c]=1&a[b][d]=2&e=1&e[f]=2&g[h]=1&g=2",
            {"a": {"b": {"c": "1", "d": "2"}}, "e": {"f": "2"}, "g": "2"},
        ),
        ("a[]=1&a[b]=2&c[d]=1&c[]=2", {"a": {"b": "2"}, "c": ["2"]}),
    ],
)
def test_query(text: str, params: dict[str, Any]) -> None:
    assert query.decode(text) == params


def test_query_must_be_utf8() -> None:
    with pytest.raises(query.InvalidQuery):
        query.decode("a=%ff")


def test_a_query_may_be_deep() -> None:
    value = query.decode("a" + "[b]" * 20_000 + "=1")["a"]
    for _ in range(20_000):
        value = value["b"]
    assert value == "1"


ORIGINS = ("//example.com", "https://*.example.org", "http://other.test:8080")


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        (ORIGINS, None, True),
        (ORIGINS, "https://example.com:8443", True),
        (ORIGINS, "http://a.example.com", False),
        (ORIGINS, "https://a.b.example.org", True),
        (ORIGINS, "https://example.org", True),
        (ORIGINS, "http://example.org", False),
        (ORIGINS, "https://example.org:444", False),
        (ORIGINS, "https://badexample.org", False),
        (ORIGINS, "http://other.test:8080", True),
        (ORIGINS, "http://other.test", False),
        (ORIGINS, "http://other.test:" + "8" * 5000, False),
        (ORIGINS, "null", False),
        (ORIGINS, "", False),
        (ORIGINS, "http://example.com:80x", True),
        (ORIGINS, "//example.com", True),
        (ORIGINS, "http://x@example.com:80@evil.test", False),
        (ORIGINS, "http://evil.test/@example.com", False),
        (False, "http://evil.test", True),
        (True, "https://bitnexus.test", True),
        (True, "https://evil.test", False),
        ("conn", "http://localhost:4000", True),
        ("conn", "http://localhost", False),
        ("conn", "https://localhost:4000", False),
        (lambda origin: origin.host == "fn.test", "http://fn.test", True),
        (lambda origin: origin.host == "fn.test", "http://other.test", False),
    ],
)
def test_check_origin(setting: Any, origin: str | None, allowed: bool) -> None:
    policy = OriginPolicy(setting, "bitnexus.test")
    assert policy.allows(origin, "http", "localhost", 4000) is allowed


def test_check_origin_entries_need_a_host() -> None:
    with pytest.raises(ValueError, match=r"example\.com"):
        OriginPolicy(["example.com"])


def test_mounts_match_by_segments() -> None:
    class UserSocket(Socket):
        pass

    mounts = Mounts(
        [
            Mount("/socket", UserSocket, WebSocketOptions(), LongPollOptions()),
            Mount("/rooms/:tenant", UserSocket, WebSocketOptions(path="/ws/:lang")),
        ]
    )

    def matched(path: str) -> Any:
        found = mounts.match(path)
        return found and (found[0].transport, found[1])

    assert matched("/socket/websocket") == ("websocket", {})
    assert matched("//socket//longpoll/") == ("longpoll", {})
    assert matched("/rooms/a%20b/ws/en") == ("websocket", {"tenant": "a%20b", "lang": "en"})
    assert (
        matched("/socket") is None
        and matched("/rooms/x/ws") is None
        and matched("/socket/websocket/x") is None
    )


def test_connect_info_holds_what_the_mount_names() -> None:
    headers = (
        ("host", "h.test:8"),
        ("x-one", "1"),
        ("x-name", "Jörg".encode().decode("latin-1")),
        ("x-bytes", "\xff"),
        ("user-agent", "ua"),
        ("traceparent", "t"),
        ("cookie", "c"),
    )
    request = TransportRequest("GET", "/p", "q=1", headers, "https", ("10.0.0.1", 99))
    info = connect_info(
        request, ("peer_data", "x_headers", "uri", "user_agent", "trace_context_headers", "session")
    )
    assert info["peer_data"] == {"address": "10.0.0.1", "port": 99}
    assert info["x_headers"] == [("x-one", "1"), ("x-name", "Jörg"), ("x-bytes", "\udcff")]
    assert info["trace_context_headers"] == [("traceparent", "t")]
    assert (info["uri"].host, info["uri"].port, info["uri"].scheme) == ("h.test", 8, "https")
    assert info["user_agent"] == "ua" and info["session"] is None and len(info) == 6
    with pytest.raises(ValueError, match="cookies"):
        WebSocketOptions(connect_info=("cookies",))


def test_a_port_of_thousands_of_digits_is_no_error() -> None:
    request = TransportRequest("GET", "/", "", (("host", "h.test:" + "9" * 5000),))
    assert request.host == "h.test" and request.port == 999_999_999


def test_routes_end_with_a_star_or_have_none() -> None:
    with pytest.raises(ValueError, match="splat"):

        class Bad(Socket):
            channels = {"a:*:b": object}  # type: ignore[dict-item]


# ---- frames


def parser(**options: Any) -> FrameParser:
    return FrameParser(options.pop("frame", 1024), options.pop("message", 4096), options.pop("deflate", None))


def test_a_final_block_ends_a_message_and_the_next_begins_anew() -> None:
    """A client may set BFINAL (RFC 7692 7.2.3.5), and may send more behind it than the message may be long."""
    packed = zlib.compress(b"abc" * 300, wbits=-15)
    reader = parser(message=100_000, deflate=negotiate_deflate(["permessage-deflate"]))
    for payload in (packed, packed + b"x" * 50, packed):
        frame = client_frame(1, payload, 0xC0)
        assert [event for event in reader.feed(frame) if event[0] != PAUSE] == [(1, b"abc" * 300)]
    full = zlib.compress(bytes(INFLATE_STEP), wbits=-15) + b"y" * 50
    found = [event for event in reader.feed(client_frame(2, full, 0xC0)) if event[0] != PAUSE]
    assert found == [(2, bytes(INFLATE_STEP))]


def test_many_small_frames_give_others_their_turn() -> None:
    found = list(parser().feed(client_frame(10, b"") * (3 * FRAMES)))
    turns = [
        len(list(group)) for kind, group in itertools.groupby(found, lambda event: event[0]) if kind != PAUSE
    ]
    assert sum(turns) == 3 * FRAMES and max(turns) <= FRAMES


def test_frames_in_any_split() -> None:
    data = client_frame(1, b"hello") + client_frame(2, b"x" * 300) + client_frame(9, b"ping")
    whole = list(parser().feed(data))
    assert whole == [(1, b"hello"), (2, b"x" * 300), (9, b"ping")]
    for step in (1, 2, 3, 7, 100):
        split = parser()
        got = [event for at in range(0, len(data), step) for event in split.feed(data[at : at + step])]
        assert got == whole
        assert split.pending == 0


def test_fragments_with_a_ping_between() -> None:
    frames = (
        client_frame(1, b"a", 0) + client_frame(9, b"") + client_frame(0, b"b", 0) + client_frame(0, b"c")
    )
    assert list(parser().feed(frames)) == [(9, b""), (1, b"abc")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(1, b"\xc3", 0) + client_frame(0, b"\x28"), 1007),
        (client_frame(0, b"x"), 1002),
        (client_frame(1, b"x", 0) + client_frame(2, b"x"), 1002),
        (client_frame(3, b"x"), 1002),
        (client_frame(11, b"x"), 1002),
        (client_frame(1, b"x", 0xC0), 1002),
        (client_frame(1, b"x", 0xA0), 1002),
        (client_frame(1, b"x", 0x90), 1002),
        (client_frame(9, b"x", 0), 1002),
        (client_frame(9, b"x", 0xC0), 1002),
        (client_frame(9, b"x" * 126), 1002),
        (client_frame(8, b"\x03"), 1002),
        (client_frame(8, b"\x03\xe8\xff"), 1002),
        (client_frame(1, b"x" * 1017), 1009),
        (b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", 1009),
        (client_frame(1, b"x" * 1000, 0) * 1 + client_frame(0, b"x" * 1000, 0) * 5, 1009),
    ],
)
def test_protocol_errors(data: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as error:
        list(parser().feed(data))
    assert error.value.code == code


def test_a_compressed_message_that_was_not_agreed_is_refused_when_it_is_whole() -> None:
    frames = parser()
    assert list(frames.feed(client_frame(1, b"x", 0x40) + client_frame(9, b"p"))) == [(9, b"p")]
    with pytest.raises(ProtocolError) as error:
        list(frames.feed(client_frame(0, b"y")))
    assert error.value.code == 1002


def test_the_frame_bound_counts_the_header() -> None:
    assert list(parser().feed(client_frame(1, b"x" * 1016))) == [(1, b"x" * 1016)]


def test_without_a_frame_bound_the_message_bound_holds() -> None:
    assert list(parser(frame=0).feed(client_frame(1, b"x" * 4096)))
    with pytest.raises(ProtocolError):
        list(parser(frame=0).feed(b"\x81\xff" + (4097).to_bytes(8, "big") + b"\0\0\0\0"))


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9", 1000), (b"\x00\x00", 1002), (b"\x03\xec", 1002),
     (b"\x03\xed", 1002),
     (b"\x03\xf3", 1000), (b"\x03\xf4", 1002), (b"\x0b\xb7", 1002), (b"\x0b\xb8", 1000), (b"\x13\x88", 1000)],
)  # fmt: skip
def test_answers_to_close(payload: bytes, code: int) -> None:
    assert answer_to_close(payload) == code


# ---- compression


@pytest.mark.parametrize(
    ("offer", "header", "bits"),
    [
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover", 15),
        ("permessage-deflate;", "permessage-deflate; server_no_context_takeover", 15),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover", 15),
        (
            "x-other, permessage-deflate; server_max_window_bits=9; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=9",
            9,
        ),
        (
            "permessage-deflate; bogus, permessage-deflate",
            "permessage-deflate; server_no_context_takeover",
            15,
        ),
        ("permessage-deflate; server_max_window_bits", None, 0),
        ("permessage-deflate; server_max_window_bits=16", None, 0),
        ("permessage-deflate; server_max_window_bits=7", None, 0),
        ("permessage-deflate; client_max_window_bits=x", None, 0),
        ("permessage-deflate; server_no_context_takeover=1", None, 0),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None, 0),
        ("x-webkit-deflate-frame", None, 0),
    ],
)
def test_deflate_offers(offer: str, header: str | None, bits: int) -> None:
    agreed = negotiate_deflate([offer])
    if header is None:
        assert agreed is None
    else:
        assert agreed is not None and (agreed.header, agreed.window_bits) == (header, bits)


def deflated(compressor: Any, text: bytes) -> bytes:
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_compressed_messages_with_and_without_context() -> None:
    text = b'["1","2","room:lobby","echo",{"text":"again and again"}]'
    with_context = parser(deflate=negotiate_deflate(["permessage-deflate"]))
    compressor = zlib.compressobj(wbits=-15)
    for _ in range(3):
        assert list(with_context.feed(client_frame(1, deflated(compressor, text), 0xC0))) == [(1, text)]
    alone = parser(deflate=negotiate_deflate(["permessage-deflate; client_no_context_takeover"]))
    packed = deflated(zlib.compressobj(wbits=-15), text)
    frames = client_frame(1, packed[:9], 0x40) + client_frame(0, packed[9:])
    assert list(alone.feed(frames + client_frame(1, b"plain"))) == [(1, text), (1, b"plain")]


@pytest.mark.parametrize(("packed", "code"), [(b"\xff\xff\xff\xff", 1007), (None, 1009)])
def test_compressed_messages_are_checked(packed: bytes | None, code: int) -> None:
    if packed is None:
        packed = deflated(zlib.compressobj(9, wbits=-15), b"x" * 100_000)
    with pytest.raises(ProtocolError) as error:
        list(parser(deflate=negotiate_deflate(["permessage-deflate"])).feed(client_frame(1, packed, 0xC0)))
    assert error.value.code == code


def bomb(size: int) -> bytes:
    packed = deflated(zlib.compressobj(9, wbits=-15), b"x" * size)
    assert len(packed) < size // 500
    return client_frame(1, packed, 0xC0)


@pytest.mark.parametrize("size", [1000, INFLATE_STEP - 1, INFLATE_STEP, INFLATE_STEP + 1, 900_000])
@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_no_context_takeover"])
def test_a_step_bounds_what_is_inflated_between_two_pauses(size: int, offer: str) -> None:
    texts = [random.Random(size).randbytes(size).hex()[:size].encode(), b"y" * size, b"end"] * 7
    compressor = zlib.compressobj(9, wbits=-15)
    read = b""
    for text in texts:
        compressor = zlib.compressobj(9, wbits=-15) if "no_context" in offer else compressor
        read += client_frame(1, deflated(compressor, text), 0xC0)
    events = list(parser(frame=0, message=900_000, deflate=negotiate_deflate([offer])).feed(read))
    assert [payload for opcode, payload in events if opcode != PAUSE] == texts
    assert sum(opcode == PAUSE for opcode, _ in events) >= sum(map(len, texts)) // INFLATE_STEP


def test_a_message_that_inflates_too_far_is_refused_at_the_first_step_that_shows_it() -> None:
    limit = 3 * INFLATE_STEP
    events = parser(message=limit, frame=0, deflate=negotiate_deflate(["permessage-deflate"])).feed(
        bomb(8_000_000)
    )
    assert [next(events) for _ in range(3)] == [(PAUSE, b"")] * 3
    with pytest.raises(ProtocolError) as error:
        next(events)
    assert error.value.code == 1009


def test_blocks_that_inflate_to_nothing_are_taken_in_steps() -> None:
    packed = b"\x00\x00\x00\xff\xff" * 60_000
    events = parser(message=400_000, frame=0, deflate=negotiate_deflate(["permessage-deflate"])).feed(
        client_frame(1, packed, 0xC0)
    )
    assert list(events) == [(PAUSE, b"")] * (len(packed) // INFLATE_STEP) + [(1, b"")]


def test_a_stream_that_ends_keeps_nothing_of_what_follows() -> None:
    compressor = zlib.compressobj(wbits=-15)
    ended = compressor.compress(b"last") + compressor.flush()
    ends = parser(deflate=negotiate_deflate(["permessage-deflate"]))
    for _ in range(9):
        assert list(ends.feed(client_frame(1, ended + b"z" * 500, 0xC0))) == [(1, b"last")]
        assert ends._inflater is None and not ends.pending


def test_a_frame_is_made_once() -> None:
    frame = Frame(TEXT, b"x" * 500)
    assert frame.wire() is frame.wire() and frame.wire()[:4] == b"\x81\x7e\x01\xf4"
    assert frame.deflated(15) is frame.deflated(15) and frame.deflated(15)[0] == 0xC1
    assert zlib.decompressobj(-15).decompress(frame.deflated(15)[2:] + b"\0\0\xff\xff") == b"x" * 500
    assert zlib.decompressobj(-9).decompress(frame.deflated(8)[2:] + b"\0\0\xff\xff") == b"x" * 500
    short = Frame(TEXT, b"ab")
    assert short.deflated(15) is short.wire()
    assert Frame(BINARY, b"x" * 70_000).wire()[:10] == b"\x82\x7f" + (70_000).to_bytes(8, "big")


# ---- handshake


@pytest.mark.parametrize(
    ("encoded", "token"),
    [
        ("Z29vZC10b2tlbg", "good-token"),
        ("Z29vZC10b2tlbg==", "good-token"),
        ("Z29vZC10b2tlbg=", 500),  # padded in part
        ("Z29vZ", 500),
        ("****", 500),
        ("", ""),
    ],
)
def test_auth_tokens_in_the_subprotocol(encoded: str, token: Any) -> None:
    class UserSocket(Socket):
        pass

    mounts = Mounts([Mount("/socket", UserSocket, auth_token=True)])
    headers = (("sec-websocket-protocol", f"phoenix, base64url.bearer.phx.{encoded}"),)
    request = TransportRequest("GET", "/socket/websocket", "", headers)
    found = mounts.match(request.path)
    assert found is not None
    result = check_websocket(*found, request)
    assert (result.status if isinstance(result, TransportResponse) else result.info["auth_token"]) == token


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("dGhlIHNhbXBsZSBub25jZQ==", True),
        ("", False),
        ("dGhlIHNhbXBsZSBub25jZQ", False),
        ("c2hvcnQ=", False),
        ("dGhlIHNhbXBsZSBub25jZSB0aGF0IGlzIGxvbmc=", False),
        ("dGhlIHNhbXBsZSBub25j!Q==", False),
        (None, False),
    ],
)
def test_a_key_has_sixteen_bytes(key: str | None, accepted: bool) -> None:
    class UserSocket(Socket):
        pass

    headers = (
        ("host", "h"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        *((("sec-websocket-key", key),) if key is not None else ()),
    )
    request = TransportRequest("GET", "/socket/websocket", "", headers)
    found = Mounts([Mount("/socket", UserSocket)]).match(request.path)
    assert found is not None
    candidate = check_websocket(*found, request)
    assert isinstance(candidate, Candidate)
    assert isinstance(upgrade(candidate), WebSocketUpgrade) is accepted


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::1].evil.com",
        "http://[::1]evil.com",
        "http://[::1]x:80",
        "http://localhost.evil.com",
        "http://[::1",
    ],
)
def test_a_host_is_compared_to_its_end(origin: str) -> None:
    policy = OriginPolicy(("//localhost", "//127.0.0.1", "//[::1]"))
    assert not policy.allows(origin, "http", "localhost", None)
    assert policy.allows("http://[::1]:5173", "http", "localhost", None)
