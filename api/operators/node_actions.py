"""Operators' endpoints that act on a node as a whole: its log levels, and the drain of its sockets.

Every action is audited before it is done.
"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import msgspec

from actors.endpoint import SOCKETS
from api.context import ApiRequest
from api.http.decoder import Decoder
from api.http.node_routes import NodeRoutes
from api.http.request import Response, json_response
from api.http.router import ADMINS
from api.operators.actions import Done
from api.security import audit
from runtime import erlang
from runtime.observe import process_info
from runtime.phoenix import drainer

routes = NodeRoutes("admin", lane=None)


class LogLevel(msgspec.Struct, frozen=True):
    """A level for one logger; an empty `logger` is the root logger."""

    level: Literal["debug", "info", "warning", "error", "critical"]
    logger: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_.]*$(?!\n)")] = ""


@routes.get("/admin/log-level", summary="Log levels", roles=ADMINS, responses={200: Done})
async def log_levels(request: ApiRequest) -> Response:
    """The level of the root logger, and of each logger that has its own."""
    own = {
        name: logging.getLevelName(logger.level).lower()
        for name, logger in sorted(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return json_response(
        {"result": "ok", "level": logging.getLevelName(logging.root.level).lower(), "loggers": own}
    )


@routes.put(
    "/admin/log-level",
    summary="Set a log level",
    roles=ADMINS,
    body=LogLevel,
    responses={200: Done},
)
async def set_log_level(request: ApiRequest) -> Response:
    """Sets a level until the server ends."""
    wanted: LogLevel = request.body
    await audit.act(request, "log.level", wanted.logger or "root", {"level": wanted.level})
    logging.getLogger(wanted.logger or None).setLevel(wanted.level.upper())
    return json_response({"result": "set", "logger": wanted.logger or "root", "level": wanted.level})


class Drain(msgspec.Struct, frozen=True):
    """How many sockets are closed per second; after `timeout_ms` the rest is closed at once."""

    per_second: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] = 30_000


_DRAIN = Decoder(Drain)


class Draining(msgspec.Struct, frozen=True):
    """How many sockets are being closed."""

    result: str
    sockets: int


@routes.post(
    "/admin/drain",
    summary="Drain the node",
    roles=ADMINS,
    responses={200: Draining},
    raw_body=True,
    body_schema=Drain,
)
async def drain(request: ApiRequest) -> Response:
    """Closes all sockets of the node in batches, one a second, so that clients reconnect elsewhere. The server keeps serving."""
    wanted: Drain = _DRAIN.json(request.body or b"{}")
    sockets = erlang.whereis(SOCKETS)
    count = 0 if sockets is None else len(process_info.peek(sockets, "transports") or ())
    await audit.act(request, "node.drain", SOCKETS, {"sockets": count, "per_second": wanted.per_second})
    if sockets is not None:
        erlang.spawn(drainer.drain, SOCKETS, wanted.per_second, 1000, wanted.timeout_ms)
    return json_response({"result": "draining", "sockets": count})
