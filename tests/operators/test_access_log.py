"""E11: the access log, and the lines of answers that failed: none is silent, and none repeats itself."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from actors.settings import load
from api.app import App
from api.http.errors import FailureLog, unavailable
from runtime.http import HttpOptions
from runtime.http.server import Listener, bind
from tests.operators.test_logs import PROD
from tests.support.server import PATIENCE, Server, wait_until


@pytest.fixture(scope="module")
def server_environment() -> Mapping[str, str]:
    return {"ACCESS_LOG": "all", "LOG_LEVEL": "warning"}


async def asked(environment: dict[str, str], paths: list[str]) -> None:
    """An application without actors is asked for these paths."""
    app = App(load(environment))
    [bound] = bind("127.0.0.1", 0)
    listener = Listener(app.handler, HttpOptions(upgradable=app.upgradable, refusal=app.refusal))
    await listener.listen([bound])
    url = "http://{}:{}".format(*bound.getsockname())
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        for path in paths:
            await client.get(path, headers={"user-agent": "a test"})
    listener.abort()
    app.close()


PATHS = [
    "/health",
    "/nothing?token=secret",
    "/api/v1/auth/me",
    "/socket/websocket?vsn=9&token=secret",
    "/admin",
]


@pytest.mark.parametrize(
    ("which", "statuses"), [("off", []), ("errors", [404, 401, 403]), ("all", [200, 404, 401, 403, 200])]
)
def test_the_answers_that_are_asked_for_are_told(
    configured: Callable[..., io.StringIO], which: str, statuses: list[int]
) -> None:
    environment = PROD | {"ACCESS_LOG": which, "LOG_LEVEL": "error"}
    stream = configured(**environment)
    asyncio.run(asked(environment, PATHS))
    lines = [line for line in map(json.loads, stream.getvalue().splitlines()) if "access" in line]
    assert [line["access"]["status"] for line in lines] == statuses
    assert "secret" not in stream.getvalue()
    for line in lines:
        access = line["access"]
        assert access["client"] == "127.0.0.1" and access["agent"] == "a test" and access["method"] == "GET"
        assert access["seconds"] > 0 and line["level"] == "info"


def test_errors_of_one_client_are_bounded(configured: Callable[..., io.StringIO]) -> None:
    environment = PROD | {"ACCESS_LOG": "errors"}
    stream = configured(**environment)
    asyncio.run(asked(environment, ["/nothing"] * 300))
    assert stream.getvalue().count('"status":404') < 150


def test_a_real_server_tells_of_each(server: Server) -> None:
    with server.client() as client:
        client.get("/api/v1/flags/" + "x" * 20)
        client.post("/api/v1/transactions", json={})
    wait_until(lambda: any("POST /api/v1/transactions 401" in line for line in server.lines))


def test_a_failure_is_told_once_and_its_repeats_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    due: list[tuple[float, Callable[[], Any]]] = []
    failures = FailureLog(lambda seconds, call: due.append((seconds, call)))
    for now in (100.0, 101.0, 102.0, 109.0):
        failures.note(unavailable(), "POST /x", now)
    failures.note(unavailable(), "POST /y", 109.0)
    assert len(caplog.messages) == 2 and "POST /x" in caplog.messages[0] and "POST /y" in caplog.messages[1]
    [(seconds, call)] = due
    assert seconds == 9.0
    call()
    assert "POST /x 3 times more within 10 s" in caplog.messages[2]
    failures.note(unavailable(), "POST /x", 111.0)
    assert len(caplog.messages) == 4 and "Not available" in caplog.messages[3]
