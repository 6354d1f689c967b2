"""`Phoenix.Transports.LongPoll`: the HTTP requests of longpoll clients, each of which has a session process (`longpoll_server`).

A request may arrive at any node, which forwards it to the node of the session.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from runtime.core.exits import Error, Exit
from runtime.core.modes import IDLE
from runtime.core.pid import Pid
from runtime.otp import gen_server
from runtime.otp.erlang import Dest
from runtime.phoenix import drainer, handshake
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.handshake import Candidate
from runtime.phoenix.longpoll_server import Dispatch, LongPollSession, Poll, Received, Subscribe, elsewhere
from runtime.phoenix.messages import BINARY, TEXT
from runtime.phoenix.mount import LongPollOptions
from runtime.phoenix.request import JSON_TYPE, TransportResponse, error_response
from runtime.phoenix.socket import Socket

_CORS: Final = ("access-control-allow-origin", "*")
_NEWLINE: Final = re.compile(rb"\r\n|\n")
# Of a multiple of 4 bytes; to match groups of 4 takes 60 times as long.
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*+={0,2}")

_log = logging.getLogger("runtime.phoenix")

ReadBody = Callable[[int], Awaitable[bytes | None]]
WhileConnected = Callable[[Awaitable[Any]], Awaitable[Any]]


async def handle(
    endpoint: Endpoint,
    candidate: Candidate | TransportResponse,
    method: str,
    headers: Any,
    read_body: ReadBody,
    wait: WhileConnected,
) -> TransportResponse:
    """Responds to a request to a longpoll path.

    `read_body(limit)` returns the body, or None if it is longer than `limit` bytes. `wait(awaitable)` awaits a poll's reply while
    the client is connected.
    """
    if isinstance(candidate, TransportResponse):
        return _status(403) if candidate.status == 403 else candidate
    try:
        if method == "OPTIONS":
            return _preflight(headers)
        if method == "GET":
            session = await _resume(endpoint, candidate)
            if session is not None:
                return await _listen(session, candidate, wait)
            return await _open(endpoint, candidate)
        if method == "POST":
            session = await _resume(endpoint, candidate)
            if session is None:
                return _status(410)
            return await _publish(session, candidate, headers, read_body)
    except Error as error:
        if error.reason != "noproc":
            raise
        return _status(500)  # the server is stopping
    return TransportResponse(400, b"", (_CORS,))


def _preflight(headers: Any) -> TransportResponse:
    asked = ", ".join(headers("access-control-request-headers"))
    return TransportResponse(
        200,
        b"",
        (
            _CORS,
            ("access-control-allow-headers", asked),
            ("access-control-allow-methods", "get, post, options"),
            ("access-control-max-age", "3600"),
        ),
    )


def _status(status: int, **more: Any) -> TransportResponse:
    # The phoenix client reads the status from the body; without one it would wait forever.
    return TransportResponse(
        200, orjson.dumps({"status": status, **more}), (("content-type", JSON_TYPE), _CORS)
    )


async def _resume(endpoint: Endpoint, candidate: Candidate) -> Dest | None:
    token = candidate.params.get("token")
    if not isinstance(token, str):
        return None
    session: Dest | None = endpoint.sessions.get(token)
    if session is None:
        session = elsewhere(token)
        if session is None:
            return None
    elif isinstance(session, Pid):
        cell = session.cell
        if cell.execution.mode == IDLE and not cell.execution.mailbox:
            return session
    try:
        await gen_server.call(session, Subscribe(), candidate.route.options.pubsub_timeout_ms)
    except Exit:
        return None
    return session


async def _open(endpoint: Endpoint, candidate: Candidate) -> TransportResponse:
    socket = handshake.connect(candidate, endpoint)
    if not isinstance(socket, Socket | TransportResponse):
        socket = await handshake.within(socket, candidate.route.options.connect_timeout)
    if isinstance(socket, TransportResponse):
        return _status(403) if socket.status == 403 else socket
    if socket.socket_id is not None:
        there = endpoint.pubsub.subscribers(socket.socket_id)
        if len(there) >= candidate.route.options.max_sessions:
            return _status(403)
    session = LongPollSession(socket, candidate.route.options)
    pid = drainer.whereis(endpoint.sockets).open(session)
    try:
        await gen_server.call(pid, Subscribe(), None)
    except Exit:
        return _status(500)
    return _status(410, token=session.token, messages=[])


async def _listen(session: Dest, candidate: Candidate, wait: WhileConnected) -> TransportResponse:
    token = candidate.params["token"]
    remote = not isinstance(session, Pid)
    try:
        answer: Any = await wait(gen_server.call(session, Poll(remote), candidate.route.options.window_ms))
    except Exit:
        return _status(204, token=token, messages=[])
    payloads: list[bytes] = answer
    if remote:
        number, payloads = answer
        if not await _confirmed(session, number, candidate.route.options.pubsub_timeout_ms):
            return _status(500)  # the messages are sent again or were lost: the client has to reconnect
    try:
        messages = [payload.decode() for payload in payloads]
    except UnicodeDecodeError:
        _log.warning(  # a client may have asked for it, again and again
            "a binary message cannot go to a longpoll client, which reads JSON only: "
            "the poll is answered with 500"
        )
        return error_response(500)
    return _status(200, token=token, messages=messages)


async def _confirmed(session: Dest, number: int, timeout: int) -> bool:
    try:
        return await gen_server.call(session, Received(number), timeout)
    except Exit:
        return False


async def _publish(
    session: Dest, candidate: Candidate, headers: Any, read_body: ReadBody
) -> TransportResponse:
    options: LongPollOptions = candidate.route.options
    body = await read_body(options.max_body)
    if body is None:
        return error_response(400)
    batch: list[Dispatch]
    if headers("content-type") == ["application/x-ndjson"]:
        try:
            lines = _NEWLINE.split(body, options.max_batch)  # the rest is one line more
            batch = [_line(line) for line in lines[: options.max_batch]]
        except ValueError:
            _log.warning(
                "a line of an ndjson POST is neither an array nor base64: the POST is answered with 500"
            )
            return error_response(500)
    else:
        batch = [Dispatch(body, TEXT)]
    for message in batch:
        try:
            await gen_server.call(session, message, options.window_ms)
        except Exit:
            return _status(408)
    return _status(200)


def _line(line: bytes) -> Dispatch:
    """A line of an ndjson POST. Raises ValueError for what `Base.decode64!/1` raises: padding has to fit."""
    if line.startswith(b"["):
        return Dispatch(line, TEXT)
    if len(line) % 4 or _BASE64.fullmatch(line) is None:
        raise ValueError("neither an array nor base64")
    return Dispatch(base64.b64decode(line), BINARY)
