"""A server process's connection to its parent (`server_process`): it reports that it serves, and notices the parent's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from actors import settings
from actors.cluster.server_process import SERVES
from actors.listening import EndpointError


class ParentLine:
    """The socket of the setting PARENT_SOCKET. Calls `gone` when the parent has ended. Raises EndpointError."""

    def __init__(self, gone: Callable[[], None]) -> None:
        (number,) = settings.current().parent_socket
        try:
            self._line = socket.socket(fileno=number)
        except OSError as error:
            raise EndpointError(
                f"PARENT_SOCKET: {number} is no socket of this process ({error.strerror})"
            ) from None
        self._line.setblocking(False)
        self._line.set_inheritable(False)
        self._gone = gone
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._readable)

    def serves(self) -> None:
        """Tells the parent that this server takes requests."""
        try:
            self._line.send(SERVES)
        except OSError:
            self._ended()

    def close(self) -> None:
        """Closes the connection."""
        if self._line.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._line.close()

    def _readable(self) -> None:
        try:
            if self._line.recv(64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._ended()

    def _ended(self) -> None:
        self.close()
        self._gone()
