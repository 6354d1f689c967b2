"""A proxy before PostgreSQL that can go wrong: refuse, accept and close, go silent, lose answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


class Proxy:
    """Passes bytes between clients and the server of `url`; `url` of the proxy itself leads through it.

    `mode` is "pass", "close" (accepts and closes: nothing is behind it), "silent" (takes bytes and passes none, both ways: a link
    that is half-open) or "deaf" (passes what clients say and no answer). It holds for links that are open and for new ones.
    """

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._behind = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._own = directory / ".s.PGSQL.5432"
        host = quote(str(directory), safe="")
        self.url = urlunsplit(parts._replace(query=f"host={host}&port=5432"))
        self._mode = "pass"
        self._links: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._link, str(self._own))

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
        self._mode = mode
        if mode == "close":
            self.cut()
        (self._passing.clear if mode == "silent" else self._passing.set)()

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
            answers, behind = await asyncio.open_unix_connection(self._behind)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, behind, answer=False))
                both.create_task(self._copy(answers, writer, answer=True))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._links.discard(task)
            for end in (writer, behind):
                if end is not None:
                    with suppress(OSError):
                        end.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, answer: bool) -> None:
        while data := await source.read(65536):
            await self._passing.wait()
            if answer and self._mode == "deaf":
                continue
            target.write(data)
            await target.drain()
        raise ConnectionResetError


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """A running proxy before the database of `url`."""
    with tempfile.TemporaryDirectory(prefix="bitnexus-proxy-") as folder:
        running = Proxy(url, Path(folder))
        await running.start()
        try:
            yield running
        finally:
            await running.stop()
