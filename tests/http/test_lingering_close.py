"""A refused body is dropped behind a closed write side, up to a bound, so that its response arrives (RFC 9112 9.6)."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import sys
from pathlib import Path

import pytest

from runtime.http import HttpOptions, Server, ServerOptions
from runtime.http.server import addresses, bind
from runtime.otp import gen_server
from tests.http.serving import echo, serving
from tests.support.certificate import self_signed
from tests.support.server import PATIENCE


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
