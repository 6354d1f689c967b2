"""Ends open sockets whose session has ended, by Phoenix's `disconnect` broadcast on the user's socket id.

A broadcast that names a session closes the sockets of that session alone; one that names none closes all of the user's.
"""

from __future__ import annotations

from uuid import UUID

from runtime import erlang
from runtime.phoenix.endpoint import local_broadcast

PUBSUB = "pubsub"


def socket_id(user_id: UUID | str) -> str:
    """The id that every socket of this user has."""
    return f"user_socket:{user_id}"


def user(user_id: UUID) -> None:
    """Closes every socket of this user on this server; the others read in the change log what has happened."""
    _disconnect(user_id, {})


def session(user_id: UUID, session_id: UUID) -> None:
    """Closes the sockets of one session of this user on this server."""
    _disconnect(user_id, {"session_id": str(session_id)})


def _disconnect(user_id: UUID, payload: dict[str, str]) -> None:
    # Another node's sockets are closed when it has read the change itself: sooner, their clients would come back in.
    if erlang.whereis(PUBSUB) is not None:
        local_broadcast(PUBSUB, socket_id(user_id), "disconnect", payload)
