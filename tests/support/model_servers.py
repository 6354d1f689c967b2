"""Servers on one model database under one virtual clock: writer, ledger, listener, channels, clients, and faults.

    history = History(seed)
    history.run()
    assert not history.wrong()

One seed is one history: who runs next, what each statement meets, who is killed, which link between servers is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

from actors.channels import TransactionChannel
from actors.ledger.server import LedgerServer
from actors.ledger.writer import DbWriter
from actors.server_state import server_state
from actors.storage.listener import DbListener
from actors.storage.repo import Repo
from runtime.core import engine as engines
from runtime.nodes.node import NodeConfig
from runtime.otp import erlang
from runtime.otp.backoff import Backoff
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import GenServer, StartError
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.phoenix.pg2 import NodesPubSub
from runtime.testing.cluster import Cluster
from tests.campaign.checker import merkle_root
from tests.support.chain import leaf
from tests.support.model_clients import POSTS, USERS, Client, Poster
from tests.support.model_database import ModelDatabase
from tests.support.model_driver import Faults, ModelDriver

NAMES = ("one", "two")
BACKOFF = Backoff(10, 5_000, 10_000)  # as in supervisor.toml
VICTIMS = ("repo", "ledger_server", "db_writer", "db_writer", "db_listener")
CONFIG = NodeConfig(net_ticktime=8.0, announce=True)
WEIGHTS = (60.0, 1.0, 2.0, 1.0, 1.0, 2.0, 2.0)  # of model_driver.OUTCOMES


@dataclass(frozen=True)
class Parts:
    """The parts of a server: the product's own, or one that a test has broken."""

    database: type[ModelDatabase] = ModelDatabase
    ledger: type[LedgerServer] = LedgerServer
    writer: type[DbWriter] = DbWriter
    listener: type[DbListener] = DbListener
    channel: type[TransactionChannel] = TransactionChannel


PRODUCT = Parts()


class History:
    """One history of `servers`; its results are in `clients`, `posters` and `database`."""

    def __init__(self, seed: int, servers: int = 2, steps: int = 25, parts: Parts = PRODUCT) -> None:
        self.rng = Random(seed)
        self.steps = steps
        self.parts = parts
        self.database = parts.database()
        self.drivers: dict[str, ModelDriver] = {}
        self.names = NAMES[:servers]
        self.posters = {
            name: [Poster(f"{name}{number}", Random(self.rng.random())) for number in range(2)]
            for name in self.names
        }
        self.clients = {
            name: [
                Client(user, resumes, parts.channel)
                for user, resumes in zip(USERS, (True, False), strict=True)
            ]
            for name in self.names
        }
        self.foreign = 0
        self.done: Counter[str] = Counter()
        self.roots: dict[str, Any] = {}
        self.wrong_heads: list[str] = []
        self.cluster = Cluster(seed, [], config=CONFIG)

    def run(self) -> None:
        """Runs the whole history, and the time without faults after it."""
        for name in self.names:
            self._start(name)
        for _ in range(self.steps):
            self.cluster.advance(self.rng.uniform(20, 800))
            self._look_at_heads()
            self._inject_fault()
        for driver in self.drivers.values():
            driver.faults.enabled, driver.faults.closed_until = False, 0.0
        self._heal()
        self.cluster.advance(60_000)
        self._look_at_heads()

    # ---- servers

    def _start(self, name: str) -> None:
        member = self.cluster.start(name)
        engines.set_default(member.engine)
        faults = Faults(Random(self.rng.random()), WEIGHTS)
        self.drivers[name] = server_state().driver = ModelDriver(self.database, faults)
        server_state().database_url = "postgresql://model/bank"
        self.roots[name] = member.spawn(_serve, self.parts)
        for client in self.clients[name]:
            member.spawn(client.run)
        for poster in self.posters[name]:
            member.spawn(poster.run)

    # ---- faults

    def _inject_fault(self) -> None:
        name = self.rng.choice(self.names)
        what = self.rng.choices(
            ("kill", "die", "close", "foreign", "change", "partition", "heal", "crash", "nothing"),
            (6, 3, 2, 4, 2, 2, 2, 0.5, 4),
        )[0]
        self.done[what] += 1
        getattr(self, f"_{what}")(name)

    def _nothing(self, name: str) -> None:
        pass

    def _kill(self, name: str) -> None:
        member = self.cluster[name]
        engines.set_default(member.engine)
        pid = erlang.whereis(self.rng.choice(VICTIMS))
        if pid is not None:
            erlang.exit(pid, "kill")

    def _die(self, name: str) -> None:
        for driver in self.drivers.values() if self.rng.random() < 0.5 else [self.drivers[name]]:
            driver.die()

    def _close(self, name: str) -> None:
        self.drivers[name].faults.closed_until = self.cluster.now / 1000 + self.rng.uniform(0, 4)
        self.drivers[name].die()

    def _foreign(self, _name: str) -> None:
        self.foreign += 1
        self.database.insert_foreign(self.rng.choice(USERS), f"foreign/{self.foreign}")

    def _change(self, _name: str) -> None:
        self.database.change("notifications", "INSERT", id=str(self.foreign), user_id=str(USERS[0]))

    def _partition(self, _name: str) -> None:
        if len(self.names) > 1:
            self.cluster.partition(*self.names)

    def _heal(self, _name: str = "") -> None:
        if len(self.names) > 1:
            self.cluster.heal(*self.names)

    def _crash(self, name: str) -> None:
        self.cluster.crash(name)
        self.drivers[name].die()
        self._start(name)

    # ---- what must hold

    def _look_at_heads(self) -> None:
        """What a server takes for the head is one that the ledger has had, behind nothing that this server has written.

        By any other `verify` would say that the ledger was rewritten.
        """
        entries = self.database.entries
        for name in self.names:
            engines.set_default(self.cluster[name].engine)
            head = server_state().ledger_head
            if head is None or not head.seq:
                continue
            if [entry["hash"] for entry in entries[head.seq - 1 : head.seq]] != [head.hash]:
                self.wrong_heads.append(f"head: {name} takes for entry {head.seq} what is none")
            written = max(poster.written for poster in self.posters[name])
            if head.seq < written:
                self.wrong_heads.append(f"head: {name} has written entry {written} and is at {head.seq}")

    def wrong(self) -> list[str]:
        """The violations of what must hold."""
        posters = [poster for each in self.posters.values() for poster in each]
        found = [*self.wrong_heads, *(line for poster in posters for line in poster.wrong)]
        found += self._wrong_answers(posters) + self._wrong_ledger() + self._wrong_clients()
        found += [f"server {name} does not serve" for name in self.names if not self._serves(name)]
        found += [f"{poster.name} is not done" for poster in posters if poster.count < POSTS]
        return found

    def _serves(self, name: str) -> bool:
        engines.set_default(self.cluster[name].engine)
        state = server_state()
        return (
            erlang.is_process_alive(self.roots[name])
            and state.database_error is None
            and state.write_error is None
        )

    def _wrong_answers(self, posters: list[Poster]) -> list[str]:
        found: list[str] = []
        rows, answers = self.database.rows, dict[str, int]()
        by_seq = {
            entry["seq"]: rows[entry["transaction_id"]]["description"] for entry in self.database.entries
        }
        for description, seq in (pair for poster in posters for pair in poster.acknowledged):
            if by_seq.get(seq) != description:
                found.append(f"lost: {description}, entry {seq}, which is {by_seq.get(seq)}")
            if answers.setdefault(description, seq) != seq:
                found.append(f"twins: {description} was answered {answers[description]} and {seq}")
        written = Counter(row["description"] for row in rows.values())
        found += [f"doubled: {description}" for description, count in written.items() if count > 1]
        refused = {description for poster in posters for description in poster.refused}
        return found + [f"refused: {description} is there" for description in refused & written.keys()]

    def _wrong_ledger(self) -> list[str]:
        database, found = self.database, list[str]()
        previous, leaves = bytes(32), list[bytes]()
        for entry in database.entries:
            row = database.rows[entry["transaction_id"]]
            if entry["leaf_hash"] != leaf(row | entry | {"id": row["id"]}) or entry["prev_hash"] != previous:
                found.append(f"chain: entry {entry['seq']} is not its row's, or does not follow")
            leaves.append(entry["leaf_hash"])
            number = entry["seq"].to_bytes(8, "big")
            previous = sha256(b"\x02" + previous + number + entry["leaf_hash"]).digest()
        head = database.head
        if (head["seq"], head["hash"], head["root_hash"]) != (len(leaves), previous, merkle_root(leaves)):
            found.append("chain: the head is not that of the entries")
        if len(database.entries) != len(database.rows) or database.pending:
            found.append(f"gap: {len(database.rows)} rows, {len(database.entries)} entries")
        return found

    def _wrong_clients(self) -> list[str]:
        found: list[str] = []
        for name, clients in self.clients.items():
            for client in clients:
                own = self._seqs_of(client.user)
                who = f"events: of {own} a client of {name} that {'resumes' if client.resumes else 'joins anew'} saw"
                if client.resumes:
                    seen = [seq for session in client.sessions for seq in session]
                    found += [] if seen == own else [f"{who} {seen}"]
                    continue
                found += [f"{who} {seen}" for seen in client.sessions if seen and not _contiguous(seen, own)]
                last = client.sessions[-1]
                found += [f"{who} not the last, {last}"] if last and last[-1:] != own[-1:] else []
        return found

    def _seqs_of(self, user: UUID) -> list[int]:
        rows = self.database.rows
        return [e["seq"] for e in self.database.entries if rows[e["transaction_id"]]["user_id"] == user]


def _contiguous(seen: Sequence[int], own: Sequence[int]) -> bool:
    return list(seen) == [seq for seq in own if seen[0] <= seq <= seen[-1]]


def _worker(cls: type[GenServer], name: str, *args: Any, backoff: Backoff | None = None) -> ChildSpec:
    return ChildSpec(name, (_start_worker, (cls, name, args)), backoff=backoff)


async def _start_worker(cls: type[GenServer], name: str, args: tuple[Any, ...]) -> Any:
    return await cls.start_link(*args, name=name)


async def _start_storage(parts: Parts) -> Any:
    children = [
        _worker(Repo, "repo", 5, False, backoff=BACKOFF),
        _worker(parts.ledger, "ledger_server", backoff=BACKOFF),
        _worker(parts.writer, "db_writer", backoff=BACKOFF),
        _worker(parts.listener, "db_listener", backoff=BACKOFF),
    ]
    return await Supervisor.start_link(children, strategy="rest_for_one", intensity=10, period=5)


async def _start_channels() -> Any:
    return await DynamicSupervisor.start_link(intensity=1000, period=1, name="channels")


async def _serve(parts: Parts) -> None:
    erlang.trap_exit(True)
    children = [
        _worker(NodesPubSub, "pubsub"),
        ChildSpec("storage", (_start_storage, (parts,)), type="supervisor", shutdown="infinity"),
        ChildSpec("channels", (_start_channels, ()), type="supervisor"),
    ]
    root = None
    while root is None:
        try:
            root = await Supervisor.start_link(children, strategy="rest_for_one", intensity=6, period=20)
        except StartError:
            await erlang.sleep(200)  # the database is away: a service manager starts us again
    ended = erlang.monitor(root)
    await erlang.receive(lambda message: getattr(message, "ref", None) is ended)
