"""What may answer on a database's address instead of a working database: a function for each kind.

Each gets a connection that was just accepted, and ends it by returning. The messages are those of PostgreSQL's protocol 3.0
(manual, 55.7), as a server that can't serve would send them.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.support.certificate import self_signed

Speech = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SSL_REQUEST: Final = 80877103
AUTHENTICATED: Final = b"R\0\0\0\x08\0\0\0\0"


def message(kind: bytes, body: bytes) -> bytes:
    """One message of a server."""
    return kind + struct.pack("!I", len(body) + 4) + body


def error(sqlstate: str, text: str, severity: str = "FATAL") -> bytes:
    """An ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text}
    return message(b"E", b"".join(b"%b%b\0" % (k.encode(), v.encode()) for k, v in fields.items()) + b"\0")


async def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: bytes = b"N") -> None:
    """Reads up to the end of the client's StartupMessage; an SSLRequest is answered with `tls`."""
    while True:
        size, code = struct.unpack("!II", await reader.readexactly(8))
        await reader.readexactly(size - 8)
        if code != SSL_REQUEST:
            return
        writer.write(tls)
        if tls != b"N":
            return


def at_once(data: bytes) -> Speech:
    """Sends this without waiting for anything, and closes."""

    async def speech(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return speech


def after_start(*answers: bytes, waits: bool = False) -> Speech:
    """Reads the StartupMessage, sends this, and closes; or `waits` for the client to close."""

    async def speech(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begun(reader, writer)
        for answer in answers:
            writer.write(answer)
        await writer.drain()
        while waits and await reader.read(65536):
            pass

    return speech


def at_tls(answer: bytes, *behind: bytes) -> Speech:
    """Answers the SSLRequest with this, sends what follows, and closes."""

    async def speech(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begun(reader, writer, answer)
        writer.writelines(behind)
        await writer.drain()

    return speech


def in_tls(*answers: bytes, waits: bool = False) -> Speech:
    """Begins TLS, and says this in it once the client has begun."""

    async def speech(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, _code = struct.unpack("!II", await reader.readexactly(8))
        await reader.readexactly(size - 8)
        writer.write(b"S")
        await writer.start_tls(_certified())
        await after_start(*answers, waits=waits)(reader, writer)

    return speech


@functools.cache
def _certified() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*self_signed(Path(folder)))
    return context


async def resets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a reset."""
    _reset(writer)


async def resets_once_let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same, after it has let the client in."""
    await begun(reader, writer)
    writer.write(AUTHENTICATED)
    await writer.drain()
    _reset(writer)


async def says_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes what comes and is silent."""
    while await reader.read(65536):
        pass


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Notices without end, and no session."""
    await begun(reader, writer)
    while True:
        writer.write(message(b"N", b"SNOTICE\0Mstill here\0\0"))
        await writer.drain()
        await asyncio.sleep(0.01)


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end.family != socket.AF_UNIX:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


IMPOSTORS: Final[dict[str, Speech]] = {
    "accepts and closes": at_once(b""),
    "accepts and says nothing": says_nothing,
    "resets": resets,
    "an HTTP server": at_once(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
    "an SSH server": at_once(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "zeros": at_once(bytes(64)),
    "a message longer than memory": after_start(b"R\x7f\xff\xff\xff" + bytes(64), waits=True),
    "a message shorter than its length": after_start(b"R\0\0\0\0"),
    "half a message": after_start(AUTHENTICATED[:6]),
    "text that is no UTF-8": after_start(message(b"E", b"SFATAL\0C28000\0M\xff\xfe\0\0")),
    "an error without fields": after_start(message(b"E", b"\0")),
    "TLS begun and ended": at_tls(b"S"),
    "TLS begun with nonsense": at_tls(b"S", b"\x15\x03\x01 no handshake"),
    "neither yes nor no to TLS": at_tls(b"?"),
    "an error for TLS": at_tls(b"E", error("08P01", "no TLS here")[1:]),
    "no to TLS, and zeros": after_start(bytes(64), waits=True),
    "no to TLS, and zeros that don't wait": at_tls(b"N", bytes(64)),
    "no to TLS, and an HTTP server": after_start(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no to TLS, and closes": after_start(),
    "no to TLS, and says nothing": after_start(waits=True),
    "zeros in TLS": in_tls(bytes(64), waits=True),
    "an HTTP server in TLS": in_tls(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "closes in TLS": in_tls(),
    "says nothing in TLS": in_tls(waits=True),
    "closes in TLS once let in": in_tls(AUTHENTICATED),
    "GSSAPI asked for": after_start(message(b"R", struct.pack("!I", 7)), waits=True),
    "a SASL mechanism nobody knows": after_start(message(b"R", struct.pack("!I", 10) + b"NOVEL\0\0"), waits=True),
    "a way to sign in nobody knows": after_start(message(b"R", struct.pack("!I", 99)), waits=True),
    "closes once let in": after_start(AUTHENTICATED),
    "resets once let in": resets_once_let_in,
    "silent once let in": after_start(AUTHENTICATED, waits=True),
    "never ready": never_ends,
    "the password is wrong": after_start(error("28P01", "password authentication failed for user")),
    "nobody may come from there": after_start(error("28000", "no pg_hba.conf entry for host")),
    "no such database": after_start(error("3D000", 'database "bitnexus" does not exist')),
    "no right to connect": after_start(error("42501", "permission denied for database")),
    "too many connections": after_start(error("53300", "sorry, too many clients already")),
    "starting up": after_start(error("57P03", "the database system is starting up")),
    "in recovery": after_start(error("57P03", "the database system is in recovery mode")),
    "shutting down": after_start(error("57P03", "the database system is shutting down")),
    "a violation of the protocol": after_start(error("08P01", "server login has been failing")),
    "a protocol that is too new": after_start(error("0A000", "unsupported frontend protocol 3.0")),
    "out of memory": after_start(error("53200", "out of memory")),
    "broken inside": after_start(error("XX000", "could not open file", "PANIC")),
    "a class nobody knows": after_start(error("ZZ999", "?")),
}  # fmt: skip
