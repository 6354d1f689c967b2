"""Content codings of what is the same for everybody (RFC 9110 8.4): compressed once, sent to those who ask for gzip.

Only the description and the pages are: their bytes hold nothing of a caller, so there is nothing that lengths could tell
(BREACH). An answer with somebody's own data, or with what a request said, never is.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from hashlib import sha256

from api.http.request import Headers, Response

SMALLEST = 1024  # bytes that are compressed


class Representation:
    """A body for everybody, as it is and compressed, each with its own ETag."""

    __slots__ = ("_headers", "_plain", "_zipped")

    def __init__(self, body: bytes, headers: Headers) -> None:
        tag = sha256(body).hexdigest()[:24].encode()
        zipped = gzip.compress(body, 9, mtime=0) if len(body) > SMALLEST else body
        self._headers = headers
        self._plain = body, b'"%b"' % tag
        self._zipped = None if len(zipped) >= len(body) else (zipped, b'"%b-gzip"' % tag)

    def response(self, asked: Mapping[bytes, bytes]) -> Response:
        """The answer to a request with these header fields: 304 for who has it."""
        coded = self._zipped is not None and accepts_gzip(asked.get(b"accept-encoding", b""))
        body, etag = self._zipped if coded and self._zipped is not None else self._plain
        headers = [(b"etag", etag)]
        if self._zipped is not None:
            headers.append((b"vary", b"accept-encoding"))
        known = [tag.strip().removeprefix(b"W/") for tag in asked.get(b"if-none-match", b"").split(b",")]
        if etag in known or b"*" in known:
            return Response(304, b"", headers)
        if coded:
            headers.append((b"content-encoding", b"gzip"))
        return Response(200, body, [*self._headers, *headers])


def accepts_gzip(field: bytes) -> bool:
    """Whether an Accept-Encoding names gzip, or any coding, with a weight above 0."""
    weights: dict[bytes, bool] = {}
    for member in field.lower().split(b","):
        coding, _, weight = member.partition(b";")
        weights[coding.strip()] = not weight or weight.strip().removeprefix(b"q=").strip(b"0.") != b""
    return weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", False)))
