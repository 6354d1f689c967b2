"""How a node reaches the NATS servers: options, nats-py's client with what it lacks, and what is wrong with them at the start."""

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
RECONNECT_SECONDS: Final[Any] = 0.25  # which nats-py takes as well, though it says int
_CREDENTIALS: Final = re.compile(
    rb"BEGIN NATS USER JWT-+\s+\S+\s+-+END.*BEGIN USER NKEY SEED-+\s+(?P<seed>\S+)\s+-+END", re.DOTALL
)


class FabricError(Exception):
    """The NATS servers can't be used; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to reach the servers.

    `prefix` begins all subjects, so that several clusters can share servers; `credentials` is the path of a .creds file. User
    and password, or a token alone, stand in the URLs (`nats://user:password@host`, `nats://token@host`), percent-encoded where
    they must be. With `tls`, or one server of the scheme `tls`, nothing is ever said in the clear.
    """

    servers: tuple[str, ...]
    prefix: str = "nodes"
    credentials: str = ""
    tls: ssl.SSLContext | None = None
    name: str = ""

    @property
    def secure(self) -> bool:
        """Whether TLS is asked for."""
        return self.tls is not None or any(server.startswith("tls:") for server in self.servers)

    def arguments(self) -> dict[str, Any]:
        """What nats-py is to be told."""
        given: dict[str, Any] = {"servers": list(self.servers), "name": self.name or None, "no_echo": True}
        if self.credentials:
            given["user_credentials"] = self.credentials
        if self.secure:
            given["tls"] = self.tls or ssl.create_default_context()
        return given | self._login()

    def _login(self) -> dict[str, str]:
        # Servers that the first one tells of come without the user of its URL, so what all URLs have in common is for all.
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
    """TLS is asked for, and the server offers none."""

    def __str__(self) -> str:
        return (
            "TLS is asked for, and the NATS server does not require it: the connection would be in the clear"
        )


class NatsClient(Client):
    """nats-py's client, which would go on in the clear with a server that does not ask for TLS, at any reconnection."""

    def __init__(self, secure: bool) -> None:
        super().__init__()
        self._secure = secure

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # The first that a server says; what the client says, its password first, comes afterwards.
        if self._secure and initial_connection and not info.get("tls_required"):
            raise NotEncrypted
        await super()._process_info(info, initial_connection)


async def probe(options: NatsOptions, node: str | None = None) -> bool:
    """Connects once and leaves; returns whether the node's name is free.

    Raises FabricError, one line, for what will not mend itself by waiting: credentials, TLS, names of hosts; ConnectionError
    when no server answers now.
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
        raise _judged([*failures, error]) from None
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
        return False  # somebody takes its frames; an empty one is none
    return False


def _check_credentials(path: str) -> None:
    """Raises FabricError for what is no .creds file: nats-py finds that out by failing in the middle of a handshake."""
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


def _judged(failures: list[Exception]) -> Exception:
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
    """A node's name as one token of a subject."""
    return base64.urlsafe_b64encode(node.encode()).rstrip(b"=").decode()


def node_of(token: str) -> str:
    """The name that a token stands for."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
