"""Real NATS servers for tests: each on a free port of the loopback address, with a user and a password."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import PATIENCE

USER, PASSWORD = "tester", "a-password-of-tests"


def program() -> str:
    """The server of the wheel, which is what BitNexus itself starts."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(own) if own.exists() else shutil.which("nats-server")
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nats:
    """One server; it can be killed and started again on its port."""

    def __init__(self, binary: str | None = None) -> None:
        self.port = free_port()
        self.binary = binary or program()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = ["-a", "127.0.0.1", "-p", str(self.port), "--user", USER, "--pass", PASSWORD]
        self.process = subprocess.Popen([self.binary, *arguments], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "nats-server did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def nats() -> Iterator[Nats]:
    """A running server."""
    server = Nats()
    server.start()
    try:
        yield server
    finally:
        server.kill()
