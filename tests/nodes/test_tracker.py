"""Trackers on simulated nodes, as processes: TRACKER sentences 23, 24, 25, 40, 41, 47 and 48."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.core import engine as engines
from runtime.otp import erlang, gen_server
from runtime.otp.supervisor import Supervisor
from runtime.phoenix import tracker_pool
from runtime.phoenix.pg2 import NodesPubSub
from runtime.phoenix.tracker import Tracker
from runtime.phoenix.tracker_pool import TrackerPool
from runtime.phoenix.tracker_shard import Options
from runtime.testing.cluster import Cluster
from tests.nodes.pubsub_world import NODES, World

DOWN = 12_000
TOPICS = [f"room:{number}" for number in range(20)]


class Rooms(Tracker):
    """Keeps what leaves, in the order told."""

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        super().init(pubsub, options, **more)
        self.leaves: list[Any] = []

    def handle_diff(self, diff: Any) -> None:
        self.leaves += [entry.key for _, leaves in diff.values() for entry in leaves]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, NODES) as cluster:
        yield cluster


def world(cluster: Cluster, **options: Any) -> World:
    given = {"max_silent_periods": 2, "down_period": DOWN, **options}
    return World(cluster, Rooms, Options(**given))


def pool(world: World, name: str) -> TrackerPool:
    engines.set_default(world.cluster[name].engine)
    return tracker_pool.whereis("presence")


def track(world: World, name: str, key: str, topic: str = "room:1") -> Any:
    async def idle() -> None:
        await erlang.receive()

    pid = world.cluster[name].spawn(idle)
    world.do(name, lambda: tracker_pool.whereis("presence").track(pid, topic, key, {}))
    return pid


def cut_off(world: World, name: str) -> None:
    for other in NODES:
        if other != name:
            world.cluster.partition(name, other)


def test_list_and_get_by_key_leave_out_a_replica_that_is_down_and_dirty_list_does_not(
    cluster: Cluster,
) -> None:
    nodes = world(cluster)
    track(nodes, "a", "ann")
    track(nodes, "b", "bob")
    cluster.advance(3_000)
    assert [key for key, _ in pool(nodes, "b").list("room:1")] == ["bob", "ann"]
    cut_off(nodes, "a")
    cluster.advance(DOWN + 1_600)
    there = pool(nodes, "b")
    assert [key for key, _ in there.list("room:1")] == ["bob"] and there.get_by_key("room:1", "ann") == []
    assert sorted(key for key, _ in there.dirty_list("room:1")) == ["ann", "bob"]
    assert sorted(there.replicas().values()) == [False, True]


@pytest.mark.parametrize("shards", [1, 4])
def test_a_shard_talks_to_the_shard_of_its_number_and_all_topics_reach_all_nodes(
    cluster: Cluster, shards: int
) -> None:
    nodes = world(cluster, pool_size=shards)
    for topic in TOPICS:
        track(nodes, "a", "ann", topic)
    cluster.advance(3_500)
    for name in NODES:
        there = pool(nodes, name)
        assert len(there.shards()) == shards
        for number, shard in enumerate(there.shards()):
            mine = [topic for topic in TOPICS if there.shard(topic) is shard]
            assert mine and all([key for key, _ in shard.list(topic)] == ["ann"] for topic in mine), number
            assert sum(len(shard.dirty_list(topic)) for topic in TOPICS) == len(mine)


def test_a_killed_shard_comes_back_as_a_new_replica_and_the_old_presences_leave(cluster: Cluster) -> None:
    nodes = world(cluster)
    track(nodes, "a", "old")
    cluster.advance(3_000)
    old = pool(nodes, "a").shards()[0]
    nodes.do("a", lambda: erlang.exit(old.pid, "kill"))
    track(nodes, "a", "new")
    cluster.advance(3_500)
    there = pool(nodes, "b")
    assert [key for key, _ in there.dirty_list("room:1")] == ["new"] and there.shards()[0].leaves == ["old"]


async def tracker_under_a_supervisor(options: Options) -> None:
    await NodesPubSub.start(name="pubsub")
    await Supervisor.start([Rooms.child_spec("pubsub", options, name="presence")], name="application")


async def shut_down() -> None:
    await gen_server.stop("application", "shutdown")


@pytest.mark.parametrize("permdown", [False, True])
def test_a_normal_shutdown_is_a_crash_to_the_others_unless_permdown_on_shutdown(
    cluster: Cluster, permdown: bool
) -> None:
    nodes = world(cluster)
    options = Options(max_silent_periods=2, down_period=DOWN, permdown_on_shutdown=permdown, pool_size=1)
    cluster.crash("c")
    cluster.start("c")
    nodes.do("c", tracker_under_a_supervisor, options)
    nodes.do("c", nodes.connect, "c")
    cluster.advance(6_000)
    track(nodes, "c", "cid")
    cluster.advance(3_500)
    for name in ("a", "b"):
        assert [key for key, _ in pool(nodes, name).list("room:1")] == ["cid"]
    nodes.do("c", shut_down)
    for name in ("a", "b"):
        there = pool(nodes, name)
        assert there.shards()[0].leaves == (["cid"] if permdown else [])
        assert len(there.replicas()) == (1 if permdown else 2)
    cluster.advance(DOWN + 1_600)
    for name in ("a", "b"):
        assert pool(nodes, name).shards()[0].leaves == ["cid"] and pool(nodes, name).list("room:1") == []


def test_graceful_permdown_is_seen_at_once_by_those_that_hear_it(cluster: Cluster) -> None:
    nodes = world(cluster, pool_size=2)
    for topic in TOPICS:
        track(nodes, "a", "ann", topic)
    cluster.advance(3_500)
    cluster.partition("a", "c")
    nodes.do("a", lambda: tracker_pool.whereis("presence").graceful_permdown())
    assert sum(len(shard.leaves) for shard in pool(nodes, "b").shards()) == len(TOPICS)
    assert len(pool(nodes, "b").replicas()) == 2, "those of c alone"
    assert sum(len(shard.leaves) for shard in pool(nodes, "c").shards()) == 0
    cluster.advance(DOWN + 1_600)
    assert sum(len(shard.leaves) for shard in pool(nodes, "c").shards()) == len(TOPICS)
