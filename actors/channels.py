"""The channels of BitNexus: transactions, notifications, and what operators watch.

A channel is one process for one join of one client. Broadcasts pass it by (Phoenix's fastlane); it is there
to let the client in, and to answer `ping`. When it crashes, that client alone sees phx_error and joins
again.
"""

from __future__ import annotations

from typing import Any

from runtime.phoenix.channel import Channel, Error, Ok, Reply

UNAUTHORIZED = {"reason": "unauthorized"}


class OwnChannel(Channel):
    """`{kind}:{user_id}`: the user's own topic, and for an admin everybody's."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        owner = topic.partition(":")[2]
        if owner == self.assigns["user_id"] or (self.assigns["role"] == "admin" and owner):
            return Ok()
        return Error(UNAUTHORIZED)

    def handle_in(self, event: Any, payload: Any) -> Any:
        return answer(event, payload)


class TransactionChannel(OwnChannel):
    """`transaction:{user_id}`: event `new_transaction` for every transaction, whoever wrote it."""

    __slots__ = ()


class NotificationChannel(OwnChannel):
    """`notification:{user_id}`: events `new_notification` and `notification_updated`."""

    __slots__ = ()


class AdminChannel(Channel):
    """`admin:*`, for role admin: new_task, task_updated, new_email, flag_updated and what the tree tells."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        return Ok() if self.assigns["role"] == "admin" else Error(UNAUTHORIZED)

    def handle_in(self, event: Any, payload: Any) -> Any:
        return answer(event, payload)


def answer(event: Any, payload: Any) -> Any:
    """`ping` is answered with its payload; what else a client may say is an error to it, not a crash of its
    channel."""
    match event:
        case "ping":
            return Reply("ok", payload)
        case _:
            return Reply("error", {"reason": "unknown event"})
