"""Serializes responses: the head, and the body as a whole or in pieces (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Final

from runtime.http.messages import Field, Fields, Response

CLOSE: Final = b"connection: close\r\n"
KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_STATUS_LINES: Final = {
    each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus
}
# The statuses whose responses have no body (RFC 9110 6.4.1), and so no Content-Length (8.6).
_BODILESS: Final = frozenset({*range(100, 200), 204, 304})
_NO_SECOND: Final = -1
_breaks: Final = re.compile(rb"[\r\n\0]").search

_lines: dict[Field, bytes] = {}
_date = (_NO_SECOND, b"")


def constant(name: bytes, value: bytes) -> Field:
    """A field that many responses have: its line is built and checked once. Raises ValueError if it contains CR, LF or NUL."""
    field = (name, value)
    _lines[field] = _line(field)
    return field


def whole(response: Response, connection: bytes, with_body: bool = True) -> bytes:
    """Head and body of a response. `connection` is CLOSE, KEEP_ALIVE or empty. Raises ValueError as `head` does."""
    status, body = response.status, response.body
    if status in _BODILESS:
        return head(status, response.headers, connection, date_line())
    parts = _begun(status, response.headers)
    parts.append(b"content-length: %d\r\n%b%b\r\n" % (len(body), connection, date_line()))
    if with_body:
        parts.append(body)
    return b"".join(parts)


def head(status: int, fields: Fields, *lines: bytes) -> bytes:
    """The head of a response.

    `lines` are complete field lines with their CRLF, or empty. Raises ValueError for a field that contains CR, LF or NUL.
    """
    return b"".join([*_begun(status, fields), *lines, b"\r\n"])


def ends_with_connection(response: Response, version: str) -> bool:
    """True if the body of a streamed response ends with the connection (RFC 9112 6.3)."""
    return not _is_chunked(response, version) and not _is_sized(response)


async def pieces(
    response: Response, version: str, connection: bytes, with_body: bool
) -> AsyncIterator[bytes]:
    """Yields the head and then the body of a response whose body is an async iterator.

    The body is chunked if `version` is 1.1, unless the response has a Content-Length. Raises what the iterator raises; the
    response is then incomplete.
    """
    chunked = _is_chunked(response, version)
    framing = _CHUNKED if chunked else b""
    yield head(response.status, response.headers, framing, connection, date_line())
    async for part in response.body:
        if part and with_body:
            yield b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
    if chunked and with_body:
        yield _LAST_CHUNK


def date_line() -> bytes:
    """The Date field's line (RFC 9110 6.6.1), built once a second."""
    global _date
    second = int(time())
    if _date[0] != second:
        _date = (second, b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n")
    return _date[1]


def _is_sized(response: Response) -> bool:
    return any(name == b"content-length" for name, _ in response.headers)


def _is_chunked(response: Response, version: str) -> bool:
    return version == "1.1" and response.status not in _BODILESS and not _is_sized(response)


def _begun(status: int, fields: Fields) -> list[bytes]:
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for field in fields:
        lines.append(_lines.get(field) or _line(field))
    return lines


def _line(field: Field) -> bytes:
    line = b"%b: %b" % field
    if _breaks(line):
        raise ValueError("a field of an answer holds CR, LF or NUL")
    return line + b"\r\n"
