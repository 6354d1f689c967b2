"""How the server stops: what is under way, what has just come, and what never ends."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop

from runtime.http import HttpOptions, Request, Response, Server, ServerOptions
from runtime.http.accept_queue import SHORT
from runtime.http.server import Listener, addresses, bind
from runtime.http.transport import HttpProtocol
from runtime.otp import gen_server
from tests.http.serving import ASK, echo, refuses, serving
from tests.support.server import PATIENCE


def test_a_stop_lets_what_is_under_way_finish() -> None:
    async def body() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Response:
            if request.path == "/slow":
                asked.set()
                await go.wait()
            return Response(200, b"done")

        server = await Server.start(slow, ServerOptions(grace=PATIENCE))
        ((host, port),) = await addresses(server)
        idle, _idle_writer = await asyncio.open_connection(host, port)
        under_way, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await asked.wait()
        stopping = asyncio.ensure_future(gen_server.stop(server))
        assert await idle.read() == b"", "who has asked nothing is let go"
        with pytest.raises(OSError):
            await asyncio.open_connection(host, port)
        assert not stopping.done()
        go.set()
        answer = await under_way.read()
        assert (
            answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer and answer.endswith(b"done")
        )
        await stopping

    serving(body)


def test_what_is_asked_just_after_a_stop_began_is_answered() -> None:
    """An accepted connection has asked nothing yet; on a kept one the next request may be on its way."""

    async def body() -> None:
        server = await Server.start(echo, ServerOptions(grace=PATIENCE))
        ((host, port),) = await addresses(server)
        fresh, fresh_writer = await asyncio.open_connection(host, port)
        kept, kept_writer = await asyncio.open_connection(host, port)
        begun, begun_writer = await asyncio.open_connection(host, port)
        begun_writer.write(ASK[:20])
        kept_writer.write(ASK)
        await kept.readuntil(b"True")
        stopping = asyncio.ensure_future(gen_server.stop(server))
        await refuses(host, port)
        fresh_writer.write(ASK)
        kept_writer.write(ASK)
        for reader in (fresh, kept):
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        assert not stopping.done(), "a head that has begun is waited for"
        begun_writer.write(ASK[20:])
        assert (await begun.read()).startswith(b"HTTP/1.1 200")
        await stopping

    serving(body)


def test_a_new_connection_is_waited_for_longer_than_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client has decided to ask something, and may be busy."""
    monkeypatch.setattr("runtime.http.server.QUIET", 0.0)
    monkeypatch.setattr("runtime.http.transport.FRESH", PATIENCE)

    async def body() -> None:
        server = await Server.start(echo, ServerOptions(grace=PATIENCE))
        ((host, port),) = await addresses(server)
        fresh, fresh_writer = await asyncio.open_connection(host, port)
        kept, kept_writer = await asyncio.open_connection(host, port)
        kept_writer.write(ASK)
        await kept.readuntil(b"True")
        stopping = asyncio.ensure_future(gen_server.stop(server))
        assert await kept.read() == b""
        fresh_writer.write(ASK)
        assert (await fresh.read()).startswith(b"HTTP/1.1 200")
        await stopping

    serving(body)


def test_who_waits_in_the_line_at_a_stop_is_served() -> None:
    async def body() -> None:
        def work(_request: Request) -> Response:
            time.sleep(0.001)
            return Response(200, b"done")

        [bound] = bind("127.0.0.1", 0)
        clients = [socket.create_connection(bound.getsockname()) for _ in range(2 * SHORT)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        listener = Listener(work, HttpOptions(sheddable=lambda _request: True))
        await listener.listen([bound])
        while not listener.queues[0].busy:
            await asyncio.sleep(0)
        await listener.finish(PATIENCE)
        for client in clients:
            with client:
                assert client.recv(65_536).startswith(b"HTTP/1.1 200")

    uvloop.run(body())


def test_a_connection_that_was_accepted_as_the_stop_began_is_served() -> None:
    """Its protocol learns of it one turn of the loop later."""

    async def body() -> None:
        stopping: list[asyncio.Task[None]] = []

        class Stopped(Listener):
            def make(self) -> HttpProtocol:
                stopping.append(self.loop.create_task(self.finish(PATIENCE)))
                return super().make()

        [bound] = bind("127.0.0.1", 0)
        with socket.create_connection(bound.getsockname()) as client:
            client.send(ASK)
            listener = Stopped(echo, HttpOptions())
            await listener.listen([bound])
            while not stopping:
                await asyncio.sleep(0)
            await stopping[0]
            assert not listener.connections, "it was waited for"
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")

    uvloop.run(body())


def test_a_stop_has_an_end() -> None:
    async def body() -> None:
        asked = asyncio.Event()

        async def never(_request: Request) -> Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        server = await Server.start(never, ServerOptions(grace=0.1))
        ((host, port),) = await addresses(server)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(ASK)
        await asked.wait()
        await gen_server.stop(server)
        assert await reader.read() == b""

    serving(body)
