"""The server as a process: where it listens, and how it gives its places back.

It listens with TLS, on IPv6, on a unix socket, on a shared port.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.http import HttpOptions, Request, Response, Server, ServerOptions
from runtime.http.server import addresses
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import StartError
from tests.http.serving import ASK, LAST, echo, serving, talk
from tests.support.certificate import self_signed

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


# ---- places


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
