"""`python -m tests.upgrade [--nodes 2] [--rate 200] [--sockets 2000]`: `bitnexus upgrade` while clients work, and what they saw.

Exit code 1 if a request failed, a socket was not back within 10 s, an event came later than 10 s after its acknowledgement, or a
socket or a LongPoll session did not get every event once and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil

from actors.settings import load
from actors.storage.postgres.cluster import DatabaseCluster
from api.security.tokens import Keyring
from bench.socket_load import raise_file_limit
from schema import users
from schema.migrate import migrate
from tests.campaign.clients import Person
from tests.campaign.subscribers import LongPollSubscriber
from tests.support.server import ROOT, SECRET, Server, environment, start
from tests.upgrade.requests import Account, Requests
from tests.upgrade.sockets import Tab

BACK_SECONDS = 10.0
WARM_SECONDS = 3.0  # of load before the upgrade, and after it
REST_SECONDS = 60.0  # for the last events
OPENING = 100  # sockets that are opened at once
LONGPOLLS = 8


@dataclass
class Course:
    """What happened. Times are seconds."""

    upgrade: float = 0.0
    replaced: int = 0
    requests: int = 0
    slowest: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    sockets: int = 0
    comebacks: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    events: int = 0
    latest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> Iterable[str]:
        """What to print."""
        back = sorted(self.comebacks)
        yield f"upgrade: {self.upgrade:.1f} s, {self.replaced} processes replaced"
        yield f"requests: {self.requests} answered, {sum(self.failures.values())} failed, slowest {self.slowest:.2f} s"
        yield from (f"  {count} x {why}" for why, count in self.failures.most_common(10))
        if back:
            middle, last = back[len(back) // 2], back[-1]
            yield f"sockets: {self.sockets}, sent away {len(back)} times, back after {middle:.2f} s (median), {last:.2f} s (last)"
        yield from (f"  {count} x {why}" for why, count in self.ends.most_common(10))
        yield f"events: {self.events} told, the latest {self.latest:.2f} s after its acknowledgement"
        yield from self.wrong

    def sound(self, limit: float) -> bool:
        """Whether clients saw nothing; `limit` seconds for sockets and events."""
        late = max([self.latest, *self.comebacks])
        return not self.failures and not self.wrong and late <= limit and len(self.comebacks) >= self.sockets


async def upgrade(
    server: Server, folder: Path, accounts: list[Account], rate: float, sockets: int, patience: float = 1.0
) -> Course:
    """Upgrades this server, which runs with `--nodes`, under load. `patience` stretches the waiting for the last events."""
    course = Course(sockets=sockets)
    before = {child.pid for child in psutil.Process(server.process.pid).children()}
    tabs = [Tab(server.url, accounts[number % len(accounts)]) for number in range(sockets)]
    for first in range(0, sockets, OPENING):
        await asyncio.gather(*(tab.open() for tab in tabs[first : first + OPENING]))
    people = [Person(one.id, one.token) for one in accounts[:LONGPOLLS]]
    polls = [LongPollSubscriber(person, lambda: [server.url], random.Random(1)) for person in people]
    polling = [asyncio.create_task(poll.run()) for poll in polls]
    requests, stop = Requests(server.url, accounts, rate), asyncio.Event()
    load_ = asyncio.create_task(requests.run(stop))
    await asyncio.sleep(WARM_SECONDS)
    began = time.monotonic()
    await _command(server, folder)
    course.upgrade = time.monotonic() - began
    await asyncio.sleep(WARM_SECONDS)
    stop.set()
    await load_
    await _until_told([*tabs], polls, REST_SECONDS * patience)
    after = {child.pid for child in psutil.Process(server.process.pid).children()}
    course.replaced = len(after - before)
    course.requests, course.slowest, course.failures = requests.answered, requests.slowest, requests.failures
    judge(course, tabs, polls)
    for tab in tabs:
        tab.stop()
    for task in polling:
        task.cancel()
    return course


async def _command(server: Server, folder: Path) -> None:
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api.cli", "upgrade", cwd=ROOT, env=environment(DATA_DIR=str(folder))
    )
    if await command.wait() != 0:
        raise RuntimeError("the upgrade failed:\n" + "\n".join(server.lines[-20:]))


async def _until_told(tabs: list[Tab], polls: list[LongPollSubscriber], seconds: float) -> None:
    """Waits until everybody is there and has got the last event of their account."""
    due = time.monotonic() + seconds

    def complete() -> bool:
        return all(
            tab.joined.is_set() and tab.last_seq >= max(tab.account.acknowledged, default=0) for tab in tabs
        ) and all(poll.joined for poll in polls)

    while not complete() and time.monotonic() < due:
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # for what comes twice


def judge(course: Course, tabs: list[Tab], polls: list[LongPollSubscriber]) -> None:
    """What the clients saw, against what was acknowledged."""
    by_id = {tab.account.id: sorted(tab.account.acknowledged) for tab in tabs}
    for tab in tabs:
        course.comebacks += tab.comebacks
        course.ends.update(tab.ends)
        course.events += len(tab.told)
        if not tab.joined.is_set():
            course.wrong.append(f"a socket is not back: {tab.ends[-3:]}")
        _compare(course, "a socket", [seq for seq, _ in tab.told], by_id[tab.account.id])
        acknowledged = tab.account.acknowledged
        course.latest = max(
            [course.latest, *(at - acknowledged[seq] for seq, at in tab.told if seq in acknowledged)]
        )
    for poll in polls:
        _compare(course, "a LongPoll session", [seq for seq, _ in poll.seen], by_id[poll.person.id])


def _compare(course: Course, who: str, told: list[int], wanted: list[int]) -> None:
    if told != wanted and len(course.wrong) < 10:
        missed, twice = sorted(set(wanted) - set(told)), len(told) - len(set(told))
        order = "" if told == sorted(told) else ", not in order"
        course.wrong.append(f"{who} missed {missed[:5]} of {len(wanted)} events, got {twice} twice{order}")


async def accounts_of(database: str, count: int) -> list[Account]:
    """New users of a migrated database, with tokens."""
    keyring = Keyring(load({"SECRET_KEY_BASE": SECRET}))
    connection = await asyncpg.connect(database)
    made: list[Account] = []
    for _ in range(count):
        email = f"user-{secrets.token_hex(6)}@example.com"
        row = await connection.fetchrow(users.CREATE, email, "User", "user", None)
        assert row is not None
        made.append(Account(str(row["id"]), keyring.issue(row["id"], "user", email, None)))
    await connection.close()
    return made


async def _main(options: argparse.Namespace, folder: Path) -> int:
    raise_file_limit()
    cluster = DatabaseCluster.at(folder / "database", {"max_connections": "200"})
    server = None
    try:
        assert await cluster.start()
        database = cluster.url()
        connection = await asyncpg.connect(database)
        await migrate(connection)
        await connection.close()
        accounts = await accounts_of(database, options.users)
        data = folder / "data"
        arguments = ("--nodes", str(options.nodes))
        server = await asyncio.to_thread(start, database, arguments, DATA_DIR=str(data), LOG_LEVEL="warning")
        course = await upgrade(server, data, accounts, options.rate, options.sockets)
        print("\n".join(course.lines()))
        return 0 if course.sound(BACK_SECONDS) else 1
    finally:
        if server is not None:
            server.stop()
        cluster.stop_blocking()


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--nodes", type=int, default=2, help="servers (default: 2)")
    parser.add_argument("--rate", type=float, default=200, help="requests a second (default: 200)")
    parser.add_argument("--sockets", type=int, default=2000, help="joined sockets (default: 2000)")
    parser.add_argument("--users", type=int, default=40, help="of whom they are (default: 40)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bitnexus-upgrade-"))
    folder.chmod(0o755)
    try:
        return asyncio.run(_main(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
