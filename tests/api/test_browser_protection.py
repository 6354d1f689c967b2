"""What answers say to browsers: their type is what it says, what is private is not kept, pages talk to their own server alone."""

from __future__ import annotations

import socket

import httpx
import pytest

from api.http.content_coding import accepts_gzip
from tests.support.server import PATIENCE, Server, User


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/api/v1/flags",
        "/openapi.json",
        "/docs",
        "/docs/docs.js",
        "/",
        "/admin",
        "/nowhere",
        "/metrics",
    ],
)
def test_no_answer_is_sniffed(server: Server, user: User, path: str) -> None:
    assert user.client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/flags",
        "/api/v1/transactions",
        "/api/v1/users",
        "/admin/tree",
        "/nowhere",
        "/socket/longpoll?vsn=2.0.0",
        "/metrics",
    ],
)
def test_what_is_private_is_not_kept(server: Server, user: User, path: str) -> None:
    assert user.client.get(path).headers["cache-control"] == "no-store"
    with server.client() as client:
        assert client.get(path).headers["cache-control"] == "no-store"


def test_what_is_no_request_is_answered_as_safely(server: Server) -> None:
    for head in (b"BAD\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/3.0\r\nhost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), PATIENCE) as peer:
            peer.sendall(head)
            answer = peer.makefile("rb").read()
        assert b"x-content-type-options: nosniff\r\n" in answer and b"cache-control: no-store\r\n" in answer


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.js", "/admin", "/vendor/phoenix.mjs"])
def test_what_is_the_same_for_everybody_is_compressed_for_those_who_ask(server: Server, path: str) -> None:
    with server.client() as client:
        plain = client.get(path, headers={"accept-encoding": "identity"})
        packed = client.get(path, headers={"accept-encoding": "br, gzip;q=0.5"})
        assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content  # httpx has unpacked it
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
        assert packed.headers["etag"] != plain.headers["etag"]
        for answer in (plain, packed):
            assert "accept-encoding" in answer.headers.get_list("vary", split_commas=True)
            asked = {"if-none-match": f'"x", W/{answer.headers["etag"]}'}
            asked["accept-encoding"] = "gzip" if answer is packed else "gzip;q=0"
            assert client.get(path, headers=asked).status_code == 304


def test_what_is_somebodys_own_is_never_compressed(admin: User) -> None:
    """Its length would tell of secrets beside what a request said (BREACH)."""
    for _ in range(12):
        body = {"title": "x" * 200, "description": "y" * 900}
        assert admin.client.post("/api/v1/tasks", json=body).status_code == 201
    for path in ("/api/v1/tasks", "/admin/tree", "/metrics", "/api/v1/users"):
        answer = admin.client.get(path, headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200 and "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("gzip", True), ("GZIP", True), ("x-gzip", True), ("*", True), ("br, *;q=0.1", True), ("gzip;q=1.0", True), ("", False),
        ("gzip;q=0", False), ("gzip; q=0.000", False), ("identity", False), ("*;q=0", False), ("gzip;q=0, *", False),
        ("br", False),
    ],
)  # fmt: skip
def test_who_asks_for_gzip(field: str, accepted: bool) -> None:
    assert accepts_gzip(field.encode()) is accepted


@pytest.mark.parametrize(
    "path", ["/", "/admin", "/admin/main.js", "/docs", "/docs/docs.js", "/vendor/phoenix.mjs"]
)
def test_a_page_says_which_methods_it_takes(server: Server, path: str) -> None:
    with server.client() as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (
                204 if method == "OPTIONS" else 405,
                "GET, HEAD, OPTIONS",
            )
        assert client.get(path).headers["referrer-policy"] == "no-referrer"
        assert client.post(f"{path.rstrip('/')}/nothing").status_code == 404


@pytest.mark.parametrize("path", ["/", "/admin", "/docs"])
def test_pages_talk_to_their_own_server_alone(server: Server, path: str) -> None:
    with server.client() as client:
        policy = client.get(path, follow_redirects=True).headers["content-security-policy"]
    assert "connect-src 'self';" in policy and "ws:" not in policy


@pytest.mark.parametrize("digits", ["０", "٠", "߀"])
def test_digits_of_other_scripts_name_nothing(user: User, admin: User, digits: str) -> None:
    """UUID() and int() read them as if they were ASCII."""
    written = user.id.translate({ord("0") + n: chr(ord(digits) + n) for n in range(10)})
    assert user.client.get(f"/api/v1/users/{written}").status_code == 404
    assert user.client.get(f"/api/v1/users/{user.id.upper()}").status_code == 200
    assert user.client.get(f"/api/v1/users/{user.id.replace('-', '_')}").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["//api/v1/users", "/api//v1/users", "/api/v1/users//", "//health", "//admin", "/vendor//phoenix.mjs"],
)
def test_two_slashes_are_no_slash(admin: User, path: str) -> None:
    """A proxy that refuses `/admin` to the world compares what it sees."""
    assert admin.client.get(path.replace("//", "/")).status_code == 200
    assert admin.client.get(admin.client.base_url.copy_with(raw_path=path.encode())).status_code == 404


@pytest.mark.parametrize("path", ["/api/v1%2Fusers", "/api%2fv1/users", "/api/v1/services%2Fgo/x"])
def test_an_encoded_slash_is_no_slash(user: User, path: str) -> None:
    assert user.client.get(path).status_code == 404
    assert user.client.get("/api/v1/%75sers").status_code == 200
