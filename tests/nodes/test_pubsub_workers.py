"""The workers of Phoenix.PubSub.PG2 over simulated nodes: TRACKER sentences 4, 9, 12, 13 and 14."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.core import engine as engines
from runtime.otp import erlang, supervisor
from runtime.otp.gen_server import StartError
from runtime.phoenix import pg2
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.endpoint import fastlane
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pg2 import NodesPubSub, register_dispatcher
from runtime.phoenix.pubsub import PubSub, send_to_each
from runtime.testing.cluster import Cluster
from tests.nodes.pubsub_world import NODES, World

FOUR_WORKERS = ("pubsub.Adapter", "pubsub.Adapter_2", "pubsub.Adapter_3", "pubsub.Adapter_4")
MESSAGES = 20

dispatched: list[tuple[str, Any, Any, Any]] = []  # node, subscribers with their metadata, from, message


def dispatch(subscribers: Any, from_: Any, message: Any) -> None:
    """A dispatcher of one's own."""
    engine = engines.current_engine()
    dispatched.append((engine.node_name, [(pid, metadata) for pid, metadata in subscribers], from_, message))


register_dispatcher(dispatch, "tests.nodes.test_pubsub_workers.dispatch")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    dispatched.clear()
    with Cluster(11, NODES) as cluster:
        yield cluster


def whereis(world: World, node: str, name: str) -> Any:
    return world.cluster[node].engine.names.get(name)


# ---- pools


def test_nodes_of_any_pool_size_receive_from_nodes_of_any(cluster: Cluster) -> None:
    """As long as they broadcast through one."""
    pools = {"a": (4, 1), "b": (1, 1), "c": (4, 1)}
    world = World(cluster, pools=pools)
    for name in NODES:
        world.subscriber(name, "t")
    for name in NODES:
        for number in range(MESSAGES):
            world.do(name, pubsubs.broadcast, "pubsub", "t", (name, number))
    sent = [(name, number) for name in NODES for number in range(MESSAGES)]
    assert {name: sorted(got) for name, got in world.got.items()} == dict.fromkeys(NODES, sent)


def test_what_is_sent_through_workers_that_a_node_has_not_is_lost_there(cluster: Cluster) -> None:
    """Which is why `broadcast_pool_size` is there."""
    world = World(cluster, pools={"a": (4, 4), "b": (1, 1), "c": (4, 4)})
    for name in NODES:
        world.subscriber(name, "t")
    for number in range(MESSAGES):  # each by a process of its own
        world.do("a", pubsubs.broadcast, "pubsub", "t", number)
    assert sorted(world.got["c"]) == list(range(MESSAGES)) and 0 < len(world.got["b"]) < MESSAGES


def test_one_senders_order_is_kept_whichever_worker_it_has(cluster: Cluster) -> None:
    world = World(cluster, pools=dict.fromkeys(NODES, (4, 4)))
    world.subscriber("b", "t")

    def body(sender: int) -> None:
        for number in range(MESSAGES):
            if number % 3:
                pubsubs.broadcast("pubsub", "t", (sender, number))
            else:
                pubsubs.direct_broadcast("pubsub", "b", "t", (sender, number))

    for sender in range(8):
        cluster["a"].spawn(body, sender)
    cluster.run()
    cluster.advance(1_000)
    for sender in range(8):
        assert [n for who, n in world.got["b"] if who == sender] == list(range(MESSAGES))


def burst(world: World, broadcasts: list[tuple[str, Any, Any]]) -> None:
    """Broadcasts of another node, as (topic, message, dispatcher), that b's worker finds in its mailbox at once."""
    worker = whereis(world, "b", "pubsub.Adapter")
    adapter = world.cluster["b"].engine.names["pubsub"].actor.adapter

    def body() -> None:
        for topic, message, dispatcher in broadcasts:
            adapter.direct_broadcast("b", topic, message, dispatcher)

    world.do("b", body)
    assert whereis(world, "b", "pubsub.Adapter") is worker, "it has not crashed"


@pytest.mark.parametrize(("together", "first"), [(pg2.TOGETHER, 20), (7, 8)])
def test_a_subscriber_wakes_once_for_broadcasts_that_arrived_in_a_row(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, together: int, first: int
) -> None:
    monkeypatch.setattr(pg2, "TOGETHER", together)
    world = World(cluster)
    found: list[int] = []
    got: list[Any] = []

    async def listen() -> None:
        pubsubs.subscribe("pubsub", "t")
        while True:
            got.append(await erlang.receive())
            found.append(1 + erlang.process_info(erlang.self_())["message_queue_len"])  # type: ignore[index]

    cluster["b"].spawn(listen)
    cluster.run()
    burst(world, [("t", number, send_to_each) for number in range(20)])
    assert got == list(range(20)) and found[0] == first


def test_broadcasts_that_arrive_together_keep_their_order_over_topics_and_dispatchers(
    cluster: Cluster,
) -> None:
    world = World(cluster)
    world.subscriber("b", "t")
    world.do("b", lambda: pubsubs.whereis("pubsub").subscribe("u", world.pids["b"]))
    channel = [("t", Broadcast("t", "event", number), fastlane) for number in range(2)]
    burst(
        world,
        [
            ("t", 1, send_to_each), ("t", 2, send_to_each), ("u", 3, send_to_each), ("t", 4, send_to_each),
            *channel, ("t", 5, send_to_each), ("nobody", 6, send_to_each), ("t", 7, send_to_each),
            ("u", 8, dispatch), ("u", 9, send_to_each),
        ],
    )  # fmt: skip
    assert world.got["b"] == [1, 2, 3, 4, *(message for _, message, _ in channel), 5, 7, 9]
    assert [message for *_, message in dispatched] == [8]


@pytest.mark.parametrize("wrong", [(1, 2), (0, None), (2, 0)])
def test_broadcasting_through_more_workers_than_there_are_is_an_error_at_the_start(
    cluster: Cluster, wrong: tuple[int, int | None]
) -> None:
    caught: list[Any] = []

    async def body() -> None:
        with pytest.raises(StartError) as error:
            await NodesPubSub.start(*wrong, name="pubsub")
        caught.append(error)

    cluster["a"].spawn(body)
    cluster.run()
    assert len(caught) == 1


# ---- a worker that crashes


def test_a_worker_that_crashes_is_restarted_alone_and_no_subscription_is_lost(cluster: Cluster) -> None:
    world = World(cluster, pools=dict.fromkeys(NODES, (4, 4)))
    world.subscriber("b", "t")
    before = {name: whereis(world, "b", name) for name in FOUR_WORKERS}
    registry = whereis(world, "b", "pubsub")
    world.do("b", lambda: erlang.exit(before["pubsub.Adapter_2"], "kill"))
    after = {name: whereis(world, "b", name) for name in FOUR_WORKERS}
    changed = [name for name in FOUR_WORKERS if after[name] is not before[name]]
    assert changed == ["pubsub.Adapter_2"] and after["pubsub.Adapter_2"] is not None
    assert whereis(world, "b", "pubsub") is registry
    for number in range(MESSAGES):
        world.do("a", pubsubs.broadcast, "pubsub", "t", number)
    assert sorted(world.got["b"]) == list(range(MESSAGES))


def test_what_is_broadcast_while_no_worker_runs_is_lost_on_that_node(cluster: Cluster) -> None:
    world = World(cluster)
    for name in NODES:
        world.subscriber(name, "t")
    world.do("b", supervisor.terminate_child, "pubsub.Adapter_supervisor", "pubsub.Adapter")
    world.do("a", pubsubs.broadcast, "pubsub", "t", "lost")
    world.do("b", lambda: pubsubs.direct_broadcast("pubsub", "b", "t", "lost too"))
    world.do("b", supervisor.restart_child, "pubsub.Adapter_supervisor", "pubsub.Adapter")
    world.do("a", pubsubs.broadcast, "pubsub", "t", "after")
    assert world.got == {"a": ["lost", "after"], "b": ["after"], "c": ["lost", "after"]}


def test_a_pubsub_that_is_killed_takes_its_workers_along_and_can_start_again_at_once(
    cluster: Cluster,
) -> None:
    world = World(cluster)

    async def body() -> None:
        old = erlang.whereis("pubsub.Adapter")
        assert old is not None
        erlang.exit(erlang.whereis("pubsub"), "kill")  # type: ignore[arg-type]
        await NodesPubSub.start(name="pubsub")
        new = erlang.whereis("pubsub.Adapter")
        assert new is not None and new is not old and not erlang.is_process_alive(old)

    world.do("b", body)
    world.subscriber("b", "t")
    world.do("a", pubsubs.broadcast, "pubsub", "t", "x")
    assert world.got["b"] == ["x"]


def test_a_node_alone_has_no_workers(play: Any) -> None:
    async def body() -> None:
        await NodesPubSub.start(4, name="pubsub")
        assert erlang.whereis("pubsub.Adapter") is None

    play(body)


# ---- dispatchers


def test_a_dispatcher_of_ones_own_runs_once_on_each_node_with_its_entries(cluster: Cluster) -> None:
    """`from` is the pid on the broadcaster's node and nobody everywhere else."""
    world = World(cluster)
    for name in NODES:
        world.subscriber(name, "t")
    world.do("b", lambda: pubsubs.whereis("pubsub").subscribe("t", world.pids["b"], "meta"))
    world.do("a", lambda: pubsubs.whereis("pubsub").broadcast_from(world.pids["a"], "t", "x", dispatch))
    a, b, c = (world.pids[name] for name in NODES)
    assert sorted(dispatched, key=lambda one: one[0]) == [
        ("a", [(a, None)], a, "x"),
        ("b", [(b, None), (b, "meta")], None, "x"),
        ("c", [(c, None)], None, "x"),
    ]
    assert world.got == {name: [] for name in NODES}, "delivering is the dispatcher's affair"


def test_a_dispatcher_does_not_run_where_nobody_is_subscribed(cluster: Cluster) -> None:
    world = World(cluster)
    world.subscriber("c", "t")
    world.do("a", lambda: pubsubs.whereis("pubsub").broadcast("t", "x", dispatch))
    world.do("a", lambda: pubsubs.whereis("pubsub").direct_broadcast("c", "t", "y", dispatch))
    world.do("a", lambda: pubsubs.whereis("pubsub").direct_broadcast("b", "t", "z", dispatch))
    assert [(node, message) for node, _, _, message in dispatched] == [("c", "x"), ("c", "y")]


def test_a_dispatcher_that_other_nodes_cannot_know_is_the_senders_error(cluster: Cluster) -> None:
    world = World(cluster)
    with pytest.raises(TypeError, match="is not registered for other nodes"):
        world.do("a", lambda: pubsubs.whereis("pubsub").broadcast("t", "x", lambda *_: None))


def test_a_name_of_a_dispatcher_is_given_once() -> None:
    with pytest.raises(ValueError, match="is another dispatcher"):
        register_dispatcher(print, "send")


def test_a_pubsub_without_nodes_knows_no_adapter(play: Any) -> None:
    async def body() -> None:
        await PubSub.start(name="pubsub")
        assert pubsubs.node_name("pubsub") == pubsubs.NO_NODE

    play(body)
