"""The channels of BitNexus: transactions, notifications, and what operators watch.

A channel is one process for one join of one client. Broadcasts pass it by (Phoenix's fastlane); it is there
to let the client in, to push to a client that comes back what it missed, and to answer `ping`. When it crashes,
that client alone sees phx_error and joins again.
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
PAGE = 500  # missed events pushed at a time, about a third of what a socket may have waiting
PAGE_PAUSE = 20  # ms between pages: a slow reader gets a chance to read
AWAY_PAUSE = 2_000  # ms until we read again, while the database is away: a channel that crashed for it would be a report a try
ACQUIRE_SECONDS = 10.0  # everybody comes back at once
LAG_PAUSE = 50  # ms until we poll again, while this server lags behind what the client has seen elsewhere


class OwnChannel(Channel):
    """`{kind}:{user_id}`: the user's own topic, nobody else's."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        if topic.partition(":")[2] == self.assigns["user_id"]:
            return Accept()
        return Refuse(UNAUTHORIZED)

    def handle_in(self, event: Any, payload: Any) -> Any:
        return answer(event, payload)


@dataclass(frozen=True, slots=True)
class Resume:
    """To itself: push what comes after `seq`; `since` is how far the server had published when the client joined."""

    seq: int
    since: int | None


class TransactionChannel(OwnChannel):
    """`transaction:{user_id}`: event `new_transaction` for every transaction, whoever wrote it.

    A client that joins with `{"last_seq": N}` first gets all events after ledger seq N, in order, and then
    what happens: none is missing, none comes twice. One that sends no `last_seq` gets what happens from now
    on.
    """

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        answer = super().join(topic, payload, socket)
        if type(answer) is Refuse or not isinstance(payload, dict) or "last_seq" not in payload:
            return answer
        seq = payload["last_seq"]
        if type(seq) is not int or not 0 <= seq < 1 << 63:
            return Refuse(BAD_LAST_SEQ)
        erlang.send(self.pid, Resume(seq, server_state().ledger_position))
        return Accept(subscribe=False)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Resume(seq, since):
                return self._resume(seq, since)
        return None

    async def _resume(self, seq: int, since: int | None) -> None:
        # What this server has broadcast moves on while we read. Pushed is what lies up to its position; when
        # that is all, we subscribe before anything else can run, so the next broadcast is exactly the next event.
        try:
            async with repo.connection(ACQUIRE_SECONDS) as connection:
                position = await ledger_feed.begin(connection)
                if position < seq:
                    if seq <= (await connection.fetchval(ledger.HEAD_SEQ) or 0):
                        position = seq
                    else:  # of no entry of ours: what has happened since the join is new to this client, too
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
    """`ping` is answered with its payload; what else a client may say is an error to it, not a crash of its channel."""
    match event:
        case "ping":
            return Reply(("ok", payload))
        case _:
            return Reply(("error", {"reason": "unknown event"}))
