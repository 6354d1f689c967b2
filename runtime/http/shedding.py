"""Load shedding, sans-IO: which first request of a connection may be refused, judged by its bytes, and the refusal's bytes.

Under overload most connections are refused, so a verdict has to be much cheaper than a response. Only the first head with a
request line is parsed. Of others with that line it is enough to find the end: they are refused like the first, whatever their
fields say. A head with a field that could change what follows it is parsed each time.
"""

from __future__ import annotations

from typing import Final, Literal

from runtime.http import response_encoder
from runtime.http.connection import END, Connection
from runtime.http.messages import Request
from runtime.http.options import HttpOptions
from runtime.http.target import Refusal

INCOMPLETE: Final = "incomplete"
Verdict = Request | Literal["incomplete"] | None

MOST: Final = 16_384  # bytes of a request that can be refused
REASON: Final = "too many connections wait"
LINES: Final = 1024
LONGEST_LINE: Final = 256  # bytes
_EMPTY_LINE: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_DECIDING: Final = (b"\r\nexpect:", b"\r\ntransfer-encoding:", b"\r\nupgrade:")


class Shedding:
    """The judge of one listening socket.

    Invariant: a request line in `_lines` has been parsed, and `HttpOptions.sheddable` was True for it.
    """

    __slots__ = ("_date", "_lines", "_options", "_refusal", "_refusal_head")

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._lines: dict[bytes, Request] = {}
        self._date = b""
        self._refusal = self._refusal_head = b""

    def judge(self, data: bytes) -> Verdict:
        """The request that `data` consists of, if it may be refused; INCOMPLETE if the rest must come first; None: serve it.

        Data that arrives after the close would cause a reset, and the client could lose the refusal. So a request is refused when
        it is complete, or waits for "100 Continue"; one of more than MOST bytes is served.
        """
        request = self._lines.get(data[: data.find(b"\r\n")])
        if request is not None:
            size = _size(data)
            if size is not None:
                return _compared(request, len(data), size)
        return self._parse(data)

    def refusal(self, request: Request) -> bytes:
        """The 503 response. `HttpOptions.refusal` makes it once a second."""
        date = response_encoder.date_line()
        if date is not self._date:
            self._date = date
            response = self._options.refusal(503, REASON)
            self._refusal = response_encoder.whole(response, response_encoder.CLOSE)
            self._refusal_head = response_encoder.whole(response, response_encoder.CLOSE, False)
        return self._refusal_head if request.method == "HEAD" else self._refusal

    def _parse(self, data: bytes) -> Verdict:
        parser = Connection(self._options)
        events = parser.receive(data)
        begun = parser.begun
        parser.close()
        if not events:
            return INCOMPLETE if begun and len(data) < MOST else None
        request, body = events[0], events[1:]
        if not isinstance(request, Request) or not self._options.sheddable(request):
            return None
        self._remember(request, data)
        if begun or any(isinstance(event, Request | Refusal) for event in body):
            return None  # more than one request
        if body[-1] is END if body else request.content_length == 0 or request.expects_continue:
            return request
        return INCOMPLETE if max(len(data), request.content_length or 0) < MOST else None

    def _remember(self, request: Request, data: bytes) -> None:
        line = data[: data.find(b"\r\n")]
        if line and len(line) <= LONGEST_LINE:
            if len(self._lines) >= LINES:
                self._lines.clear()
            without_secrets = Request(request.method, request.path, request.query, [], {})
            self._lines[line] = without_secrets


def _size(data: bytes) -> int | None:
    """The bytes of the request that `data` begins with, 0 while its head is incomplete; None if it takes a parser to know."""
    end = data.find(_EMPTY_LINE)
    if end < 0:
        return 0
    head = data[: end + 2].lower()
    for field in _DECIDING:
        if field in head:
            return None
    at = head.find(_LENGTH)
    if at < 0:
        return end + 4
    try:
        return end + 4 + int(head[at + len(_LENGTH) : head.find(b"\r\n", at + 2)])
    except ValueError:
        return None


def _compared(request: Request, received: int, size: int) -> Verdict:
    if received == size:
        return request
    return INCOMPLETE if max(received, size) < MOST and (received < size or not size) else None
