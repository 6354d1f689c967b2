"""Proxies that can go wrong: refuse, accept and close, go silent in one direction or both, lose answers, take their time."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from tests.support.impostor import Speech

MODES = ("pass", "close", "silent", "mute", "late", "deaf", "slow")
SLOW_SECONDS = (0.02, 0.3)  # of delay for whatever is read at once
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes bytes between clients and the server that `dial` reaches.

    `mode` is "pass"; "close" (accepts and closes: nothing is behind it); "silent" (takes bytes and passes none, both ways: a link
    that is half-open), "mute" and "late" (the same for what clients say and for answers alone; what is held comes afterwards, as
    TCP would send it again); "deaf" (what clients say comes, and answers are lost); "slow". It holds for links that are open and
    for new ones. With an `impostor` new links are its own; `garbled` is what each answer is replaced by, or what replaces it.
    """

    impostor: Speech | None = None
    garbled: bytes | Callable[[bytes], bytes] | None = None

    def __init__(self, dial: Callable[[], Awaitable[Ends]]) -> None:
        self._dial = dial
        self._mode = "pass"
        self._links: set[asyncio.Task[None]] = set()
        self._said, self._answered = asyncio.Event(), asyncio.Event()  # may pass
        self._said.set()
        self._answered.set()
        self._server: asyncio.Server | None = None

    async def listen_at(self, path: Path) -> None:
        """Starts, on a Unix socket."""
        self._server = await asyncio.start_unix_server(self._link, str(path))

    async def listen(self) -> int:
        """Starts, on a port of the loopback address."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert mode in MODES
        self._mode = mode
        if mode == "close":
            self.cut()
        (self._said.clear if mode in ("silent", "mute") else self._said.set)()
        (self._answered.clear if mode in ("silent", "late") else self._answered.set)()

    def cut(self) -> None:
        """Ends every link."""
        for task in self._links:
            task.cancel()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        behind: asyncio.StreamWriter | None = None
        try:
            if self._mode == "close":
                return
            if self.impostor is not None:
                await self.impostor(reader, writer)
                return
            answers, behind = await self._dial()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, behind, self._said))
                both.create_task(self._copy(answers, writer, self._answered))
        except (OSError, EOFError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._links.discard(task)
            for end in (writer, behind):
                if end is not None:
                    with suppress(OSError):
                        end.close()

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        while data := await source.read(65536):
            if self._mode == "slow":
                await asyncio.sleep(random.uniform(*SLOW_SECONDS))
            await gate.wait()
            if gate is self._answered and self._mode == "deaf":
                continue
            if gate is self._answered and self.garbled is not None:
                data = self.garbled(data) if callable(self.garbled) else self.garbled
            target.write(data)
            await target.drain()
        raise ConnectionResetError


class DatabaseProxy(Proxy):
    """A proxy before the PostgreSQL of `url`, whose Unix socket it has in `directory`; its own `url` leads through it."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        behind = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        super().__init__(lambda: asyncio.open_unix_connection(behind))
        self.path = directory / ".s.PGSQL.5432"
        host = quote(str(directory), safe="")
        self.url = urlunsplit(parts._replace(query=f"host={host}&port=5432"))


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[DatabaseProxy]:
    """A running proxy before the database of `url`."""
    with tempfile.TemporaryDirectory(prefix="bitnexus-proxy-") as folder:
        running = DatabaseProxy(url, Path(folder))
        await running.listen_at(running.path)
        try:
            yield running
        finally:
            await running.stop()


@asynccontextmanager
async def tcp_proxy(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A running proxy before the database of `url`, and a URL that leads through it by TCP."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    behind = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
    running = Proxy(lambda: asyncio.open_unix_connection(behind))
    user = parts.netloc.rpartition("@")[0] or "bitnexus"
    own = await running.listen()
    try:
        yield running, f"postgresql://{user}@127.0.0.1:{own}{parts.path}"
    finally:
        await running.stop()


@asynccontextmanager
async def port_proxy(port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """A running proxy before a port of the loopback address, and its own port."""
    running = Proxy(lambda: asyncio.open_connection("127.0.0.1", port))
    own = await running.listen()
    try:
        yield running, own
    finally:
        await running.stop()
