"""The channels of BitNexus: transactions, notifications, and the operators' topics.

A channel is one process for one join of one client. Broadcasts bypass it (Phoenix's fastlane); it authorizes the join, pushes the
missed events to a client that comes back, and answers `ping`. If it crashes, only that client gets phx_error, and rejoins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from actors.ledger import feed as ledger_feed
from actors.server_state import server_state
from actors.storage import repo
from runtime import erlang
from runtime.phoenix import Accept, Channel, Refuse, Reply
from schema import ledger
from schema.rows import TransactionRow

UNAUTHORIZED = {"reason": "unauthorized"}
BAD_LAST_SEQ = {"reason": "last_seq must be a whole number, 0 or more"}
PAGE = 500  # missed events pushed at a time: about a third of a socket's buffer
PAGE_PAUSE = 20  # ms between pages, in which a slow client can read
AWAY_PAUSE = 2_000  # ms between tries while the database is unavailable: a channel that crashed would be a report each time
ACQUIRE_SECONDS = 10.0  # all clients come back at once
LAG_PAUSE = 50  # ms between polls while this server is behind what the client has seen on another


class OwnChannel(Channel):
    """`{kind}:{user_id}`: a topic that only this user may join."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        if topic.partition(":")[2] == self.assigns["user_id"]:
            return Accept()
        return Refuse(UNAUTHORIZED)

    def handle_in(self, event: Any, payload: Any) -> Any:
        return answer(event, payload)


@dataclass(frozen=True, slots=True)
class Resume:
    """A message to itself: push the entries after `seq`. `since` is the server's position when the client joined."""

    seq: int
    since: int | None


class TransactionChannel(OwnChannel):
    """`transaction:{user_id}`: event `new_transaction` for every transaction, whichever program wrote it.

    A client that joins with `{"last_seq": N}` gets all events after ledger seq N in order, each once: first the missed ones, then
    new ones. A client without `last_seq` gets the events from now on.
    """

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        answer = super().join(topic, payload, socket)
        if type(answer) is Refuse or not isinstance(payload, dict) or "last_seq" not in payload:
            return answer
        seq = payload["last_seq"]
        if type(seq) is not int or not 0 <= seq < 1 << 63:
            return Refuse(BAD_LAST_SEQ)
        if not _is_user(self.assigns["user_id"]):
            return answer  # a service, which has no transactions and has missed none
        erlang.send(self.pid, Resume(seq, server_state().ledger_position))
        return Accept(subscribe=False)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Resume(seq, since):
                return self._resume(seq, since)
        return None

    async def _resume(self, seq: int, since: int | None) -> None:
        # The server's position moves on while this reads. Entries up to the position that was read are pushed; if it is still
        # the same then, the channel subscribes before anything else can run, so that the next broadcast is the next event.
        try:
            async with repo.connection(ACQUIRE_SECONDS) as connection:
                position = await ledger_feed.begin(connection)
                if position < seq:
                    if seq <= (await connection.fetchval(ledger.HEAD_SEQ) or 0):
                        position = seq
                    else:  # the ledger never had `seq` (or lost it): the client gets what was recorded since it joined
                        seq = position if since is None else since
                rows = await connection.fetch(
                    ledger.MISSED, UUID(self.assigns["user_id"]), seq, position, PAGE
                )
        except (repo.Unavailable, repo.OutcomeUnknown):  # nothing is missed: all of it is read later
            erlang.send_after(AWAY_PAUSE, self.pid, Resume(seq, since))
            return
        for row in rows:
            payload = TransactionRow.from_record(row).payload()
            self.push("new_transaction", {**payload, "ledger_seq": row["seq"]})
        seq = rows[-1]["seq"] if len(rows) == PAGE else position
        now = ledger_feed.position()
        if seq == now:
            self.subscribe()
        elif seq < now:
            erlang.send_after(PAGE_PAUSE if rows else 0, self.pid, Resume(seq, since))
        else:
            erlang.send_after(LAG_PAUSE, self.pid, Resume(seq, since))


def _is_user(subject: str) -> bool:
    """Whether a token's subject is a user's id, in its canonical form: a service may choose any other text."""
    try:
        return str(UUID(subject)) == subject
    except ValueError:
        return False


class NotificationChannel(OwnChannel):
    """`notification:{user_id}`: events `new_notification` and `notification_updated`."""

    __slots__ = ()


class AdminChannel(Channel):
    """`admin:*`, for role admin: new_task, task_updated, new_email, flag_updated and the events of the observer."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        return Accept() if self.assigns["role"] == "admin" else Refuse(UNAUTHORIZED)

    def handle_in(self, event: Any, payload: Any) -> Any:
        return answer(event, payload)


def answer(event: Any, payload: Any) -> Any:
    """The reply to an event of a client: `ping` returns its payload; any other event is an error reply, not a crash."""
    match event:
        case "ping":
            return Reply(("ok", payload))
        case _:
            return Reply(("error", {"reason": "unknown event"}))
