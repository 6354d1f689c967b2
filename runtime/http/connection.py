"""The server side of an HTTP/1.1 connection as a sans-IO state machine: bytes in, events out. Parsing is llhttp's.

Events: a `Request` is a head; pieces of its body and `END` follow unless its `content_length` is 0; nothing follows a `Refusal`.

llhttp is fed pieces that end where a message may end: a head and a chunked body end with an empty line, any other body after
its length. So no piece holds bytes of two messages, and these limits are exact:

- what is not body data (request line and fields; chunk sizes, chunk extensions and trailer fields) is at most `max_head` bytes;
- at most `max_ahead` requests are parsed before they are answered: the bytes behind them wait;
- the bytes behind an upgrade are not parsed. Any other Upgrade is ignored; llhttp cannot do that, so a new parser reads the body.

Trailer fields are counted and dropped (RFC 9110 6.5.1).

A head that came twice in a row is not parsed a third time, as long as the same bytes come with a body of the same length behind
them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from runtime.http.messages import Fields, Request
from runtime.http.options import HttpOptions
from runtime.http.target import Refusal, has_token, is_host, is_method, joined, split

END: Final = True
Event = Request | bytes | Literal[True] | Refusal

_EMPTY_LINE: Final = b"\r\n\r\n"
_PIECE: Final = 16_384
_PIECES: Final = 128  # per call of `receive`: a body of empty lines is split at each of them
_NONE: Final[list[Event]] = []  # llhttp calls back only during `receive`, so nothing is appended to it
_HTTP_1_1: Final = b" HTTP/1.1\r"
_MAX_DIGITS: Final = 20  # of a number of 64 bits
_CHUNK: Final = 16  # bytes of framing per chunk that do not count against `max_head`

HEAD, LENGTH, CHUNKED, UPGRADED, CLOSED = range(5)


class Connection:
    """The state of one connection between two reads.

    Invariants: `pending` requests were returned and not `answered`; the bytes of `rest` are unparsed, behind an upgrade for good.
    """

    __slots__ = (
        "_again", "_beside", "_data", "_events", "_fields", "_ignoring", "_last", "_left", "_max_ahead", "_max_fields", "_muted",
        "_options", "_parser", "_raw", "_refusal", "_tail", "_trailers", "_url", "count", "pending", "phase", "rest",
        "unfinished",
    )  # fmt: skip

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._max_ahead = options.max_ahead
        self._max_fields = options.max_fields
        self._parser: Any = HttpRequestParser(self)
        self._events = _NONE
        self.rest = b""
        self.phase = HEAD
        self.pending = 0
        self.count = 0  # of requests so far
        # True if the last `receive` left bytes unparsed to let other connections run.
        self.unfinished = False
        self._refusal: Refusal | None = None
        self._muted = False
        self._raw = bytearray()  # the head so far, without the piece being parsed
        self._data = b""
        self._last = b""  # the last head that came in one piece
        self._again: Request | None = None  # its request, once it has come twice; returned as copies
        self._begin()

    def _begin(self) -> None:
        self.phase = HEAD
        self._url = b""
        self._fields: Fields = []
        self._beside = 0  # bytes of this message that are not body data
        self._left = 0  # bytes left of a body with a length
        self._trailers = 0
        self._tail = b""
        self._ignoring = False
        if self._raw:
            self._raw = bytearray()

    @property
    def begun(self) -> bool:
        """True within a head."""
        return self.phase == HEAD and self._beside > 0

    def receive(self, data: bytes) -> list[Event]:
        """Parses `data` behind the waiting bytes into events. If that leaves some `unfinished`, call it again with `b""`."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        position, size, pieces = 0, len(data), 0
        self.unfinished = False
        if self.phase == HEAD and not self._beside and self.pending < self._max_ahead and size <= _PIECE:
            again = self._again
            if again is not None and data.startswith(self._last):
                length = size - len(self._last)
                if length == again.content_length:
                    self.pending += 1
                    self.count += 1
                    return [again.copy(), data[-length:], END] if length else [again.copy()]
        events = self._events = []
        while position < size:
            phase = self.phase
            if phase == CLOSED:
                break
            if phase == UPGRADED or (phase == HEAD and self._beside == 0 and self.pending >= self._max_ahead):
                self.rest = data[position:]
                break
            if pieces == _PIECES:
                self.rest, self.unfinished = data[position:], True
                break
            pieces += 1
            if phase == LENGTH:
                end = min(size, position + self._left)
            else:
                end = self._cut(data, position)
            piece = data if end - position == size else data[position:end]
            position = end
            refusal = self._feed(piece)
            if refusal is not None:
                self.phase = CLOSED
                events.append(refusal)
                break
        self._events = _NONE
        return events

    def answered(self) -> None:
        """A request was answered, so another may be parsed: call `receive(b"")` for the waiting bytes."""
        self.pending -= 1

    def close(self) -> None:
        """Stops parsing, and breaks the reference cycle between the parser and this object."""
        self.phase = CLOSED
        self._parser = self._refusal = self._again = None
        self.rest = b""

    # ---- pieces

    def _cut(self, data: bytes, position: int) -> int:
        tail = self._tail
        if tail:
            at = (tail + data[position : position + 3]).find(_EMPTY_LINE)
            if at >= 0:
                return position + at + 4 - len(tail)
        at = data.find(_EMPTY_LINE, position, position + _PIECE)
        return at + 4 if at >= 0 else min(len(data), position + _PIECE)

    def _feed(self, piece: bytes) -> Refusal | None:
        phase = self.phase
        if phase == LENGTH:
            self._left -= len(piece)
        else:
            self._beside += len(piece)
            self._tail = piece[-3:] if len(piece) > 2 else (self._tail + piece)[-3:]
            self._data = piece
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            if self.phase < UPGRADED:
                self._ordinary()
        except HttpParserError as error:
            return self._why(error)
        if self.phase == HEAD:
            if phase != HEAD or not self._beside:
                return None  # the message is complete
            if self._beside > self._options.max_head:
                return Refusal(431, "the head is too large")
            self._raw += piece
        elif self.phase == CHUNKED and phase == CHUNKED:
            self._beside = max(0, self._beside)
            if self._beside > self._options.max_head:
                return Refusal(400, "the chunk extensions and the trailer are too large")
        return None

    def _why(self, error: HttpParserError) -> Refusal:
        raised = self._refusal
        if raised is not None:  # a new one: the stored one references the frames it was raised in
            return Refusal(raised.status, raised.reason)
        cause = error.__context__
        if cause is not None and not isinstance(cause, HttpParserError):
            raise cause  # a bug in our callbacks
        text = str(error)
        if text == "Invalid HTTP version" or text == "Pause on PRI/Upgrade":
            return Refusal(505, "only HTTP/1.1 and HTTP/1.0 are supported")
        if isinstance(error, HttpParserInvalidMethodError) and is_method(self._line()):
            return Refusal(501, "the method is unknown")
        if self.phase == HEAD and self._beside > self._options.max_head:
            return Refusal(431, "the head is too large")
        return Refusal(400, text)

    def _line(self) -> bytes:
        return bytes(self._raw + self._data).lstrip(b"\r\n").partition(b"\r\n")[0]

    def _ordinary(self) -> None:
        """llhttp has stopped at an Upgrade that we ignore: a new parser reads the body or the next head."""
        parser = self._parser = HttpRequestParser(self)
        if self.phase == HEAD:
            return
        self._muted = True
        framing = (
            b"content-length: %d" % self._left if self.phase == LENGTH else b"transfer-encoding: chunked"
        )
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._muted = False

    def _refuse(self, status: int, reason: str) -> Refusal:
        self._refusal = Refusal(status, reason)
        return self._refusal

    # ---- llhttp's callbacks

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._muted:
            return
        if self.phase == HEAD:
            fields = self._fields
            if len(fields) >= self._max_fields:
                raise self._refuse(431, "too many fields")
            fields.append((name.lower(), value))
        else:
            self._trailers += 1
            if self._trailers > self._max_fields:
                raise self._refuse(400, "too many trailer fields")

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        if self._beside > self._options.max_head:
            raise self._refuse(431, "the head is too large")
        try:
            request = self._request()
        except Refusal as refusal:
            self._refusal = refusal
            raise
        self.pending += 1
        self.count += 1
        self._events.append(request)
        if not request.upgrade:
            self._remember(request)

    def _remember(self, request: Request) -> None:
        """Remembers a head that determines all but the content of its message, so that a third one is not parsed."""
        head = b"" if self._raw else self._data
        if head != self._last:
            self._last, self._again = head, None
        elif head and request.keep_alive and not request.expects_continue:
            self._again = request.copy()

    def on_body(self, data: bytes) -> None:
        if self.phase == CHUNKED:
            self._beside -= len(data)
        self._events.append(data)

    def on_chunk_header(self) -> None:
        self._beside -= _CHUNK

    def on_message_complete(self) -> None:
        if self._ignoring:  # llhttp reports the end of the message at an Upgrade
            self._ignoring = False
            return
        phase = self.phase
        if phase != HEAD:
            if phase > CHUNKED:
                return
            if phase == CHUNKED and self._beside > self._options.max_head:
                raise self._refuse(400, "the chunk extensions and the trailer are too large")
            self._events.append(END)
        self._begin()
        if not self._parser.should_keep_alive():
            self.phase = CLOSED

    # ---- the head

    def _request(self) -> Request:
        parser, fields, url = self._parser, self._fields, self._url
        verb: bytes = parser.get_method()
        # `get_http_version` builds a new string each time; nearly all request lines have this form, with single spaces.
        if not self._raw and self._data.startswith(_HTTP_1_1, len(verb) + 1 + len(url)):
            version = "1.1"
        else:
            if (version := parser.get_http_version()) != "1.1":
                self._check_version(version)
            self._check_line(verb)
        if len(url) > self._options.max_target:
            raise Refusal(414, "the target is too long")
        headers = dict(fields)
        if len(headers) != len(fields):
            headers = joined(fields, self._options.single_fields)
        if verb == b"CONNECT":
            raise Refusal(501, "this is no proxy")
        method = verb.decode()
        path, query, authority = split(method, url)
        host = headers.get(b"host")
        if host is None:
            if version == "1.1":
                raise Refusal(400, "a Host is required")
        elif not is_host(host):
            raise Refusal(400, "the Host is malformed")
        if authority is not None:  # it replaces Host (RFC 9112 3.2.2)
            headers[b"host"] = authority
            fields[:] = [pair for pair in fields if pair[0] != b"host"]
            fields.append((b"host", authority))
        length: int | None = 0
        if b"content-length" in headers or b"transfer-encoding" in headers:
            length = self._length(headers, version)
        keep_alive: bool = parser.should_keep_alive()
        request = Request(method, path, query, fields, headers, version, keep_alive, length)
        if length != 0:
            self._left = length or 0
            if b"expect" in headers and version == "1.1":
                if headers[b"expect"].lower() != b"100-continue":
                    raise Refusal(417, "the only supported expectation is 100-continue")
                request.expects_continue = True
        upgrade: bool = parser.should_upgrade()
        if upgrade or length != 0:
            self._expect_body(request, upgrade)
        return request

    def _expect_body(self, request: Request, upgrade: bool) -> None:
        """Sets the phase after this head. With `upgrade` llhttp ends the message here, whatever its length.

        An ignored Upgrade changes nothing (RFC 9110 7.8): the client waits for the 101 before it changes the protocol.
        """
        length = request.content_length
        self._ignoring = upgrade
        if (
            upgrade
            and request.method == "GET"
            and request.version == "1.1"
            and has_token(request.headers.get(b"upgrade", b""), b"websocket")
            and self._options.upgradable(request)
        ):
            if length != 0:
                raise Refusal(400, "a WebSocket request has no body")
            request.upgrade = True
            self.phase = UPGRADED
            return
        if length != 0:
            self.phase = CHUNKED if length is None else LENGTH
            self._beside = 0
        elif upgrade:
            self._begin()
            self._ignoring = True
            if not request.keep_alive:
                self.phase = CLOSED

    def _check_line(self, method: bytes) -> None:
        """Refuses more than one space between the parts of the request line, which llhttp accepts (RFC 9112 3)."""
        # Method, target, two spaces and a version of eight bytes. `_line` also skips empty lines before them.
        length = len(method) + len(self._url) + 10
        if (self._raw or self._data.find(b"\r\n") != length) and len(self._line()) != length:
            raise Refusal(400, "a request line has one space between its parts")

    def _check_version(self, version: str) -> None:
        if version == "0.9":
            raise Refusal(400, "a request line has a version")
        if version != "1.0" or not self._line().endswith(b" HTTP/1.0"):
            raise Refusal(505, "only HTTP/1.1 and HTTP/1.0 are supported")

    def _length(self, headers: dict[bytes, bytes], version: str) -> int | None:
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            if version == "1.0":
                raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
            if coding.lower() != b"chunked":
                raise Refusal(501, "the only supported transfer coding is chunked")
            return None
        # llhttp refuses more than 64 bits, but any number of zeros before, and int() raises for thousands of digits.
        return int(headers[b"content-length"][-_MAX_DIGITS:])
