"""The judge of a first request: by its bytes, with and without a parser, the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.http import HttpOptions
from runtime.http.messages import Request, Response
from runtime.http.shedding import INCOMPLETE, LINES, MOST, REASON, Shedding, Verdict

GET = b"GET /work HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /work HTTP/1.1\r\nhost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /work HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
EXPECTING = b"POST /work HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
UPGRADE = b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


def is_work(request: Request) -> bool:
    return request.path == "/work"


def judge(data: bytes, *before: bytes) -> Verdict:
    """The verdict of a judge that has seen what was before."""
    shedding = Shedding(HttpOptions(sheddable=is_work))
    for each in before:
        shedding.judge(each)
    return shedding.judge(data)


def described(verdict: Verdict) -> object:
    return (verdict.method, verdict.path) if isinstance(verdict, Request) else verdict


@pytest.mark.parametrize("data", [GET, POST, CHUNKED, EXPECTING])
def test_a_whole_request_may_be_refused(data: bytes) -> None:
    expected = data.split()[0].decode(), "/work"
    assert described(judge(data)) == described(judge(data, data)) == expected


@pytest.mark.parametrize("data", [POST, CHUNKED, EXPECTING])
def test_the_rest_of_a_request_is_waited_for(data: bytes) -> None:
    """Data that arrives after the close would cause a reset."""
    head = data.index(b"\r\n\r\n") + 4
    for end in range(1, len(data)):
        if data is EXPECTING or end != head or b"Content-Length" in data or b"chunked" in data:
            assert judge(data[:end]) == judge(data[:end], data) == INCOMPLETE, data[:end]


@pytest.mark.parametrize(
    "data", [GET + GET, POST + GET, POST + POST, CHUNKED + GET, b"\x16\x03\x01", b"GET /work\r\n\r\n"]
)
def test_several_requests_and_what_is_none_are_served(data: bytes) -> None:
    assert judge(data) is judge(data, GET, POST) is None


def test_what_must_be_served_is_not_waited_for() -> None:
    protected = POST.replace(b"/work", b"/health")
    assert judge(protected[:-1], GET, POST) is judge(protected, GET, POST) is None


def test_a_request_that_is_too_long_is_served() -> None:
    long = b"POST /work HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % MOST
    assert judge(long, POST) is None
    assert judge(long + bytes(MOST - len(long))) is None
    assert judge(b"GET /work HTTP/1.1\r\nx: " + b"x" * (MOST - 23), GET) is None


def test_an_upgrade_is_told_from_a_request_with_its_line() -> None:
    options = HttpOptions(upgradable=lambda _request: True)  # all but upgrades may be refused
    shedding = Shedding(options)
    ordinary = b"GET /socket HTTP/1.1\r\nhost: x\r\n\r\n"
    assert described(shedding.judge(ordinary)) == ("GET", "/socket")
    assert shedding.judge(UPGRADE) is None
    assert described(shedding.judge(ordinary)) == ("GET", "/socket")


def test_a_known_line_needs_no_parser() -> None:
    asked: list[Request] = []

    def sheddable(request: Request) -> bool:
        asked.append(request)
        return True

    shedding = Shedding(HttpOptions(sheddable=sheddable))
    for token in (b"a", b"b", b"c"):
        assert shedding.judge(GET.replace(b"host: x", b"host: x\r\nauthorization: " + token)) is not None
    assert len(asked) == 1


def test_what_is_remembered_has_a_bound() -> None:
    asked: list[str] = []

    def sheddable(request: Request) -> bool:
        asked.append(request.path)
        return True

    shedding = Shedding(HttpOptions(sheddable=sheddable))
    for number in (*range(LINES + 1), LINES, 0):
        assert shedding.judge(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number) is not None
    assert len(asked) == LINES + 2 and asked[-1] == "/0"


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n"])
def test_empty_lines_before_a_request_are_no_request_line(before: bytes) -> None:
    protected = before + GET.replace(b"/work", b"/health")
    assert judge(protected, before + GET, before + GET) is None


FIELDS = st.lists(
    st.sampled_from(
        [
            b"host: x", b"Host: y", b"content-length: 3", b"Content-Length:  4 ", b"content-length: x", b"content-length: 0",
            b"content-length: 99999", b"transfer-encoding: chunked", b"expect: 100-continue", b"upgrade: websocket",
            b"connection: upgrade", b"connection: close", b"x-content-length: 2", b"authorization: Bearer content-length: 1",
        ]
    ),
    max_size=4,
)  # fmt: skip


@given(FIELDS, st.sampled_from([b"", b"abc", b"abcd", b"3\r\nabc\r\n0\r\n\r\n", GET]), st.integers(0, 200))
def test_with_and_without_a_parser_the_verdict_is_the_same(
    fields: list[bytes], body: bytes, end: int
) -> None:
    """But a head that is not valid may be refused instead of answered with what is wrong; and what is served needs no verdict."""
    data = (b"POST /work HTTP/1.1\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body)[:end]
    parsed, quick = judge(data), judge(data, GET, POST)
    assert quick is None or parsed is None or described(quick) == described(parsed)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_verdict(data: bytes) -> None:
    for each in (data, b"POST /work HTTP/1.1\r\n" + data):
        assert isinstance(judge(each, GET, POST), Request | str | None)


def test_a_refusal_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def refusal(status: int, reason: str) -> Response:
        made.append(status)
        return Response(status, reason.encode(), [(b"retry-after", b"1")])

    shedding, now = Shedding(HttpOptions(refusal=refusal)), 1_000_000_000.0
    monkeypatch.setattr("runtime.http.response_encoder.time", lambda: now)
    request = Request("GET", "/work", "", [], {})
    first = shedding.refusal(request)
    assert first.startswith(b"HTTP/1.1 503") and first.endswith(b"\r\n\r\n" + REASON.encode())
    assert b"\r\nretry-after: 1\r\n" in first and b"\r\nconnection: close\r\n" in first
    head = shedding.refusal(Request("HEAD", "/work", "", [], {}))
    assert first == head + REASON.encode()
    assert shedding.refusal(request) is first and made == [503]
    now += 1
    assert b"01:46:41" in shedding.refusal(request) and made == [503, 503]
