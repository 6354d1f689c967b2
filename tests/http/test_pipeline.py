"""The pipeline without a socket: what is handled at once, what waits, what a refusal means to each."""

from __future__ import annotations

import asyncio

import pytest

from runtime.http.body import BodyError
from runtime.http.messages import Peer, Request
from runtime.http.options import HttpOptions
from runtime.http.pipeline import Pipeline
from runtime.http.target import Refusal

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
NO_REQUEST = b"no request\r\n\r\n"


class Origin:
    """A connection without a socket."""

    scheme = "http"

    def peer(self) -> Peer | None:
        """Nobody."""
        return None

    def disconnected(self) -> asyncio.Future[None]:
        """Not asked here."""
        raise NotImplementedError

    def body_wanted(self) -> None:
        """Nothing waits here."""


def arrived(pipeline: Pipeline, *pieces: bytes, idle: bool = True) -> list[Request | None]:
    origin = Origin()
    return [pipeline.receive(piece, origin, idle) for piece in pieces]


def waiting(pipeline: Pipeline) -> list[str | int]:
    return [each.status if isinstance(each, Refusal) else each.path for each in pipeline.queue]


def test_a_whole_request_alone_does_not_wait() -> None:
    pipeline = Pipeline(HttpOptions())
    got, posted = arrived(pipeline, GET % 1, POST % 3 + b"abc")
    assert got is not None and got.path == "/1"
    assert posted is not None and posted.body.whole(3) == b"abc"
    assert not pipeline.queue and pipeline.arriving is None


def test_all_else_waits_in_order() -> None:
    pipeline = Pipeline(HttpOptions())
    assert arrived(pipeline, GET % 1 + GET % 2, GET % 3) == [None, None]
    assert arrived(pipeline, GET % 4, idle=False) == [None]
    assert waiting(pipeline) == ["/1", "/2", "/3", "/4"]


def test_it_is_full_while_as_many_wait_as_may() -> None:
    pipeline = Pipeline(HttpOptions(max_ahead=2))
    arrived(pipeline, GET % 1 + GET % 2)
    assert pipeline.full
    arrived(pipeline, GET % 3)
    assert (waiting(pipeline), pipeline.full) == (["/1", "/2"], True)
    pipeline.queue.clear()
    pipeline.http.answered()
    pipeline.http.answered()
    (third,) = arrived(pipeline, b"")
    assert third is not None and third.path == "/3" and not pipeline.full


def test_it_is_full_while_a_body_is_not_read() -> None:
    pipeline = Pipeline(HttpOptions(max_buffered=10, max_drained=5))
    arrived(pipeline, POST % 20 + b"a" * 10)
    body = pipeline.arriving
    assert body is not None and not pipeline.full and not pipeline.can_drain(body)
    arrived(pipeline, b"a" * 5)
    assert pipeline.full and pipeline.can_drain(body)
    arrived(pipeline, b"a" * 5)
    assert pipeline.arriving is None and not pipeline.can_drain(body) and body.whole(20) == b"a" * 20


def test_bodies_that_are_whole_count_while_they_wait() -> None:
    pipeline = Pipeline(HttpOptions(max_buffered=10))
    arrived(pipeline, (POST % 6 + b"a" * 6) * 2)
    assert pipeline.full
    pipeline.queue.pop(0)
    assert not pipeline.full
    arrived(pipeline, POST % 6 + b"a" * 5, idle=False)
    assert pipeline.arriving is not None and pipeline.full


def test_a_refusal_waits_behind_what_came_before() -> None:
    pipeline = Pipeline(HttpOptions())
    arrived(pipeline, GET % 1 + NO_REQUEST, GET % 2)
    assert (waiting(pipeline), pipeline.refused) == (["/1", 400], True)


def test_a_refusal_within_a_body_is_for_whoever_reads_it() -> None:
    pipeline = Pipeline(HttpOptions())
    arrived(pipeline, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = pipeline.arriving
    assert body is not None
    arrived(pipeline, b"no size\r\n")
    assert (waiting(pipeline), pipeline.refused, pipeline.arriving) == (["/"], True, None)
    with pytest.raises(BodyError, match="chunk") as caught:
        asyncio.run(body.read(100))
    assert caught.value.status == 400
