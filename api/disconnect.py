"""Ends open sockets of a user whose session ended, by Phoenix's `disconnect` broadcast on the socket's id."""

from __future__ import annotations

from uuid import UUID

from runtime import erlang


def user(user_id: UUID) -> None:
    """Closes every socket of this user, on this server and (through PubSub) on the others."""
    _broadcast(f"user_socket:{user_id}")


def session(user_id: UUID, session_id: UUID | None) -> None:
    """Closes the sockets that were opened with tokens of this session."""
    if session_id is not None:
        _broadcast(f"session_socket:{session_id}")


def _broadcast(topic: str) -> None:
    if erlang.whereis("pubsub") is None:
        return
    from runtime.phoenix import channel

    channel.broadcast("pubsub", topic, "disconnect", {})
