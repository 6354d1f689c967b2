"""The sockets that a server listens on: opened here, or inherited from the parent of several servers.

Servers that share a port each have a socket with SO_REUSEPORT. The parent opens these and keeps them open, so that connections
waiting in one while its server is replaced or restarted are accepted by the next server.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from actors import settings
from runtime.http import bind

BIND_TRIES = 20
BIND_PAUSE_SECONDS = 0.05


class EndpointError(Exception):
    """The server can't listen; the text is one line that says what to do."""


async def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, non-blocking: the inherited ones (as descriptors of their own), else new ones for host and port.

    Raises EndpointError.
    """
    inherited = settings.current().listen_sockets
    if inherited:
        return [_inherited(number) for number in inherited]
    for left in reversed(range(BIND_TRIES)):
        try:
            return bind(host, port)
        except OSError as error:
            # The socket of a killed predecessor is closed a moment after its death.
            if error.errno != errno.EADDRINUSE or not left:
                raise EndpointError(_why(error, host, port)) from None
        await asyncio.sleep(BIND_PAUSE_SECONDS)
    raise AssertionError("unreachable")


def open_shared(host: str, port: int, servers: int) -> list[list[socket.socket]]:
    """The listening sockets of several servers on one port, a list for each server. Raises EndpointError."""
    # SO_REUSEPORT alone would not notice another program of this user on the port.
    check_port(host, port)
    shared: list[list[socket.socket]] = []
    try:
        for _ in range(servers):
            shared.append(bind(host, port, reuse_port=True))
            port = shared[0][0].getsockname()[1]
    except OSError as error:
        for sockets in shared:
            for bound in sockets:
                bound.close()
        raise EndpointError(_why(error, host, port)) from None
    return shared


def check_port(host: str, port: int) -> None:
    """Raises EndpointError, one line, if the server could not listen here now."""
    if port == 0 or settings.current().listen_sockets:
        return
    try:
        for bound in bind(host, port):
            bound.close()
    except OSError as error:
        raise EndpointError(_why(error, host, port)) from None


def _inherited(number: int) -> socket.socket:
    try:
        listening = socket.socket(fileno=os.dup(number))
    except OSError as error:
        raise EndpointError(
            f"LISTEN_SOCKETS: {number} is no socket of this process ({error.strerror})"
        ) from None
    listening.setblocking(False)
    return listening


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"PORT: {port} on {host} is in use by another program; stop it or choose another PORT"
    if error.errno == errno.EACCES:
        return f"PORT: {port} on {host} is not allowed for this user; choose a PORT above 1023"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"HOST: {host} is not an address of this machine"
    return f"HOST, PORT: can't listen on {host}:{port} ({error.strerror or error})"
