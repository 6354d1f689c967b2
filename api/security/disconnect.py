"""Ends open sockets of a user whose session ended, by Phoenix's `disconnect` broadcast on the socket's id.

All of the user's sockets close. Those of his other sessions come back by themselves, since the client
reconnects with a token that still holds; those of the ended one are refused.
"""

from __future__ import annotations

from uuid import UUID

from runtime.otp import erlang
from runtime.phoenix.endpoint import broadcast

PUBSUB = "pubsub"


def socket_id(user_id: UUID | str) -> str:
    """The id that every socket of this user has."""
    return f"user_socket:{user_id}"


def user(user_id: UUID) -> None:
    """Closes every socket of this user on this server; the others read in the change log that his sessions have ended."""
    if erlang.whereis(PUBSUB) is not None:
        broadcast(PUBSUB, socket_id(user_id), "disconnect", {})
