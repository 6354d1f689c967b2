"""Content coding of public representations (RFC 9110 8.4): compressed once, sent to clients that accept gzip.

Only the OpenAPI description and the pages are compressed: they hold nothing of a caller, so their length reveals nothing
(BREACH). Responses with a user's data, or with text from a request, are never compressed.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from hashlib import sha256

from api.http.request import Headers, Response

SMALLEST = 1024  # bytes: shorter bodies are not compressed


class Representation:
    """A public body, plain and compressed, each with its own ETag."""

    __slots__ = ("_headers", "_plain", "_zipped")

    def __init__(self, body: bytes, headers: Headers) -> None:
        tag = sha256(body).hexdigest()[:24].encode()
        zipped = gzip.compress(body, 9, mtime=0) if len(body) > SMALLEST else body
        self._headers = headers
        self._plain = body, b'"%b"' % tag
        self._zipped = None if len(zipped) >= len(body) else (zipped, b'"%b-gzip"' % tag)

    def response(self, headers: Mapping[bytes, bytes]) -> Response:
        """The answer to a request with these header fields: 200, or 304 if the client has it already."""
        coded = self._zipped is not None and accepts_gzip(headers.get(b"accept-encoding", b""))
        body, etag = self._zipped if coded and self._zipped is not None else self._plain
        validators = [(b"etag", etag)]
        if self._zipped is not None:
            validators.append((b"vary", b"accept-encoding"))
        known = [tag.strip().removeprefix(b"W/") for tag in headers.get(b"if-none-match", b"").split(b",")]
        if etag in known or b"*" in known:
            return Response(304, b"", validators)
        if coded:
            validators.append((b"content-encoding", b"gzip"))
        return Response(200, body, [*self._headers, *validators])


def accepts_gzip(field: bytes) -> bool:
    """Whether an Accept-Encoding field allows gzip, by name or by `*`, with a weight above 0."""
    weights: dict[bytes, bool] = {}
    for member in field.lower().split(b","):
        coding, _, weight = member.partition(b";")
        weights[coding.strip()] = not weight or weight.strip().removeprefix(b"q=").strip(b"0.") != b""
    return weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", False)))
