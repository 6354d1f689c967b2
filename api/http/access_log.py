"""The access log: a line for each response (ACCESS_LOG=all), or for those of 400 and above, limited per client (errors).

It covers all responses of the application, sockets and pages included. Bytes that are no valid request are logged by
`runtime.http`. Paths are logged without their query, which may hold a token.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.http import Request, Response

ALL: Final = logging.getLogger("api.access")
# Its lines are limited per client: see api/operators/logs.py.
ERRORS: Final = logging.getLogger("api.access.errors")

Outcome = Awaitable[Response | None] | Response | None
Handler = Callable[[Request], Outcome]


def access_log(handler: Handler, which: str) -> Handler:
    """`handler` itself if `which` is "off", else a handler that logs its responses: "all", or "errors" only."""
    if which == "off":
        return handler
    least, log = (0, ALL) if which == "all" else (400, ERRORS)
    ALL.setLevel(logging.INFO)  # ACCESS_LOG decides, whatever LOG_LEVEL is

    def logged(request: Request) -> Outcome:
        began = time.perf_counter()
        outcome = handler(request)
        if outcome is None or isinstance(outcome, Response):
            write(request, outcome, began)
            return outcome
        return awaited(request, outcome, began)

    async def awaited(request: Request, outcome: Awaitable[Response | None], began: float) -> Response | None:
        response = await outcome
        write(request, response, began)
        return response

    def write(request: Request, response: Response | None, began: float) -> None:
        status = 499 if response is None else response.status  # nginx's code for a client that has gone
        if status < least:
            return
        seconds = time.perf_counter() - began
        client = request.client[0] if request.client else "-"
        method, path = request.method, request.path.encode("ascii", "backslashreplace").decode()
        access = {
            "method": method,
            "path": path,
            "status": status,
            "bytes": len(response.body)
            if response is not None and isinstance(response.body, bytes)
            else None,
            "seconds": round(seconds, 6),
            "client": client,
            "agent": (request.header(b"user-agent") or "")[:200],
        }
        log.info(
            "%s %s %d %.1f ms %s", method, path, status, seconds * 1000, client, extra={"access": access}
        )

    return logged
