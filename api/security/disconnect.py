"""Closes sockets whose session has ended, by Phoenix's `disconnect` broadcast on the user's socket id.

A broadcast with a session closes the sockets of that session only; one without closes all of the user's.
"""

from __future__ import annotations

from uuid import UUID

from runtime import erlang
from runtime.phoenix.endpoint import local_broadcast

PUBSUB = "pubsub"


def socket_id(user_id: UUID | str) -> str:
    """The socket id of all sockets of this user."""
    return f"user_socket:{user_id}"


def user(user_id: UUID) -> None:
    """Closes all sockets of this user on this server; other servers learn of it from the change log."""
    _disconnect(user_id, {})


def session(user_id: UUID, session_id: UUID) -> None:
    """Closes the sockets of one session of this user on this server."""
    _disconnect(user_id, {"session_id": str(session_id)})


def _disconnect(user_id: UUID, payload: dict[str, str]) -> None:
    # Each node closes its own sockets once it has read the change: closed sooner, their clients would be let in again.
    if erlang.whereis(PUBSUB) is not None:
        local_broadcast(PUBSUB, socket_id(user_id), "disconnect", payload)
