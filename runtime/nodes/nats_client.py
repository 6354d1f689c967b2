"""Connecting to NATS: options, a client that insists on TLS, and a check of the configuration at start."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import nkeys
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

PROBE_SECONDS: Final = 3
NAME_SECONDS: Final = 0.3
RECONNECT_SECONDS: Final[Any] = 0.25  # nats-py accepts a float, though its type says int
_CREDENTIALS: Final = re.compile(
    rb"BEGIN NATS USER JWT-+\s+\S+\s+-+END.*BEGIN USER NKEY SEED-+\s+(?P<seed>\S+)\s+-+END", re.DOTALL
)


class FabricError(Exception):
    """The NATS servers cannot be used; the text is one line with the cause."""


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to connect to the servers.

    `prefix` begins all subjects, so that several clusters can share servers; `credentials` is the path of a .creds file. User
    and password, or a token, are given in the URLs (`nats://user:password@host`, `nats://token@host`), percent-encoded. With
    `tls`, or a server URL of the scheme `tls`, a connection without TLS is refused.
    """

    servers: tuple[str, ...]
    prefix: str = "nodes"
    credentials: str = ""
    tls: ssl.SSLContext | None = None
    name: str = ""

    @property
    def secure(self) -> bool:
        """True if TLS is required."""
        return self.tls is not None or any(server.startswith("tls:") for server in self.servers)

    def arguments(self) -> dict[str, Any]:
        """The arguments of nats-py's `connect`."""
        given: dict[str, Any] = {"servers": list(self.servers), "name": self.name or None, "no_echo": True}
        if self.credentials:
            given["user_credentials"] = self.credentials
        if self.secure:
            given["tls"] = self.tls or ssl.create_default_context()
        return given | self._login()

    def _login(self) -> dict[str, str]:
        # Discovered servers have no user in their URLs, so a login that all URLs share is passed for all servers.
        parts = [urlsplit(server) for server in self.servers]
        logins = {(part.username, part.password) for part in parts if part.username is not None}
        if len(logins) != 1 or self.credentials:
            return {}
        ((user, password),) = logins
        assert user is not None
        if password is None:
            return {"token": unquote(user)}
        return {"user": unquote(user), "password": unquote(password)}


class NotEncrypted(NatsError):
    """TLS is required, and the server does not offer it."""

    def __str__(self) -> str:
        return (
            "TLS is asked for, and the NATS server does not require it: the connection would be in the clear"
        )


class NatsClient(Client):
    """nats-py's client, which by itself connects without TLS to a server that does not require it."""

    def __init__(self, secure: bool) -> None:
        super().__init__()
        self._secure = secure

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # INFO is the server's first message; the client sends its password only afterwards.
        if self._secure and initial_connection and not info.get("tls_required"):
            raise NotEncrypted
        await super()._process_info(info, initial_connection)


async def probe(options: NatsOptions, node: str | None = None) -> bool:
    """Connects once and disconnects; returns True if the node's name is free.

    Raises FabricError for what a retry cannot mend (credentials, TLS, unknown hosts); ConnectionError if no server is
    reachable now.
    """
    failures: list[Exception] = []

    async def failed(error: Exception) -> None:
        failures.append(error)

    _check_credentials(options.credentials)
    client = NatsClient(options.secure)
    try:
        await client.connect(
            **options.arguments(),
            error_cb=failed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=RECONNECT_SECONDS,
            connect_timeout=PROBE_SECONDS,
        )
    except (NatsError, OSError, ValueError) as error:
        raise _classified([*failures, error]) from None
    try:
        return node is None or await _is_free(client, f"{options.prefix}.to.{token_of(node)}")
    finally:
        await client.close()


async def _is_free(client: Client, subject: str) -> bool:
    try:
        await client.request(subject, b"", timeout=NAME_SECONDS)
    except NoRespondersError:
        return True
    except NatsError:
        return False  # a node has subscribed; it drops the empty frame
    return False


def _check_credentials(path: str) -> None:
    """Raises FabricError if it is not a .creds file, for which nats-py would fail in the middle of its handshake."""
    if not path:
        return
    try:
        parts = _CREDENTIALS.search(Path(path).read_bytes())
        if parts is not None:
            nkeys.from_seed(bytearray(parts["seed"])).wipe()
            return
    except OSError as error:
        raise FabricError(f"the credentials file cannot be read: {error.strerror}") from None
    except (nkeys.NkeysError, ValueError):
        pass
    raise FabricError(
        "the credentials file is no .creds file: a user's JWT and the seed of its key are expected"
    )


def _classified(failures: list[Exception]) -> Exception:
    for failure in failures:
        text = str(failure).lower()
        if isinstance(failure, NotEncrypted):
            return FabricError(why(failure))
        if any(word in text for word in ("authorization", "authentication", "permissions", "credentials")):
            return FabricError("the NATS server refuses the user, password or credentials")
        if isinstance(failure, ssl.SSLError) or "tls" in text:
            return FabricError(f"TLS with the NATS server fails: {why(failure)}")
        if isinstance(failure, socket.gaierror):
            return FabricError(f"the NATS server's host is unknown: {why(failure)}")
        if isinstance(failure, ValueError):
            return FabricError(why(failure))
    return ConnectionError(why(failures[0]))


def why(error: BaseException) -> str:
    """An error in one line."""
    return str(error).removeprefix("nats: ") or type(error).__name__


def token_of(node: str) -> str:
    """A node's name, encoded as one token of a subject."""
    return base64.urlsafe_b64encode(node.encode()).rstrip(b"=").decode()


def node_of(token: str) -> str:
    """The inverse of `token_of`."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
