"""Others that read HTTP, each started on a port of its own.

nginx and HAProxy in front of a backend that keeps what they pass on, Go's net/http, and h11.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import h11

from tests import go
from tests.http.framing import Reading, Whole, ours
from tests.support.ports import free_port
from tests.support.server import PATIENCE

PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"
IDLE: Final = 0.4  # seconds without a byte after which a peer has said what it has to say
_PORT: Final = re.compile(rb"x-client-port: (\d+)\r\n", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def installed(program: str) -> str | None:
    """Its path."""
    return shutil.which(program, path=PATH)


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    """Until it takes connections."""
    until = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "the program has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < until, "the program takes no connections"
        time.sleep(0.05)


class Peer(Protocol):
    """Somebody else who reads HTTP."""

    async def read(self, data: bytes, idle: float = IDLE) -> Reading:
        """What it reads of a stream."""
        ...


async def exchange(port: int, data: bytes, idle: float) -> tuple[int, bool]:
    """Sends a stream; the own port, and whether the other side has closed before it was idle."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    own: int = writer.get_extra_info("sockname")[1]
    closed = False
    try:
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            while True:
                if not await asyncio.wait_for(reader.read(65536), idle):
                    closed = True
                    break
    except OSError:
        closed = True
    writer.close()
    return own, closed


class H11:
    """h11, without a network."""

    async def read(self, data: bytes, idle: float = IDLE) -> Reading:
        """See Peer."""
        peer, reading = h11.Connection(h11.SERVER), Reading()
        peer.receive_data(data)
        method, body = "", b""
        try:
            while (event := peer.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    method, body = event.method.decode(), b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    reading.requests.append((method, body))
                elif event is h11.PAUSED:
                    if peer.our_state is h11.SEND_RESPONSE:
                        status = 501 if method == "CONNECT" else 200  # h11 would speak HTTP no more after 200
                        peer.send(h11.Response(status_code=status, headers=[("content-length", "0")]))
                        peer.send(h11.EndOfMessage())
                    if h11.MUST_CLOSE in (peer.our_state, peer.their_state):
                        reading.ended = True
                        break
                    peer.start_next_cycle()
                else:
                    break
        except h11.RemoteProtocolError:
            reading.ended = True
        return reading


class GoReader:
    """Go's net/http (tests/go/reader)."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._port = port
        self._read: dict[int, list[Whole]] = defaultdict(list)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:

        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            self._read[int(told["port"])].append((told["method"], base64.b64decode(told["body"] or "")))

    async def read(self, data: bytes, idle: float = IDLE) -> Reading:
        """See Peer."""
        port, closed = await exchange(self._port, data, idle)
        await asyncio.sleep(0.05)  # its line may be on the way
        return Reading(self._read.pop(port, []), closed)


class Proxy:
    """A proxy in front of a backend of ours that keeps the bytes of each connection. It opens one for each request."""

    def __init__(self, port: int, backend: Backend) -> None:
        self._port = port
        self._backend = backend

    async def read(self, data: bytes, idle: float = IDLE) -> Reading:
        """See Peer. Also checks that what it passes on as one request is one to us."""
        port, closed = await exchange(self._port, data, idle)
        reading = Reading(ended=closed)
        for passed in await self._backend.of(port):
            found = ours(passed)
            assert len(found.requests) <= 1, f"one request to the proxy, {found.requests} to us: {passed!r}"
            reading.requests += found.requests
        return reading


class Backend:
    """Takes connections, answers each once, keeps what came by the port of the proxy's client."""

    def __init__(self) -> None:
        self.port = 0
        self._passed: dict[int, list[bytearray]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens."""

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._take(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(begin, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends what is open."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = bytearray()
        known = False
        with contextlib.suppress(OSError, TimeoutError):
            while more := await asyncio.wait_for(reader.read(65536), PATIENCE):
                passed += more
                if not known and (found := _PORT.search(passed)) is not None:
                    known = True
                    self._passed[int(found[1])].append(passed)
                if known and ours(bytes(passed)).requests:
                    writer.write(_ANSWER)
        writer.close()

    async def of(self, port: int) -> list[bytes]:
        """What came for this client, connection by connection."""
        return [bytes(passed) for passed in self._passed.pop(port, [])]


NGINX: Final = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{backend};
      proxy_http_version 1.1;
      proxy_set_header Host x;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Client-Port $remote_port;
    }}
  }}
}}
"""
HAPROXY: Final = """
global
  maxconn 512
defaults
  mode http
  timeout connect 10s
  timeout client 30s
  timeout server 30s
  option http-server-close
frontend in
  bind 127.0.0.1:{port}
  http-request set-header X-Client-Port %[src_port]
  default_backend out
backend out
  http-reuse never
  server one 127.0.0.1:{backend}
"""


@contextlib.contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A program, ended at the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def opened(name: str, folder: Path, backend: Backend) -> Iterator[Peer]:
    """The peer of this name."""
    if name == "h11":
        yield H11()
        return
    if name == "go":
        with running(go.build(go.READER)) as process:
            assert process.stdout is not None
            yield GoReader(process, int(process.stdout.readline().rpartition(":")[2]))
        return
    program = installed(name)
    assert program is not None, f"{name} is not installed"
    port = free_port()
    file = folder / f"{name}.conf"
    text = {"nginx": NGINX, "haproxy": HAPROXY}[name]
    file.write_text(text.format(folder=folder, port=port, backend=backend.port))
    flags = ("-p", str(folder), "-c", str(file)) if name == "nginx" else ("-f", str(file), "-db")
    with running(program, *flags) as process:
        wait_for_port(port, process)
        yield Proxy(port, backend)
