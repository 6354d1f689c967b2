"""CPU and time of a request beside the size of the ledger: 10^4 entries and more, up to LEDGER_ENTRIES (by default 10^6).

One real `bitnexus serve` for each size, its ledger loaded with COPY: rows of 1,000 users, their entries, the stored nodes and the
head as the writer would have made them. In turns each server gets the same requests of one client. A row's peer is the smallest
ledger in the same run. The start includes the database's. Loading 10^7 entries takes minutes: with LEDGER_FOLDER, a folder,
ledgers are kept in there and used again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import uvloop

from actors.ledger.batch import new_ids
from actors.ledger.server import prepare
from bench.http_load import Connection, connect, request
from bench.main_job import PASSWORD, Service
from bench.row import Row
from schema.rows import LedgerHead, TransactionRow

SMALL = 10**4
ENTRIES = int(os.environ.get("LEDGER_ENTRIES", 10**6))
USERS = 1_000
BLOCK = 10_000
ROUNDS, REQUESTS, WARM_UP = 5, 500, 50


class Ledger:
    """A server whose ledger has `size` entries; `mine` are ids of transactions of its client."""

    def __init__(self, folder: str, size: int) -> None:
        self.size = size
        self.mine: list[UUID] = []
        loaded = Path(folder) / "transactions.txt"
        if loaded.exists():
            self.mine += map(UUID, loaded.read_text().split())
            self.service = Service(folder)
            return
        self.service = Service(folder)
        self.service.create_user()
        self.load()
        loaded.write_text("\n".join(map(str, self.mine)))

    def load(self) -> None:
        """Fills the ledger as the writer would have, a block of rows at a time."""
        command = [sys.executable, "-m", "api.cli", "psql"]
        psql = subprocess.Popen(
            command, env=self.service.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write(
            "\\set QUIET on\n\\set ON_ERROR_STOP on\n\\pset format unaligned\n\\pset tuples_only on\n"
        )
        psql.stdin.write("SET bitnexus.batch = 'on'; SELECT id FROM users;\n")
        psql.stdin.flush()
        owner = UUID(psql.stdout.readline().strip())
        users = [owner, *(uuid4() for _ in range(USERS - 1))]
        rows = ",".join(f"('{user}', '{user}@example.com')" for user in users[1:])
        psql.stdin.write(f"INSERT INTO users (id, email) VALUES {rows};\n")  # noqa: S608 - our own uuids
        for statements in self.blocks(users):
            psql.stdin.write(statements)
        psql.stdin.write("VACUUM ANALYZE transactions, ledger_entries, ledger_nodes, users;\n")
        psql.communicate()
        assert psql.returncode == 0, "the ledger was not loaded"

    def blocks(self, users: list[UUID]) -> Iterator[str]:
        """SQL of a block of entries after the other, and of the head."""
        head = LedgerHead(0, bytes(32), b"", ())
        began = datetime.now(UTC) - timedelta(days=365)
        for first in range(0, self.size, BLOCK):
            at = began + timedelta(milliseconds=first)
            amount = Decimal("12.50")
            rows = [
                TransactionRow(id_, users[number % USERS], amount, "EUR", f"no. {first + number}", at)
                for number, id_ in enumerate(new_ids(min(BLOCK, self.size - first)))
            ]
            self.mine.append(rows[0].id)
            prepared = prepare(head, rows)
            yield copy(
                "transactions (id, user_id, amount, currency, description, inserted_at)",
                ((r.id, r.user_id, r.amount, r.currency, r.description, at.isoformat()) for r in rows),
            )
            previous = [head.hash, *prepared.hashes]
            yield copy(
                "ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)",
                (
                    (head.seq + n + 1, row.id, _hex(leaf), _hex(previous[n]), _hex(prepared.hashes[n]))
                    for n, (row, leaf) in enumerate(zip(rows, prepared.leaf_hashes, strict=True))
                ),
            )
            yield copy(
                "ledger_nodes (level, position, hash)",
                ((subtree.level, subtree.index, _hex(value)) for subtree, value in prepared.nodes),
            )
            head = prepared.after
        frontier = ",".join(f"'\\x{value.hex()}'::bytea" for value in head.frontier)
        yield (
            f"UPDATE ledger_head SET seq = {head.seq}, hash = '\\x{head.hash.hex()}',"  # noqa: S608
            f" root_hash = '\\x{head.root_hash.hex()}', frontier = ARRAY[{frontier}];\n"
        )

    def restart(self) -> float:
        """Starts it anew; seconds until it says that it serves. Its clients sign in again."""
        self.service.stop()
        began = time.perf_counter()
        self.service = Service(self.service.folder)
        return time.perf_counter() - began

    def stop(self) -> None:
        """Ends it."""
        self.service.stop()

    async def open(self) -> None:
        """Signs the client in."""
        self.http: Connection = await connect(int(self.service.url.rpartition(":")[2]))
        body = json.dumps({"email": "bench@example.com", "password": PASSWORD}).encode()
        answer = await self.http.request(request("POST", "/api/v1/auth/login", body), 200)
        self.token = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]

    def requests(self, number: int) -> dict[str, tuple[bytes, int]]:
        """One request of each kind, and the status that it gets."""
        body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
        paths = {
            "history, a page of 50": "/api/v1/transactions?limit=50",
            "verify": f"/api/v1/transactions/{self.mine[number % len(self.mine)]}/verify",
            "consistency": f"/api/v1/ledger/consistency?from={self.size // 3}&to={self.size}",
        }
        asked = {what: (request("GET", path, token=self.token), 200) for what, path in paths.items()}
        return {"POST": (request("POST", "/api/v1/transactions", body, self.token), 201), **asked}

    async def measure(self, what: str, count: int) -> tuple[float, float]:
        """CPU of server and PostgreSQL in us a request, and the median in ms."""
        took: list[float] = []
        before = sum(self.service.seconds())
        for number in range(count):
            raw, status = self.requests(number)[what]
            began = time.perf_counter()
            await self.http.request(raw, status)
            took.append(time.perf_counter() - began)
        return (sum(self.service.seconds()) - before) / count * 1e6, statistics.median(took) * 1e3


def copy(table: str, rows: Iterable[tuple[object, ...]]) -> str:
    """Psql's text for these rows."""
    lines = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    return f"COPY {table} FROM STDIN;\n{lines}\\.\n"


def _hex(value: bytes) -> str:
    return "\\\\x" + value.hex()


async def load(ledgers: list[Ledger]) -> list[Row]:
    """The figures."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for ledger in ledgers:
        await ledger.open()
        for what in ledger.requests(0):
            await ledger.measure(what, WARM_UP)
    for _ in range(ROUNDS):
        for what in ledgers[0].requests(0):
            for ledger in ledgers:
                found.setdefault((what, ledger.size), []).append(await ledger.measure(what, REQUESTS))
    middle = {
        key: tuple(map(statistics.median, zip(*figures, strict=True))) for key, figures in found.items()
    }
    rows: list[Row] = []
    for what, size in middle:
        if size == SMALL:
            continue
        (cpu, took), (small_cpu, small_took) = middle[what, size], middle[what, SMALL]
        small = f"{SMALL:,} entries"
        rows += [
            Row(f"{what} at {size:,} entries: all", cpu, "us of CPU", {small: small_cpu}),
            Row(f"{what} at {size:,} entries: median", took, "ms", {small: small_took}),
        ]
    return rows


def run() -> list[Row]:
    """The answer."""
    with ExitStack() as stack:
        ledgers: list[Ledger] = []
        kept = os.environ.get("LEDGER_FOLDER")
        folder = kept or stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(folder, 0o755)
        for size in (SMALL, ENTRIES):
            ledgers.append(Ledger(f"{folder}/{size}", size))
            stack.callback(ledgers[-1].stop)
        small, large = (statistics.median(ledger.restart() for _ in range(ROUNDS)) for ledger in ledgers)
        peers = {f"{SMALL:,} entries": small}
        rows = uvloop.run(load(ledgers))
        return [*rows, Row(f"start at {ENTRIES:,} entries, the database too", large, "s", peers)]
