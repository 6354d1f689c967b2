"""The server as a process: where it listens, how it stops, and how it gives its places back.

It listens with TLS, on IPv6, on a unix socket, on a shared port.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http import HttpOptions, Request, Response, Server, ServerOptions
from runtime.http.server import Listener, addresses, bind
from runtime.http.transport import HttpProtocol
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import StartError
from tests.support.certificate import self_signed
from tests.support.server import PATIENCE

ASK = b"GET /here HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /here HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
LIMIT = 1000


async def echo(request: Request) -> Response:
    """Says what it has seen; reads a small body."""
    body = await request.body.read(LIMIT)
    seen = f"{request.scheme} {request.method} {request.path} {len(body)} {request.client is not None}"
    return Response(200, seen.encode())


def serving(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = AsyncioEngine().start()
        try:
            async with asyncio.timeout(PATIENCE):
                await body()
        finally:
            await engine.stop()

    uvloop.run(main())


async def talk(data: bytes, *where: Any, **how: Any) -> bytes:
    """What a server at this address answers, up to its end."""
    reader, writer = await asyncio.open_connection(*where, **how)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def refuses(host: str, port: int) -> None:
    """Waits until nobody listens there."""
    while True:
        try:
            _reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)


# ---- where it listens


def test_tls(tmp_path: Path) -> None:
    pem, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(pem))
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    distrusting = ssl.create_default_context()

    async def body() -> None:
        options = ServerOptions(certificate=pem, key=key, http=HttpOptions(lingering_timeout=0.2))
        ((host, port),) = await addresses(await Server.start(echo, options))
        reader, writer = await asyncio.open_connection(host, port, ssl=trusting)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(ASK)
        assert b"https GET /here 0 True" in await reader.readuntil(b"True")
        writer.write(LAST)  # the connection goes on
        assert (await reader.read()).endswith(b"https GET /here 0 True")
        writer.close()
        large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000
        assert (await talk(large, host, port, ssl=trusting)).startswith(b"HTTP/1.1 413")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talk(LAST, host, port, ssl=distrusting)
        assert b"HTTP/1.1 200" not in await talk(LAST, host, port)  # nothing is said in the clear

    serving(body)


def test_a_client_that_closes_tls_while_it_waits_makes_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(pem))

    async def body() -> None:
        asked = asyncio.Event()

        async def until_gone(request: Request) -> None:
            asked.set()
            await request.disconnected()

        ((host, port),) = await addresses(
            await Server.start(until_gone, ServerOptions(certificate=pem, key=key))
        )
        _reader, writer = await asyncio.open_connection(host, port, ssl=trusting)
        writer.write(ASK)
        await asked.wait()
        writer.close()
        await writer.wait_closed()

    serving(body)
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_client_that_never_shakes_hands_disturbs_nobody(tmp_path: Path) -> None:
    pem, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(pem))

    async def body() -> None:
        options = ServerOptions(certificate=pem, key=key)
        ((host, port),) = await addresses(await Server.start(echo, options))
        silent = [await asyncio.open_connection(host, port) for _ in range(20)]
        assert (await talk(LAST, host, port, ssl=trusting)).startswith(b"HTTP/1.1 200")
        for _reader, writer in silent:
            writer.close()

    serving(body)


@pytest.mark.parametrize("host", ["::1", None, ""])
def test_ipv6_and_every_address(host: str | None) -> None:
    async def body() -> None:
        found = await addresses(await Server.start(echo, ServerOptions(host=host)))
        assert len({address[1] for address in found}) == 1, "one port for all families"
        port = found[0][1]
        assert (await talk(LAST, "::1", port)).endswith(b"http GET /here 0 True")
        if host != "::1":
            assert (await talk(LAST, "127.0.0.1", port)).endswith(b"http GET /here 0 True")

    serving(body)


def test_a_unix_socket(tmp_path: Path) -> None:
    place = tmp_path / "http.sock"

    async def ask() -> bytes:
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(LAST)
        answer = await reader.read()
        writer.close()
        return answer

    async def body() -> None:
        server = await Server.start(echo, ServerOptions(unix=place))
        assert (await ask()).endswith(b"http GET /here 0 False")
        with pytest.raises(StartError):  # somebody lives there
            await Server.start(echo, ServerOptions(unix=place))
        assert (await ask()).endswith(b"http GET /here 0 False")
        erlang.exit(server, "kill")
        await erlang.await_down(server)
        assert place.is_socket(), "what a server that was killed has left"
        await Server.start(echo, ServerOptions(unix=place))
        assert (await ask()).endswith(b"http GET /here 0 False")

    serving(body)


def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "precious"
    place.write_text("data")

    async def body() -> None:
        with pytest.raises(StartError):
            await Server.start(echo, ServerOptions(unix=place))
        assert place.read_text() == "data"

    serving(body)


def test_servers_share_a_port() -> None:
    async def body() -> None:
        def named(name: bytes) -> Callable[[Request], Response]:
            return lambda _request: Response(200, name)

        first = await Server.start(named(b"first"), ServerOptions(reuse_port=True))
        ((host, port),) = await addresses(first)
        second = await Server.start(named(b"second"), ServerOptions(port=port, reuse_port=True))
        answers = Counter([(await talk(LAST, host, port)).rpartition(b"\r\n")[2] for _ in range(200)])
        assert set(answers) == {b"first", b"second"}, answers
        with pytest.raises(StartError):  # who does not share can't have it
            await Server.start(named(b"third"), ServerOptions(port=port))
        await gen_server.stop(first)
        assert {(await talk(LAST, host, port)).rpartition(b"\r\n")[2] for _ in range(20)} == {b"second"}
        await gen_server.stop(second)

    serving(body)


def test_a_restarted_server_finds_its_port_free() -> None:
    async def body() -> None:
        port = 0
        for _ in range(3):
            server = await Server.start(echo, ServerOptions(port=port))
            ((host, port),) = await addresses(server)
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(ASK)
            await reader.readuntil(b"True")
            erlang.exit(server, "kill")
            await erlang.await_down(server)
            assert await reader.read() == b"", "what it had open is closed"
            writer.close()

    serving(body)


# ---- how it stops


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
            time.sleep(0.01)
            return Response(200, b"done")

        [bound] = bind("127.0.0.1", 0)
        clients = [socket.create_connection(bound.getsockname()) for _ in range(40)]
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


# ---- a peer that sends no more, and waits


@pytest.mark.parametrize(
    "rest", [b"", b"GET /par", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\npart"]
)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_all_that_was_asked_before_the_end_is_answered(count: int, rest: bytes) -> None:
    async def later(request: Request) -> Response:
        await asyncio.sleep(0)
        return await echo(request)

    async def body() -> None:
        ((host, port),) = await addresses(await Server.start(later))
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(ASK * count + rest)
        writer.write_eof()
        assert (await reader.read()).count(b"GET /here 0 True") == count

    serving(body)


# ---- refused bodies (RFC 9112 9.6)


def test_413_reaches_clients_that_send_first_and_read_then() -> None:
    async def body() -> None:
        ((host, port),) = await addresses(await Server.start(echo))

        def post() -> int:
            client = http.client.HTTPConnection(host, port, timeout=PATIENCE)
            client.request("POST", "/", b"x" * 5_000_000)
            status = client.getresponse().status
            client.close()
            return status

        assert [await asyncio.to_thread(post) for _ in range(20)] == [413] * 20

    serving(body)


def test_the_write_side_closes_before_a_refused_body_is_dropped() -> None:
    async def body() -> None:
        ((host, port),) = await addresses(await Server.start(echo))
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 10)
        answer = await reader.read()  # up to its end, which comes before the body does
        assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer
        for _ in range(80):
            writer.write(b"x" * 100_000)
            await writer.drain()  # raises if the connection was reset
        writer.close()
        await writer.wait_closed()

    serving(body)


def test_what_waits_in_the_kernel_has_a_bound() -> None:
    """It is what one turn of the loop reads of a connection."""

    async def body() -> None:
        bound = bind("127.0.0.1", 0)[0]
        by_itself = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        twice = 2 if sys.platform == "linux" else 1  # Linux says twice what it was given
        for size, expected in ((0, by_itself), (30_000, twice * 30_000)):
            options = ServerOptions(sockets=[bound.dup()], http=HttpOptions(receive_buffer=size))
            server = await Server.start(echo, options)
            assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == expected
            await gen_server.stop(server)
        bound.close()

    serving(body)


def test_over_tls_the_end_is_said_before_a_refused_body_is_dropped(tmp_path: Path) -> None:
    pem, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(pem))

    async def body() -> None:
        options = ServerOptions(certificate=pem, key=key, http=HttpOptions(lingering_timeout=2 * PATIENCE))
        ((host, port),) = await addresses(await Server.start(echo, options))

        def post() -> bytes:
            with (
                socket.create_connection((host, port), timeout=PATIENCE) as plain,
                trusting.wrap_socket(plain, server_hostname="localhost") as client,
            ):
                client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 10)
                answer = b""
                while data := client.recv(65_536):  # up to its end, which comes before the body does
                    answer += data
                for _ in range(80):
                    client.sendall(b"x" * 100_000)  # raises if the connection was reset
                return answer

        answer = await asyncio.to_thread(post)
        assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer

    serving(body)


def test_what_is_dropped_has_a_bound() -> None:
    async def body() -> None:
        options = ServerOptions(http=HttpOptions(max_lingering=200_000))
        ((host, port),) = await addresses(await Server.start(echo, options))
        _reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                writer.write(b"x" * 100_000)
                await writer.drain()

    serving(body)


def test_as_many_connections_as_may_be_open() -> None:
    async def body() -> None:
        options = ServerOptions(http=HttpOptions(max_connections=2))
        ((host, port),) = await addresses(await Server.start(echo, options))

        async def asked() -> bytes:
            try:
                return await talk(LAST, host, port)
            except ConnectionError:
                return b""

        opened = [await asyncio.open_connection(host, port) for _ in range(2)]
        for reader, writer in opened:
            writer.write(ASK)
            await reader.readuntil(b"True")
        assert await asked() == b""
        reader, writer = opened[0]
        writer.write(LAST)
        assert b"True" in await reader.read()
        writer.close()
        while not await asked():  # until the server has seen the end
            await asyncio.sleep(0)

    serving(body)


# ---- Upgrade (RFC 9110 7.8)


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"foo/2, websocket", b"TLS/1.0"])
def test_an_upgrade_that_is_ignored_leaves_the_connection_open(protocol: bytes) -> None:
    async def body() -> None:
        ((host, port),) = await addresses(await Server.start(echo))
        up = b"connection: upgrade\r\nupgrade: %b\r\n" % protocol
        for method, more, read in ((b"GET", b"", b"0"), (b"POST", b"content-length: 3\r\n\r\nabc", b"3")):
            head = b"%b /up HTTP/1.1\r\nhost: x\r\n%b" % (method, up)
            data = head + (more or b"\r\n") + LAST
            answer = await talk(data, host, port)
            assert answer.count(b"HTTP/1.1 200") == 2, answer
            assert b"http %b /up %b" % (method, read) in answer and answer.endswith(b"GET /here 0 True")

    serving(body)


def test_a_place_that_is_taken_is_said() -> None:
    async def body() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(StartError):
                await Server.start(echo, ServerOptions(port=taken.getsockname()[1]))

    serving(body)
