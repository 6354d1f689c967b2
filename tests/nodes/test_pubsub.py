"""Phoenix.PubSub and Presence over simulated nodes: the sentences of the adapter's promises, and presence on every node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.nodes import codec
from runtime.otp import erlang
from runtime.phoenix import endpoint, presence
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.tracker_shard import Heartbeat
from runtime.phoenix.tracker_state import Delta, TrackerEntry
from runtime.testing.cluster import Cluster
from tests.nodes.pubsub_world import NODES, World


@pytest.fixture
def world() -> Iterator[World]:
    with Cluster(5, NODES) as cluster:
        yield World(cluster)


def test_a_broadcast_reaches_every_subscriber_on_every_node_once(world: World) -> None:
    for name in NODES:
        world.subscriber(name, "t")
    world.do("a", pubsubs.broadcast, "pubsub", "t", ("hello", 1))
    assert world.got == {name: [("hello", 1)] for name in NODES}


def test_broadcast_from_leaves_out_the_sender_on_its_own_node_only(world: World) -> None:
    for name in NODES:
        world.subscriber(name, "t")
    world.do("a", lambda: pubsubs.broadcast_from("pubsub", world.pids["a"], "t", "x"))
    assert world.got == {"a": [], "b": ["x"], "c": ["x"]}


def test_local_and_direct_broadcasts(world: World) -> None:
    for name in NODES:
        world.subscriber(name, "t")
    world.do("a", lambda: pubsubs.whereis("pubsub").local_broadcast("t", "local"))
    world.do("a", lambda: pubsubs.direct_broadcast("pubsub", "b", "t", "direct"))
    world.do("a", lambda: pubsubs.direct_broadcast("pubsub", "a", "t", "own"))
    world.do("a", lambda: pubsubs.direct_broadcast("pubsub", "nowhere", "t", "lost"))
    assert world.got == {"a": ["local", "own"], "b": ["direct"], "c": []}


def test_a_direct_broadcast_to_the_own_node_is_asynchronous(world: World) -> None:
    world.subscriber("a", "t")
    seen: list[int] = []

    def body() -> None:
        subscriber = world.pids["a"]
        pubsubs.whereis("pubsub").direct_broadcast("a", "t", "own")
        seen.append(erlang.process_info(subscriber)["message_queue_len"])  # type: ignore[index]
        pubsubs.whereis("pubsub").local_broadcast("t", "local")
        seen.append(erlang.process_info(subscriber)["message_queue_len"])  # type: ignore[index]

    world.do("a", body)
    assert seen == [0, 1]


def test_the_name_of_the_node(world: World) -> None:
    names: list[str] = []
    world.do("b", lambda: names.append(pubsubs.node_name("pubsub")))
    assert names == ["b"]


def test_messages_of_one_sender_keep_their_order_whichever_function_sends_them(world: World) -> None:
    world.subscriber("b", "t")

    def body() -> None:
        for number in range(50):
            if number % 3:
                pubsubs.broadcast("pubsub", "t", number)
            else:
                pubsubs.direct_broadcast("pubsub", "b", "t", number)

    world.do("a", body)
    world.cluster.advance(1_000)
    assert world.got["b"] == list(range(50))


def test_an_endpoints_broadcast_is_a_broadcast_there_too(world: World) -> None:
    world.subscriber("c", "room")
    payload = {"amount": 1, "of": [None, "x"]}
    world.do("a", endpoint.broadcast, "pubsub", "room", "shout", payload)
    assert world.got["c"] == [Broadcast("room", "shout", payload)]


def test_what_cannot_travel_is_the_senders_error_and_nobody_gets_it(world: World) -> None:
    world.subscriber("a", "t")
    with pytest.raises(TypeError, match="cannot be sent to another node"):
        world.do("a", pubsubs.broadcast, "pubsub", "t", object())
    assert world.got["a"] == []


def test_a_node_that_is_cut_off_misses_the_message_for_good(world: World) -> None:
    for name in NODES:
        world.subscriber(name, "t")
    world.cluster.partition("a", "c")
    world.cluster.advance(120_000)
    world.do("a", pubsubs.broadcast, "pubsub", "t", "x")
    world.cluster.heal("a", "c")
    world.cluster.advance(10_000)
    assert world.got == {"a": ["x"], "b": ["x"], "c": []}


def listed(world: World, name: str) -> dict[str, Any]:
    found: list[Any] = []
    world.do(name, lambda: found.append(presence.whereis("presence").list("room")))
    return found[0]


def track(world: World, name: str, key: str) -> Any:
    async def idle() -> None:
        await erlang.receive()

    pid = world.cluster[name].spawn(idle)
    world.do(name, lambda: presence.whereis("presence").track(pid, "room", key, {"at": name}))
    return pid


def test_a_presence_is_on_every_node_and_goes_with_its_process(world: World) -> None:
    for name in NODES:
        world.subscriber(name, "room")
    pid = track(world, "a", "ann")
    world.cluster.advance(3_500)
    for name in NODES:
        assert [meta["at"] for meta in listed(world, name)["ann"]["metas"]] == ["a"]
        (joined,) = world.got[name]
        assert joined.event == "presence_diff" and set(joined.payload["joins"]) == {"ann"}
    world.do("a", erlang.exit, pid, "kill")
    world.cluster.advance(3_500)
    for name in NODES:
        assert listed(world, name) == {}
        assert [set(got.payload["leaves"]) for got in world.got[name]] == [set(), {"ann"}]


def test_a_lost_node_is_noticed_within_15_seconds_and_its_presences_come_back_with_it(world: World) -> None:
    track(world, "a", "ann")
    world.cluster.advance(10_000)
    world.subscriber("b", "room")
    world.cluster.partition("a", "b")
    world.cluster.partition("a", "c")
    world.cluster.advance(15_000)
    assert listed(world, "b") == {} == listed(world, "c")
    assert set(listed(world, "a")) == {"ann"}
    world.cluster.heal("a", "b")
    world.cluster.heal("a", "c")

    async def connect() -> None:
        for other in ("b", "c"):
            await world.cluster["a"].node.connect(other)

    world.cluster.advance(60_000)
    world.do("a", connect)
    world.cluster.advance(10_000)
    assert set(listed(world, "b")) == {"ann"} == set(listed(world, "c"))
    assert [(set(g.payload["joins"]), set(g.payload["leaves"])) for g in world.got["b"]] == [
        (set(), {"ann"}),
        ({"ann"}, set()),
    ]


def test_the_trackers_messages_are_known_to_the_codec() -> None:
    entry = TrackerEntry("room", None, "key", {"a": [1]}, ("a", 1), 7)
    sent = Heartbeat(
        ("a", 1), {("b", 2): 3}, Delta({("a", 1): (0, 7)}, {("a", 1): frozenset({2})}, {(("a", 1), 7): entry})
    )
    plain = codec.Codec(None)  # type: ignore[arg-type]
    got = plain.decode(plain.encode(sent))
    assert (
        got.delta.ranges == sent.delta.ranges
        and got.delta.clouds == sent.delta.clouds
        and got.clocks == sent.clocks
    )
    (back,) = got.delta.entries.values()
    assert (back.topic, back.key, back.meta, back.replica, back.clock) == (
        "room",
        "key",
        {"a": [1]},
        ("a", 1),
        7,
    )
