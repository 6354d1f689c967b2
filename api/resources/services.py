"""Proxy to the Go services: `/api/v1/services/{name}/PATH` is forwarded to the service's `/PATH`.

The caller's token is forwarded (the service verifies it) and so is the request id. The answer is the service's own; if there is
none, the API's error says why: 503 with Retry-After, 504 or 502.
"""

from __future__ import annotations

from typing import Final

from actors.bridges.go_bridge import BridgeError, Forward, ServiceResponse
from actors.bridges.supervisor import bridge_name
from api.context import ApiRequest
from api.http.errors import ApiError, unavailable
from api.http.request import Response
from api.http.router import ANYTHING, ResponseSpec, Routes
from runtime import gen_server

routes = Routes("services")

FORWARDED_HEADERS: Final = (
    b"authorization", b"content-type", b"accept", b"accept-language", b"idempotency-key", b"if-none-match",
    b"if-match", b"traceparent", b"tracestate",
)  # fmt: skip
PREFIX: Final = "/api/v1/services/"
ANSWERS: Final = {
    200: ResponseSpec(None, ANYTHING, "The service's answer"),
    0: ResponseSpec(None, ANYTHING, "The service's answer, whatever its status"),
}


async def forward(request: ApiRequest) -> Response:
    """Forwards the request to the Go service of this name, and returns its answer."""
    service = request.params["name"]
    if service not in request.context.settings.go_services():
        raise ApiError(404, f"There is no service {service!r}")
    headers = [
        (name.decode(), value) for name in FORWARDED_HEADERS if (value := request.header(name)) is not None
    ]
    headers.append(("x-request-id", request.request_id))
    match await gen_server.call(
        bridge_name(service),
        Forward(request.method, _target(request), tuple(headers), request.body or b""),
        None,
    ):
        case ServiceResponse(status, answered, body):
            return Response(
                status,
                body,
                [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in answered],
            )
        case BridgeError("timeout", message):
            raise ApiError(504, message)
        case BridgeError("bad_answer", message):
            raise ApiError(502, message)
        case BridgeError(code, message, retry_after):
            raise unavailable(
                message,
                code="overloaded" if code == "overload" else None,
                after=max(1, round(retry_after / 1000)),
            )
    raise ApiError(500)


def _target(request: ApiRequest) -> str:
    """The rest of the path and the query as the caller sent them, byte for byte."""
    rest = request.http.path.lstrip("/").split("/", 4)
    path = rest[4] if len(rest) > 4 else ""
    if any(segment in (".", "..") for segment in request.params.get("path", "").split("/")):
        raise ApiError(400, "The path must not contain . or .. segments")
    query = request.http.query
    return f"/{path}?{query}" if query else f"/{path}"


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    routes.add(
        _method,
        PREFIX + "{name:flag}/{path:path}",
        summary=f"Forward {_method} to a Go service",
        responses=ANSWERS,
        any_query=True,
        raw_body=_method not in ("GET", "DELETE"),
        errors=(502, 504),
    )(forward)
