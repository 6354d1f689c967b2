"""nginx, HAProxy and Caddy with TLS in front, with the files of deploy/proxies.

HTTPS, the npm client over wss, whom and what X-Forwarded-* makes a request come from, a socket that is idle, a restart behind
the proxy.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests import node
from tests.http import peers
from tests.node import Script
from tests.support.certificate import self_signed
from tests.support.ports import free_port
from tests.support.server import PATIENCE, ROOT, Server, User, start

FILES = ROOT / "deploy" / "proxies"
CLIENT = Path(node.HERE) / "client.mjs"
IDLE_SECONDS = 3.0
NAMES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
{text}
}}
"""


def certificate(folder: Path) -> None:
    """A certificate for this machine in bitnexus.pem (with its key, as HAProxy wants it) and bitnexus.key; its CA is itself."""
    made = self_signed(folder)
    (folder / "ca.pem").write_bytes(made.certificate.read_bytes())
    (folder / "bitnexus.pem").write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    made.key.rename(folder / "bitnexus.key")


@dataclass
class Front:
    """A proxy, and the server behind it, which can be started anew."""

    name: str
    folder: Path
    port: int
    server: Server
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://localhost:{self.port}"

    def client(self, token: str | None = None) -> httpx.Client:
        """A client that knows the certificate."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        trusted = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        return httpx.Client(
            base_url=self.url, headers=headers, verify=trusted, timeout=PATIENCE, trust_env=False
        )

    def restart(self, client: Script) -> None:
        """The server ends, and another one takes its place once the client has found none.

        While the server stops, the client may come back to it over a connection that the proxy has kept: the next join is
        the new server's only if an attempt has failed in between.
        """
        assert self.server.stop() == 0
        attempts: list[str] = []
        while attempts[-2:] != ["close", "close"]:
            attempts.append(client.next()["event"])
        self.server = start(self.server.database, **self.environment)


def configured(name: str, folder: Path, port: int, backend: str) -> list[str]:
    """The command that runs the proxy with its file from deploy/proxies, at these ports, with this certificate."""
    text = (FILES / NAMES[name]).read_text()
    for old, new in (
        (":443", f":{port}"),
        (" 443 ", f" 127.0.0.1:{port} "),
        ("127.0.0.1:4000", f"127.0.0.1:{backend}"),
    ):
        text = text.replace(old, new)
    text = text.replace("/etc/ssl/", f"{folder}/")
    file = folder / NAMES[name]
    program = peers.installed(name)
    assert program is not None
    if name == "nginx":
        file.write_text(NGINX.format(folder=folder, text=text))
        return [program, "-p", str(folder), "-c", str(file)]
    if name == "haproxy":
        file.write_text(text)
        return [program, "-db", "-f", str(file)]
    file.write_text(
        "{\n\tadmin off\n\tauto_https off\n}\n" + text.replace(f":{port} {{", f"https://localhost:{port} {{")
    )
    return [program, "run", "--config", str(file), "--adapter", "caddyfile"]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.skipif(peers.installed(name) is None, reason=f"needs {name}"))
        for name in NAMES
    ],
)
def front(request: pytest.FixtureRequest, module_database: str) -> Iterator[Front]:
    """One of the proxies, running."""
    name: str = request.param
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)
        certificate(folder)
        backend = str(free_port())
        changes = {
            "DATA_DIR": made,
            "PORT": backend,
            "TRUSTED_PROXIES": "127.0.0.1,::1",
            "BITNEXUS_ENV": "prod",
        }
        port = free_port()
        running = Front(name, folder, port, start(module_database, **changes), changes)
        stack.callback(lambda: running.server.stop())
        os.environ["HOME"], home = made, os.environ.get("HOME", "")
        stack.callback(lambda: os.environ.__setitem__("HOME", home))
        process = stack.enter_context(peers.running(*configured(name, folder, port, backend)))
        peers.wait_for_port(port, process)
        with running.client() as client:
            until = time.monotonic() + PATIENCE
            while client.get("/health").status_code != 200:  # HAProxy checks first
                assert time.monotonic() < until
                time.sleep(0.1)
        yield running


@pytest.fixture(scope="module")
def signed_in(front: Front) -> User:
    """A user of the server behind the proxy."""
    return front.server.user()


def post(front: Front, user: User, description: str) -> str:
    """Records a transaction through the proxy; its id."""
    with front.client(user.token) as client:
        body = {"amount": "1.00", "currency": "EUR", "description": description}
        answer = client.post("/api/v1/transactions", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["transaction"]["id"]


def handshake(front: Front, user: User, origin: str, host: str = "bank.example") -> int:
    """The status that a socket of a page of this origin gets."""
    trusted = ssl.create_default_context(cafile=str(front.folder / "ca.pem"))
    lines = (
        f"GET /socket/websocket?vsn=2.0.0&token={user.token} HTTP/1.1", f"Host: {host}", f"Origin: {origin}",
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    )  # fmt: skip
    with (
        socket.create_connection(("localhost", front.port), PATIENCE) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(secure.recv(4096).split(b" ")[1])


def test_the_npm_client_over_wss(front: Front, signed_in: User) -> None:
    trusted = {"NODE_EXTRA_CA_CERTS": str(front.folder / "ca.pem")}
    with Script(CLIENT, front.url, signed_in.token, f"transaction:{signed_in.id}", **trusted) as script:
        script.until("joined")
        made = post(front, signed_in, "over TLS")
        assert script.until("new_transaction")["payload"]["id"] == made
        time.sleep(IDLE_SECONDS)
        made = post(front, signed_in, "after a while")
        assert script.until("new_transaction")["payload"]["id"] == made
        assert [each["event"] for each in script.seen].count("joined") == 1
        front.restart(script)
        script.until("joined")
        made = post(front, signed_in, "after a restart")
        assert script.until("new_transaction")["payload"]["id"] == made


def test_a_page_is_of_the_scheme_that_its_client_spoke(front: Front, signed_in: User) -> None:
    if front.name == "caddy":  # it serves the host of its certificate alone
        host = f"localhost:{front.port}"
        assert handshake(front, signed_in, f"https://{host}", host) == 101
        assert handshake(front, signed_in, f"http://{host}", host) == 403
        return
    assert handshake(front, signed_in, "https://bank.example") == 101
    assert handshake(front, signed_in, "http://bank.example") == 403
    assert handshake(front, signed_in, "https://evil.example") == 403


def test_clients_are_told_apart_by_their_address(front: Front) -> None:
    """What a client writes into X-Forwarded-For does not make it another one at the proxy's end of the list."""
    victim = front.server.user()
    with front.client() as client:
        codes = {
            client.post(
                "/api/v1/auth/login",
                json={"email": victim.email, "password": "wrong guess"},
                headers={"x-forwarded-for": "not an address"},
            ).status_code
            for _ in range(30)
        }
        assert 429 in codes
        assert client.get("/metrics", headers={"x-forwarded-for": "198.51.100.7"}).status_code == 401


def test_a_body_too_large_is_answered(front: Front, signed_in: User) -> None:
    with front.client(signed_in.token) as client:
        answer = client.post(
            "/api/v1/transactions", content=b"x" * 1_500_000, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        assert client.get("/api/v1/auth/me").status_code == 200
