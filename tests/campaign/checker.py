"""The checker: the clients' logs against the database, every hash computed anew from the rows by docs/ledger.md.

It uses nothing of the product: what is wrong there must not be wrong here in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import asyncpg

from tests.campaign.clients import Log
from tests.campaign.subscribers import Event, Subscriber
from tests.support.chain import QUERY, leaf

SHOWN = 20


@dataclass
class Findings:
    """What was counted, and a line for each thing that is wrong."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    missed: int = 0
    faults: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The last line of a campaign."""
        return (
            f"{self.acknowledged} acknowledged, {self.lost} lost, {self.doubled} doubled, {self.gaps} gaps, "
            f"{self.missed} missed events, {self.faults} faults"
        )

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.gaps or self.missed or self.wrong)


async def check(database: str, log: Log, subscribers: Sequence[Subscriber], faults: int) -> Findings:
    """All there is to check, once the servers have come to rest."""
    connection = await asyncpg.connect(database)
    try:
        entries = await connection.fetch(QUERY)
        rows = await connection.fetch("SELECT id, user_id, description FROM transactions")
        head = await connection.fetchrow("SELECT seq, hash, root_hash FROM ledger_head")
    finally:
        await connection.close()
    acknowledged = len(log.acknowledged) + len(log.foreign)
    found = Findings(acknowledged=acknowledged, faults=faults, wrong=list(log.wrong))
    _check_acknowledged(found, log, entries, rows)
    _check_chain(found, entries, rows, head)
    for subscriber in subscribers:
        _check_subscriber(found, subscriber, entries)
    return found


def _check_acknowledged(found: Findings, log: Log, entries: list[Any], rows: list[Any]) -> None:
    by_seq = {entry["seq"]: str(entry["transaction_id"]) for entry in entries}
    there = {str(row["id"]) for row in rows}
    for transaction, seq, _ in log.acknowledged:
        if transaction not in there or by_seq.get(seq) != transaction:
            found.lost += 1
    recorded = set(by_seq.values())
    found.lost += sum(transaction not in recorded for transaction in log.foreign)
    # Each client's request has a description of its own.
    written = Counter(row["description"] for row in rows)
    found.doubled += sum(count - 1 for count in written.values())
    for description in log.refused & written.keys():
        found.wrong.append(f"{description} was answered `nothing was written`, and is there")


def _check_chain(found: Findings, entries: list[Any], rows: list[Any], head: Any) -> None:
    previous, leaves = bytes(32), []
    for place, entry in enumerate(entries, 1):
        if entry["seq"] != place:
            found.gaps += 1
            return
        if entry["id"] is None or entry["leaf_hash"] != leaf(entry) or entry["prev_hash"] != previous:
            found.wrong.append(f"entry {place} is not its row's, or does not follow the one before")
            return
        leaves.append(entry["leaf_hash"])
        previous = sha256(b"\x02" + previous + place.to_bytes(8, "big") + entry["leaf_hash"]).digest()
        if entry["hash"] != previous:
            found.wrong.append(f"the hash of entry {place} is wrong")
            return
    found.gaps += abs(len(rows) - len(entries))
    if (head["seq"], head["hash"], head["root_hash"]) != (len(entries), previous, merkle_root(leaves)):
        found.wrong.append("the head is not that of the entries")


def _check_subscriber(found: Findings, subscriber: Subscriber, entries: list[Any]) -> None:
    own: list[Event] = [
        (entry["seq"], str(entry["transaction_id"]))
        for entry in entries
        if str(entry["user_id"]) == subscriber.person.id
    ]
    seen = subscriber.seen
    if strangers := set(seen) - set(own):
        found.wrong.append(f"events came of no entry: {sorted(strangers)[:3]}")
    # Who does not resume may be told again by another server: what comes is what happens, as that server sees it.
    for told in [seen] if subscriber.resumes else subscriber.sessions:
        found.doubled += len(told) - len(set(told))
        if told != sorted(told):
            found.wrong.append(f"events of {subscriber.person.id} came out of order")
    missed = _missed(subscriber, own)
    found.missed += len(missed)
    if missed:
        seqs = [seq for seq, _ in sorted(missed)]
        found.wrong.append(f"{subscriber} missed {seqs[:5]}, {len(seqs)} in all")


def _missed(subscriber: Subscriber, own: list[Event]) -> set[Event]:
    if subscriber.resumes:
        return set(own) - set(subscriber.seen)
    missed = set[Event]()
    for session in filter(None, subscriber.sessions):
        missed |= {event for event in own if session[0] <= event <= session[-1]} - set(session)
    last = subscriber.sessions[-1]
    if subscriber.joined and last:
        missed |= {event for event in own if event > last[-1]}
    return missed


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, from leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()
