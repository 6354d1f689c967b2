"""A request that fails leaves nothing for the garbage collector: an error that holds itself would keep all that was sent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from actors.settings import load
from api.app import App
from runtime.http.body import Body
from runtime.http.messages import Request, Response
from tests.support.server import SECRET

SIGN_IN = "/api/v1/auth/login"
HS256 = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.YQ"


class Origin:
    """A connection that is not there."""

    scheme = "http"

    def peer(self) -> tuple[str, int]:
        """Who asks."""
        return ("192.0.2.1", 1)

    def disconnected(self) -> asyncio.Future[None]:
        """Never."""
        return asyncio.get_running_loop().create_future()

    def body_wanted(self) -> None:
        """All bodies are there."""


def request(method: str, path: str, body: bytes | None = None, *fields: tuple[bytes, bytes]) -> Request:
    """As a connection makes it."""
    path, _, query = path.partition("?")
    lines = [(b"host", b"x"), *fields]
    made = Request(method, path, query, lines, dict(lines))
    made.link = Origin()
    if body is not None:
        made.content_length = len(body)
        made.body = Body(len(body))
        made.body.feed(body)
        made.body.end()
    return made


def token(value: bytes) -> tuple[bytes, bytes]:
    """The field that signs in."""
    return (b"authorization", b"Bearer " + value)


FAILING: dict[str, Any] = {
    "no path": ("GET", "/x"),
    "another method": ("PUT", "/health"),
    "no token": ("GET", "/api/v1/auth/me"),
    "another scheme": ("GET", "/api/v1/auth/me", None, (b"authorization", b"Basic a")),
    "no token at all": ("GET", "/api/v1/auth/me", None, token(b"a.b.c")),
    "a token of nobody": ("GET", "/api/v1/auth/me", None, token(HS256)),
    "a long token": ("GET", "/api/v1/auth/me", None, token(b"eyJ" * 16_000)),
    "a token, optional": ("POST", "/api/v1/auth/logout", b"{}", token(b"a.b.c")),
    "no JSON": ("POST", SIGN_IN, b"{"),
    "deep JSON": ("POST", SIGN_IN, b"[" * 10_000),
    "a key twice": ("POST", SIGN_IN, b'{"email":"a","email":"b"}'),
    "fields that don't fit": ("POST", SIGN_IN, b'{"email":1}'),
    "half of a pair": ("POST", SIGN_IN, b'{"email":"\\ud800","password":"x"}'),
    "too large": ("POST", SIGN_IN, b"x" * 300_000),
    "another type": ("POST", SIGN_IN, b"{}", (b"content-type", b"a/b")),
    "compressed": ("POST", SIGN_IN, b"{}", (b"content-encoding", b"gzip")),
    "an odd handshake": ("GET", "/socket/websocket?vsn[]=1"),
    "an odd session": ("GET", "/socket/longpoll?token[]=1"),
    "no upgrade": ("GET", "/socket/websocket?vsn=2.0.0"),
}


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    """All operations, without the processes."""
    made = App(load({"SECRET_KEY_BASE": SECRET}))
    yield made
    made.close()


@pytest.mark.parametrize("name", FAILING)
def test_nothing_is_left_of_a_request_that_fails(app: App, name: str) -> None:
    async def ask() -> int:
        outcome = app.handler(request(*FAILING[name]))
        response = outcome if isinstance(outcome, Response) or outcome is None else await outcome
        assert response is not None
        return response.status

    async def left() -> list[Any]:
        assert await ask() >= 200  # the first may fill caches
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                await ask()
            gc.collect()
            return [each for each in gc.garbage if isinstance(each, Request | BaseException)]
        finally:
            gc.set_debug(0)
            gc.enable()
            gc.garbage.clear()

    assert asyncio.run(left()) == []
