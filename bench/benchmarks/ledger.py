"""A request beside the size of the ledger: ENTRIES on one server, 10,000 on another, and the earlier commit's with ENTRIES.

The ledgers are filled as the writer would have (bench/ledger_sql.py). One client asks; `10,000 entries` stands beside as a
peer, and should cost the same. Filling one with 10^7 takes long: with `--ledgers FOLDER` they are kept there, and used again by
the same commit. The start is one with the database not running either.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import uvloop

from bench.bitnexus import BitNexus, serving
from bench.figures import Row
from bench.http_load import connect, request
from bench.revision import ROOT, Revision
from bench.run import Run, Task

SMALL = 10_000
REQUESTS = 300
MINE = 500  # transactions of the client whose proofs are asked for
FILLED = "bench-filled"  # a file that says so
KINDS = ("POST", "history, a page of 50", "verify", "consistency")


class Ledger:
    """A server whose ledger has `size` entries, kept in `folder` if there is one; `mine` are its client's transactions."""

    def __init__(self, revision: Revision, size: int, folder: Path | None = None) -> None:
        self.size = size
        self.place = folder and folder / f"{revision.label}-{size}"
        self._serving = serving(revision, self.place)

    def __enter__(self) -> Ledger:
        self.server: BitNexus = self._serving.__enter__()
        try:
            if self.place is None or not (self.place / FILLED).exists():
                self.server.fill(ROOT / "bench" / "ledger_sql.py", str(self.size), self.server.user["id"])
                (self.server.folder / FILLED).touch()
                self.server.restart()  # it reads its head at start
            mine = f"SELECT id FROM transactions WHERE user_id = '{self.server.user['id']}' LIMIT {MINE};"  # noqa: S608
            text = "\\pset format unaligned\n\\pset tuples_only on\n" + mine
            words = self.server.command("psql", text=text).split()
            self.mine = [UUID(word) for word in words if len(word) == 36]
        except BaseException:
            self._serving.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    def raw(self, kind: str, number: int) -> tuple[bytes, int]:
        """A request of this kind, and the status it gets."""
        path = {
            "history, a page of 50": "/api/v1/transactions?limit=50",
            "verify": f"/api/v1/transactions/{self.mine[number % len(self.mine)]}/verify",
            "consistency": f"/api/v1/ledger/consistency?from={self.size // 3}&to={self.size}",
        }
        if kind in path:
            return request("GET", path[kind], token=self.server.token), 200
        body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
        return request("POST", "/api/v1/transactions", body, self.server.token), 201

    async def asks(self, kind: str) -> list[float]:
        """CPU of server and PostgreSQL in us a request, and the median in ms."""
        http, took = await connect(self.server.port), list[float]()
        await http.request(*self.raw(kind, 0))
        before = self.server.cpu() + self.server.database_cpu()
        for _ in range(REQUESTS):
            raw, status = self.raw(kind, next(_numbers))
            began = time.perf_counter()
            await http.request(raw, status)
            took.append(time.perf_counter() - began)
        used = self.server.cpu() + self.server.database_cpu() - before
        http.close()
        return [used / REQUESTS * 1e6, statistics.median(took) * 1e3]

    async def start(self) -> list[float]:
        """Seconds of CPU of a start of the server, and seconds until it said that it serves."""
        before = self.server.cpu()
        took = await asyncio.to_thread(self.server.restart)
        return [self.server.cpu() - before, took]


_numbers = count()


def requests(size: int) -> list[Task[Ledger]]:
    """What each ledger is asked in a round."""
    found: list[Task[Ledger]] = []
    for kind in KINDS:
        what = f"{kind}, {size:,} entries"
        rows = Row(f"{what}: server + PostgreSQL", "us CPU"), Row(f"{what}: p50", "ms", wall_clock=True)
        found.append(Task(rows, partial(Ledger.asks, kind=kind)))
    return found


def start(size: int) -> Task[Ledger]:
    """Starts, apart from the requests: a server that has just started is slower."""
    what = f"start, {size:,} entries"
    rows = Row(f"{what}: server", "s CPU"), Row(f"{what}: until it serves", "s", wall_clock=True)
    return Task(rows, Ledger.start)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    ledgers: dict[str, Ledger] = {}
    asked, starts = requests(run.entries), start(run.entries)
    rows = [row for task in (*asked, starts) for row in task.rows]
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(
                stack, revision.name, rows, partial(Ledger, revision, run.entries, run.ledgers), ledgers
            )
        small = partial(Ledger, run.revisions[0], SMALL, run.ledgers)
        run.enter(stack, f"{SMALL:,} entries", rows, small, ledgers)
        uvloop.run(run.alternate(asked, ledgers))
        uvloop.run(run.alternate([starts], ledgers, warm_up=False))
