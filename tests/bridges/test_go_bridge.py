"""The way to a real Go service: what callers get while it answers, hangs, fails, dies; the breaker's states."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.bridges.circuit_breaker import (
    AttemptFailed,
    AttemptSucceeded,
    CircuitBreaker,
    GetState,
    Granted,
    Permit,
    Refused,
)
from runtime.otp import gen_server, state_machine
from runtime.otp.gen_server import start_actor
from runtime.testing.deterministic_engine import DeterministicEngine
from tests.go import GoService
from tests.support import server as servers
from tests.support.ports import free_port
from tests.support.server import ROOT, SECRET, Server, User, error_of, wait_until

ECHO = "/api/v1/services/go/echo"


@pytest.fixture(scope="module")
def go() -> Iterator[GoService]:
    """The service; told to behave before each test."""
    with GoService(secret=SECRET, listen=f"127.0.0.1:{free_port()}") as service:  # it comes back where it was
        yield service


@pytest.fixture(scope="module")
def server(module_database: str, go: GoService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service at hand, one nowhere; short times, so that breakers open and close while we look."""
    folder = tmp_path_factory.mktemp("bridge")
    tree = (ROOT / "supervisor.toml").read_text("utf-8")
    text = tree.replace("deadline        = 10000", "deadline        = 4000\nreset           = 300")
    assert text != tree
    (folder / "supervisor.toml").write_text(text, "utf-8")
    services = {"GO_API_URL": go.url, "SERVICES": "nowhere=http://127.0.0.1:9"}
    arguments = ("--tree", str(folder / "supervisor.toml"))
    running = servers.start(module_database, arguments, DATA_DIR=str(folder), **services)
    yield running
    assert running.stop() == 0, "\n".join(running.lines[-40:])


@pytest.fixture(autouse=True)
def sound(server: Server, go: GoService, user: User) -> None:
    """Each test begins with a service that answers and a closed breaker."""
    go.tell("ok")
    wait_until(lambda: user.client.get(ECHO).status_code == 200)


def breaker(server: Server, service: str = "go") -> str:
    """What readiness says of a service's breaker."""
    with server.client() as client:
        reason = client.get("/api/v1/health/ready").json()["checks"]["bridge"].get("reason", "")
    states = dict(part.split(": ") for part in reason.split(", ") if part)
    return states.get(service, "closed")


def test_a_call_arrives_with_token_request_id_query_and_body(user: User) -> None:
    answer = user.client.post(
        f"{ECHO}?a=1&b=%2F",
        content=b'{"x":1}',
        headers={"content-type": "application/json", "x-request-id": "abc-1"},
    )
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert seen["method"] == "POST" and seen["path"] == "/echo" and seen["query"] == "a=1&b=%2F"
    assert seen["claims"]["sub"] == user.id
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert "abc-1" in json.dumps(headers["x-request-id"]) and answer.headers["x-request-id"] == "abc-1"


def test_binary_bodies_go_both_ways(user: User) -> None:
    body = bytes(range(256)) * 40
    answer = user.client.post(
        "/api/v1/services/go/binary", content=body, headers={"content-type": "application/octet-stream"}
    )
    assert answer.status_code == 200 and answer.content == body[::-1]
    assert answer.headers["content-type"] == "application/octet-stream"


def test_no_token_no_service_and_no_way_out_of_the_path(server: Server, user: User) -> None:
    with server.client() as client:
        error_of(client.get(ECHO), 401)
    error_of(user.client.get("/api/v1/services/other/echo"), 404)
    error_of(user.client.get("/api/v1/services/go/a/%2e%2e/control"), 400)


def test_the_services_own_errors_are_passed_on(user: User, go: GoService) -> None:
    go.tell("fail", status=418, times=1)
    assert user.client.post(ECHO).status_code == 418


def test_idempotent_calls_are_tried_again_others_are_not(user: User, go: GoService) -> None:
    before = go.calls("/echo")
    go.tell("fail", status=500, times=1)
    assert user.client.get(ECHO).status_code == 200
    assert go.calls("/echo") == before + 2
    go.tell("fail", status=500, times=1)
    assert user.client.post(ECHO).status_code == 500
    assert go.calls("/echo") == before + 3


def test_a_service_that_hangs_gives_504_in_time_and_others_do_not_wait(
    server: Server, user: User, go: GoService
) -> None:
    go.tell("hang")
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(user.client.post, ECHO) for _ in range(4)]
        time.sleep(0.1)
        assert user.client.get("/api/v1/flags").status_code == 200
        assert (
            user.client.post("/api/v1/transactions", json={"amount": "1.00", "currency": "EUR"}).status_code
            == 201
        )
        assert not all(answer.done() for answer in slow)
        for answer in slow:
            error_of(answer.result(), 504)


def test_nonsense_from_the_service_is_502(user: User, go: GoService) -> None:
    go.tell("garbage", times=1)
    error_of(user.client.post(ECHO), 502)


def test_a_dead_service_opens_the_breaker_and_closes_it_when_it_is_back(
    server: Server, user: User, go: GoService
) -> None:
    go.kill()
    for _ in range(3):
        answer = user.client.get(ECHO)
        error_of(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    assert breaker(server) in ("open", "half_open")
    took: list[float] = []
    for _ in range(5):
        started = time.monotonic()
        error_of(user.client.get(ECHO), 503)
        took.append(time.monotonic() - started)
    assert min(took) < 0.25, "an open breaker answers at once"
    with server.client() as client:  # the rest of the service is untouched
        assert client.get("/api/v1/health/ready").status_code == 200
    go.start()
    wait_until(lambda: user.client.get(ECHO).status_code == 200)
    assert breaker(server) == "closed"


def test_breaker_and_bridge_stand_in_the_admin_tree(admin: User) -> None:
    text = admin.client.get("/admin/tree").text
    assert '"breaker.go"' in text and '"bridge.go"' in text and '"bridge.nowhere"' in text


def test_transitions_of_each_breaker_are_counted_from_zero(server: Server) -> None:
    with server.client() as client:
        text = client.get("/metrics").text
    for state in ("closed", "open", "half_open"):
        for service in ("go", "nowhere"):
            labels = f'service="{service}",to="{state}"'
            assert re.search(rf"^bitnexus_breaker_transitions_total{{[^}}]*{labels}}} \d", text, re.MULTILINE)


def test_the_breaker_by_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bitnexus.bridges")
    engine = DeterministicEngine(1)
    try:
        start = start_actor(
            CircuitBreaker(), ("s",), link=False, kwargs={"failures": 2, "reset": 1000, "longest": 3000}
        )
        pid = engine.complete(start)

        def ask(what: object) -> object:
            return engine.complete(state_machine.call(pid, what))

        def tell(what: object) -> None:
            gen_server.cast(pid, what)
            engine.run()

        tell(AttemptFailed("x"))
        tell(AttemptSucceeded())
        tell(AttemptFailed("x"))
        assert ask(GetState()) == "closed", "only failures in a row count"
        tell(AttemptFailed("x"))
        assert ask(GetState()) == "open"
        refused = ask(Permit())
        assert isinstance(refused, Refused) and 0 < refused.retry_after <= 1100
        engine.advance(1100)
        assert ask(GetState()) == "half_open"
        assert ask(Permit()) == Granted() and isinstance(ask(Permit()), Refused), "one trial at a time"
        tell(AttemptFailed("y"))
        assert ask(GetState()) == "open"
        engine.advance(1300)
        assert ask(GetState()) == "open", "the second opening lasts longer"
        engine.advance(1000)
        assert ask(Permit()) == Granted()
        engine.advance(16_000)
        assert ask(Permit()) == Granted(), "a trial that never reports does not block the next"
        tell(AttemptSucceeded())
        assert ask(GetState()) == "closed" and ask(Permit()) == Granted()
    finally:
        engine.close()
    said = [line for line in caplog.records if line.name == "bitnexus.bridges"]
    assert [(line.levelname, line.getMessage()) for line in said] == [
        ("WARNING", "the breaker of s is open, it was closed: x"),
        ("INFO", "the breaker of s is half_open, it was open"),
        ("WARNING", "the breaker of s is open, it was half_open: y"),
        ("INFO", "the breaker of s is half_open, it was open"),
        ("INFO", "the breaker of s is closed, it was half_open"),
    ]
