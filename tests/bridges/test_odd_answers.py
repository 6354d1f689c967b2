"""Services that answer what no HTTP client should pass on, and addresses that nobody can change at run time."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from actors.settings import ConfigError, load
from tests.support import server as servers
from tests.support.server import Server, User, error_of


class Odd(socketserver.StreamRequestHandler):
    """Answers with the status that the path names, and with headers of its own connection."""

    heads: list[bytes] = []

    def handle(self) -> None:
        line = self.rfile.readline()
        while (field := self.rfile.readline().strip()) and field:
            self.heads.append(field)
        status = line.split(b" ")[1].rpartition(b"/")[2]
        self.wfile.write(
            b"HTTP/1.1 %s Odd\r\nX-Request-Id: theirs\r\nAccess-Control-Allow-Origin: https://theirs.example\r\n"
            b"Connection: close, X-Private-Hop\r\nX-Private-Hop: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
            % status
        )


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, daemon=True).start()
        running = servers.start(
            module_database,
            DATA_DIR=str(tmp_path_factory.mktemp("odd")),
            GO_API_URL=f"http://127.0.0.1:{odd.server_address[1]}",
            CORS_ORIGINS="https://ours.example",
        )
        yield running
        assert running.stop() == 0
        odd.shutdown()


@pytest.mark.parametrize("status", ["999", "600", "099", "101"])
def test_a_status_that_no_answer_can_have_is_502(user: User, status: str) -> None:
    user.client.post("/api/v1/services/go/200")  # closes the breaker
    error_of(user.client.post(f"/api/v1/services/go/{status}"), 502)


def test_only_what_is_meant_for_the_caller_is_passed_on(user: User) -> None:
    answer = user.client.get(
        "/api/v1/services/go/200", headers={"origin": "https://ours.example", "x-request-id": "ours"}
    )
    assert answer.status_code == 200 and answer.headers["x-kept"] == "1"
    assert answer.headers.get_list("x-request-id") == ["ours"]
    assert answer.headers.get_list("access-control-allow-origin") == ["https://ours.example"]
    assert "x-private-hop" not in answer.headers
    assert Odd.heads.count(b"x-request-id: ours") == 1


def test_a_services_address_is_not_state(admin: User, user: User) -> None:
    path = "/admin/processes/bridge.go/state"
    for name in ("url", "_url"):
        answer = admin.client.put(path, json={"set": {name: "http://evil.example"}})
        assert name in error_of(answer, 422)["fields"]
    assert user.client.get("/api/v1/services/go/200").status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@go:8080",
        "http://user@go:8080",
        "http://go:8080?x=1",
        "http://go:8080#x",
        "ftp://go",
    ],
)
def test_an_address_that_cannot_be_used_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="GO_API_URL"):
        load({"GO_API_URL": url})
    with pytest.raises(ConfigError, match="SERVICES"):
        load({"SERVICES": f"go={url}"})
