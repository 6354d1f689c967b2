"""Writers over simulated nodes: who hears of whose batches without a NOTIFY, and who writes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.ledger.other_writers import DECLINE_MS, Decline, OtherWriters, Wish
from actors.server_state import server_state
from runtime.core.engine import current_engine
from runtime.nodes import net_kernel
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Reply
from runtime.phoenix.pubsub import whereis
from runtime.testing.cluster import Cluster
from tests.nodes.pubsub_world import NODES, World


class Writer(GenServer):
    """What a writer does with its `OtherWriters`, without a database."""

    def init(self) -> None:
        self.others = OtherWriters("pubsub", lambda: current_engine().now())
        self.told: list[Any] = []
        self.idle = True
        whereis("pubsub").subscribe("committed")

    def handle_call(self, request: Any, from_: Any) -> Any:
        self.idle = request != "wait"
        match request:
            case ("commit", rows, more):
                self.others.committed(rows)
                whereis("pubsub").broadcast_from(erlang.self_(), "committed", (net_kernel.node(), rows))
                self.others.end()
                self.idle = not more
                return Reply(self.others.wait() if more else None)
            case _:
                return Reply(getattr(self.others, request)())

    def handle_info(self, message: Any) -> None:
        match message:
            case Decline():
                self.others.decline(self.idle)
            case (str(node), int(rows)):
                self.others.wrote(node, rows)
            case _:
                self.told.append(message)
                self.others.take(message)
        if self.idle:
            self.others.rest()


class Writers:
    """A writer on each node."""

    def __init__(self, cluster: Cluster) -> None:
        self.world = World(cluster)
        self.cluster = cluster
        for name in NODES:
            self.start(name)

    def start(self, name: str) -> None:
        async def body() -> None:
            await Writer.start(name="db_writer")

        self.world.do(name, body)

    def told(self, name: str) -> list[Any]:
        """What the node's writer has been told of wishes since the last time."""
        server = self.cluster[name].engine.names["db_writer"].actor
        told, server.told = server.told, []
        return [message for message in told if isinstance(message, Wish)]

    def ask(self, name: str, what: Any) -> Any:
        """The result of a function of the node's `OtherWriters`."""
        got: list[Any] = []

        async def body() -> None:
            got.append(await gen_server.call("db_writer", what))

        self.world.do(name, body)
        return got[0]

    def server(self, name: str) -> str:
        """The id of the node's server."""
        got: list[str] = []
        self.world.do(name, lambda: got.append(server_state().id))
        return got[0]

    def informed(self, name: str) -> set[str]:
        """The nodes that a batch of this one need not notify."""
        got: list[Any] = []
        self.world.do(name, lambda: got.append(server_state().informed))
        servers = {self.server(node): node for node in NODES if node in self.cluster.members}
        return {servers.get(id, "gone") for id in got[0]}


@pytest.fixture
def writers() -> Iterator[Writers]:
    with Cluster(3, NODES) as cluster:
        yield Writers(cluster)


def test_each_knows_who_follows_the_feed(writers: Writers) -> None:
    for name in NODES:
        assert writers.informed(name) == set(NODES) - {name}


def test_a_node_that_is_lost_is_notified_again(writers: Writers) -> None:
    writers.cluster.partition("a", "b")
    writers.cluster.advance(100)
    assert (writers.informed("a"), writers.informed("b")) == ({"c"}, {"c"})
    writers.cluster.heal("a", "b")
    writers.world.do("a", writers.world.connect, "a")
    assert (writers.informed("a"), writers.informed("b")) == ({"b", "c"}, {"a", "c"})


def test_a_writer_that_starts_again_learns_who_follows(writers: Writers) -> None:
    writers.world.do("a", lambda: erlang.exit(erlang.whereis("db_writer"), "kill"))
    writers.start("a")
    assert writers.informed("a") == {"b", "c"}


def test_without_a_collision_nobody_waits(writers: Writers) -> None:
    assert [writers.ask(name, "wait") for name in NODES] == [0, 0, 0]


def test_after_a_collision_they_write_one_after_the_other(writers: Writers) -> None:
    assert writers.ask("a", "wait") == 0
    writers.ask("a", "collided")
    assert writers.ask("b", "wait") > 0
    assert writers.ask("c", "wait") > 0
    writers.ask("a", "end")
    assert writers.ask("b", "wait") == 0
    assert writers.ask("c", "wait") > 0
    assert writers.ask("a", "wait") > 0, "behind the others"
    writers.ask("b", "end")
    assert writers.ask("c", "wait") == 0


def test_those_who_write_several_rows_each_take_turns_without_a_word(writers: Writers) -> None:
    for name in ("a", "b"):
        writers.ask(name, ("commit", 5, True))
    for first, second in (("a", "b"), ("b", "a"), ("a", "b")):
        assert writers.ask(first, "wait") == 0 and writers.ask(second, "wait") > 0
        assert writers.ask(first, ("commit", 5, True)) > 0
    assert [writers.told(name) for name in NODES] == [[], [], []]


def test_who_is_expected_and_has_nothing_to_write_lets_the_others_go_first(writers: Writers) -> None:
    writers.ask("a", ("commit", 5, False))
    assert writers.ask("b", "wait") > 0
    writers.cluster.advance(DECLINE_MS + 1)
    assert writers.told("b") == [Wish("a", False)] and writers.ask("b", "wait") == 0


def test_after_one_row_a_node_is_not_expected(writers: Writers) -> None:
    writers.ask("a", ("commit", 1, False))
    assert writers.ask("b", "wait") == 0


def test_who_is_expected_and_fails_to_write_says_so(writers: Writers) -> None:
    assert writers.ask("a", ("commit", 5, True)) == 0
    writers.ask("a", "end")
    assert writers.told("b") == [Wish("a", False)] and writers.ask("b", "wait") == 0


def test_nobody_waits_for_a_node_that_is_gone(writers: Writers) -> None:
    writers.ask("a", "wait")
    writers.ask("a", "collided")
    assert writers.ask("b", "wait") > 0
    writers.cluster.crash("a")
    writers.cluster.advance(100)
    assert writers.ask("b", "wait") == 0


def test_nor_for_a_writer_that_crashed(writers: Writers) -> None:
    writers.ask("a", "wait")
    writers.ask("a", "collided")
    assert writers.ask("b", "wait") > 0
    writers.world.do("a", lambda: erlang.exit(erlang.whereis("db_writer"), "kill"))
    writers.start("a")
    assert writers.ask("b", "wait") == 0
