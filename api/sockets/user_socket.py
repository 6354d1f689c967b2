"""The Phoenix socket at `/socket`: who may connect, and which channel serves a topic.

The access token comes as `params.token`, or as the `authToken` of Phoenix 1.8's client.
"""

from __future__ import annotations

import time
from typing import Any

from actors.channels import AdminChannel, NotificationChannel, TransactionChannel
from actors.settings import Settings
from api.context import Context
from api.http.principal import Principal
from api.security.disconnect import socket_id
from api.security.tokens import InvalidToken
from runtime.phoenix import Accept, Endpoint, LongPollOptions, Mount, Mounts, Refuse, Socket, WebSocketOptions
from runtime.phoenix.check_origin import OWN, CheckOrigin

PATH = "/socket"
MAX_MESSAGE = 256 * 1024  # bytes of one message of a client
MAX_SESSIONS = 16  # open sockets of a user beyond which no longpoll session is started
MAX_UNREAD = 1 << 20  # bytes waiting in a longpoll session
MAX_CHANNELS = 50  # topics that one socket may join
MAX_MESSAGES_PER_SECOND = 100  # of one socket
MAX_LIFETIME = 10 * 365 * 86_400_000  # ms
LOOPBACK = ("//localhost", "//127.0.0.1", "//[::1]")


class UserSocket(Socket):
    """The socket of a signed-in user."""

    __slots__ = ()

    channels = {
        "transaction:*": TransactionChannel,
        "notification:*": NotificationChannel,
        "admin:*": AdminChannel,
    }

    context: Context

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        token = params.get("token") or connect_info.get("auth_token")
        if not isinstance(token, str) or not token.isascii():
            return Refuse()
        principal = self.context.sessions.authenticate_from_memory(token.encode())
        return self._authenticate(token) if principal is None else self._accept(principal)

    async def _authenticate(self, token: str) -> Any:
        try:
            return self._accept(await self.context.sessions.authenticate(token))
        except InvalidToken:
            return Refuse()

    def _accept(self, principal: Principal) -> Accept:
        self.assigns["user_id"] = principal.subject
        self.assigns["role"] = principal.role
        if principal.session_id is not None:
            self.assigns["session_id"] = str(principal.session_id)
        # Until exactly the time from which a new connection with this token is refused: closed earlier, its client would connect
        # again at once, and be closed again.
        self.lifetime = min((principal.exp - time.time()) * 1000, MAX_LIFETIME)
        return Accept()

    def id(self) -> str | None:
        return socket_id(self.assigns["user_id"])

    def disconnects(self, payload: Any) -> bool:
        ended = payload.get("session_id")
        return ended is None or ended == self.assigns.get("session_id")


def mounts(context: Context) -> tuple[Endpoint, Mounts]:
    """The endpoint and its socket mounts, with a socket class bound to this server's context."""
    origins = check_origin(context.settings)
    socket = type("UserSocket", (UserSocket,), {"__slots__": (), "context": context})
    mount = Mount(
        PATH,
        socket,
        websocket=WebSocketOptions(
            check_origin=origins,
            max_frame_size=MAX_MESSAGE,
            max_message_size=MAX_MESSAGE,
            max_channels_per_transport=MAX_CHANNELS,
            max_messages_per_second=MAX_MESSAGES_PER_SECOND,
        ),
        longpoll=LongPollOptions(
            check_origin=origins,
            max_body=MAX_MESSAGE,
            max_buffer=MAX_UNREAD,
            max_sessions=MAX_SESSIONS,
            max_channels_per_transport=MAX_CHANNELS,
            max_messages_per_second=MAX_MESSAGES_PER_SECOND,
        ),
        auth_token=True,
    )
    return Endpoint(), Mounts([mount])


def check_origin(settings: Settings) -> CheckOrigin:
    """The origins that may open a socket: this server's own, and CORS_ORIGINS; while it is unset, loopback except in prod."""
    if "*" in settings.cors_origins:
        return False
    others = settings.cors_origins or (() if settings.production else LOOPBACK)
    return (*others, OWN)
