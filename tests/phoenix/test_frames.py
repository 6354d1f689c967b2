"""WebSocket frames of RFC 6455 in any split, and permessage-deflate of RFC 7692."""

from __future__ import annotations

import itertools
import random
import zlib
from typing import Any

import pytest

from runtime.core.turns import HEAVY
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.phoenix.frames import (
    FRAMES,
    FREE_OF_RATIO,
    INFLATE_STEP,
    PAUSE,
    FrameParser,
    ProtocolError,
    answer_to_close,
)
from runtime.phoenix.messages import BINARY, TEXT, Frame
from tests.phoenix.client import client_frame

# ---- frames


def parser(**options: Any) -> FrameParser:
    return FrameParser(
        options.pop("frame", 1024),
        options.pop("message", 4096),
        options.pop("deflate", None),
        max_inflate_ratio=options.pop("ratio", None),
        free_of_ratio=options.pop("free", FREE_OF_RATIO),
    )


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


def test_others_have_their_turn_before_a_heavy_message() -> None:
    heavy, light = b"x" * HEAVY, b"x" * (HEAVY - 1)
    frames = (
        client_frame(1, light)
        + client_frame(1, heavy)
        + client_frame(2, heavy[1:], 0)
        + client_frame(0, b"y")
    )
    found = list(parser(frame=0, message=1 << 20).feed(frames))
    assert [kind for kind, _ in found] == [TEXT, PAUSE, TEXT, PAUSE, BINARY]


def test_a_heavy_message_that_waits_for_its_turn_is_kept_once() -> None:
    reader, frame = parser(frame=0, message=1 << 20), client_frame(1, b"x" * HEAVY)
    assert list(reader.feed(frame[:100])) == []
    events = reader.feed(frame[100:] + client_frame(9, b"p") + frame[:10])
    assert next(events)[0] == PAUSE and reader.pending < 100
    assert [kind for kind, _ in events] == [TEXT, 9] and reader.pending == 10


def test_nothing_is_kept_behind_a_protocol_error() -> None:
    reader, wrong = parser(), client_frame(3, b"") + b"x" * 1000
    for data in (client_frame(1, b"begun", 0), client_frame(1, b"x" * 100)[:50]):
        assert list(reader.feed(data)) == []
    with pytest.raises(ProtocolError):
        list(reader.feed(b"x" * 56 + wrong))
    assert reader.pending == 0


def test_a_frame_has_no_more_than_a_message_may() -> None:
    for frame in (0, 5_000):
        reader = parser(frame=frame, message=1_000)
        assert list(reader.feed(client_frame(1, b"x" * 1_000))) == [(TEXT, b"x" * 1_000)]
        with pytest.raises(ProtocolError, match="too large"):
            list(reader.feed(client_frame(1, b"x" * 1_200)[:20]))


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


def test_the_first_and_the_last_fragment_may_be_empty() -> None:
    frames = client_frame(1, b"", 0) + client_frame(0, b"a", 0) + client_frame(0, b"")
    assert list(parser().feed(frames)) == [(1, b"a")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(1, b"\xc3", 0) + client_frame(0, b"\x28"), 1007),
        (client_frame(0, b"x"), 1002),
        (client_frame(1, b"x", 0) + client_frame(2, b"x"), 1002),
        (client_frame(1, b"x", 0) + client_frame(0, b"", 0), 1008),
        (client_frame(0, b"", 0), 1002),
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


@pytest.mark.parametrize("free", [0, FREE_OF_RATIO])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_message_that_inflates_to_more_than_its_share_is_refused(allowed: bool, free: int) -> None:
    text = b"x" * (free + 4_001)
    packed = deflated(zlib.compressobj(wbits=-15), text)
    ratio = len(text) // len(packed) + allowed
    reader = parser(
        message=100_000, deflate=negotiate_deflate(["permessage-deflate"]), ratio=ratio, free=free
    )
    feed = reader.feed(client_frame(1, packed, 0xC0))
    if allowed:
        assert list(feed) == [(TEXT, text)]
        return
    with pytest.raises(ProtocolError) as error:
        list(feed)
    assert error.value.code == 1009


def test_the_same_message_again_is_in_nobodys_way() -> None:
    """With context takeover it comes in a few bytes."""
    text = random.Random(0).randbytes(FREE_OF_RATIO // 2).hex().encode()
    compressor = zlib.compressobj(9, wbits=-15)
    reader = parser(frame=0, message=100_000, deflate=negotiate_deflate(["permessage-deflate"]), ratio=25)
    for limit in (len(text), len(text) // 25):
        packed = deflated(compressor, text)
        assert len(packed) < limit
        assert list(reader.feed(client_frame(1, packed, 0xC0))) == [(TEXT, text)]


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
