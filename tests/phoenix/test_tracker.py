"""What Phoenix.Tracker promises, with Phoenix's own periods: each test is a sentence of its documentation or its tests."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.otp import erlang
from runtime.phoenix import presence
from runtime.phoenix.tracker_shard import Heartbeat, Options, Permdown, Shard, TransferAnswer, TransferRequest
from runtime.phoenix.tracker_state import Delta, Generations, State, trimmed
from tests.phoenix.client import start_endpoint
from tests.phoenix.replicas import Network, Node

PERIOD = 1_500


def pair() -> tuple[Network, Node, Node]:
    """Two nodes that have heard each other, with Phoenix's defaults."""
    net = Network()
    one, two = net.start("a", 0), net.start("b", 100)
    net.run(4 * PERIOD)
    return net, one, two


def sent(net: Network, kind: type, since: float = 0.0) -> list[tuple[float, str, str | None]]:
    return [(at, name, to) for at, name, to, message in net.sent if type(message) is kind and at >= since]


# ---- defaults


def test_the_defaults_are_phoenixs() -> None:
    options = Options()
    assert (options.broadcast_period, options.max_silent_periods, options.silence) == (1_500, 10, 30_000)
    assert (options.permdown_period, options.clock_sample_periods) == (1_200_000, 2)
    assert options.max_delta_sizes == (100, 1_000, 10_000) and options.permdown_on_shutdown is False


@pytest.mark.parametrize("wrong", [{"down_period": 2_999}, {"permdown_period": 30_000}])
def test_periods_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Options(**wrong)  # type: ignore[arg-type]


# ---- replication


def test_a_restarted_node_is_a_new_replica_under_the_old_name() -> None:
    assert Shard("a", 1).replica != Shard("a", 2).replica


def test_the_first_tick_sends_a_heartbeat_even_with_nothing_to_say() -> None:
    net = Network()
    net.start("a", 100)
    net.run(100)
    ((_at, name, to, message),) = net.sent
    assert (name, to) == ("a", None) and isinstance(message, Heartbeat) and message.delta is None


def test_a_silent_replica_sends_a_heartbeat_every_eleventh_tick() -> None:
    net = Network()
    net.start("a", 0)
    net.run(23 * PERIOD)
    assert [at for at, _, _ in sent(net, Heartbeat)] == [0.0, 11 * PERIOD, 22 * PERIOD]


def test_a_join_is_seen_on_the_other_node_one_period_later_at_most() -> None:
    net, one, two = pair()
    one.track("p")
    net.run(PERIOD + 2)
    assert two.events() == [("join", "room", "key", "p")]


def test_a_join_and_its_leave_inside_one_period_are_never_seen_elsewhere() -> None:
    net, one, two = pair()
    one.untrack(one.track("p"))
    net.run(3 * PERIOD)
    assert two.events() == [] and one.events() == [
        ("join", "room", "key", "p"),
        ("leave", "room", "key", "p"),
    ]


def test_of_several_updates_in_one_period_others_see_one_leave_and_one_join_in_one_diff() -> None:
    net, one, two = pair()
    entry = one.track("p", n=0)
    net.run(2 * PERIOD)
    two.events()
    one.update(one.update(entry, n=1), n=2)
    net.run(2 * PERIOD)
    ((joins, leaves),) = [diff["room"] for diff in two.reported]
    assert [e.meta for e in joins] == [{"n": 2}] and [e.meta for e in leaves] == [{"n": 0}]


def test_a_concurrent_join_elsewhere_survives_a_leave() -> None:
    net, one, two = pair()
    mine, _theirs = one.track("p"), two.track("q")
    net.run(2 * PERIOD)
    one.untrack(mine)
    net.run(2 * PERIOD)
    assert one.present() == two.present() == [("q", "key")]


def test_one_key_of_several_processes_is_several_presences() -> None:
    net, one, two = pair()
    for node, pid in ((one, "p"), (one, "q"), (two, "r")):
        node.track(pid)
    net.run(2 * PERIOD)
    assert one.present() == two.present() == [("p", "key"), ("q", "key"), ("r", "key")]


def test_merging_the_same_twice_reports_nothing_the_second_time() -> None:
    one, two = State(("a", 1)), State(("b", 1))
    two.up(("a", 1))
    one.join("p", "room", "key", {})
    delta, whole = one.take_delta(), one.extract(("b", 1))
    assert len(two.merge(delta)[0]) == 1
    assert two.merge(delta) == two.merge(whole) == ([], [])


def test_a_replica_takes_no_news_of_its_own_presences_from_others() -> None:
    one = State(("a", 1))
    entry = one.join("p", "room", "key", {})
    assert one.merge(Delta({("a", 1): (0, 9)})) == ([], []) and one.entries("room") == [entry]
    assert one.context == {("a", 1): 1}


def test_values_of_an_unknown_replica_are_ignored() -> None:
    one, two = State(("a", 1)), State(("b", 1))
    one.join("p", "room", "key", {})
    assert two.merge(one.extract(("b", 1))) == ([], []) and two.entries("room") == []


def test_a_heartbeat_of_an_unknown_replica_is_known_before_its_delta_is_merged() -> None:
    one, two = Shard("a", 1), Shard("b", 1)
    one.state.join("p", "room", "key", {})
    ((_, message),) = one.tick(0).sent
    (diff,) = two.receive(message, 0).diffs
    assert [entry.pid for entry in diff["room"][0]] == ["p"]


def three() -> tuple[Network, Node, Node, Node]:
    net = Network()
    nodes = [net.start(name, number) for number, name in enumerate("abc")]
    net.run(4 * PERIOD)
    return net, *nodes


def test_news_travels_over_a_third_node() -> None:
    net, one, two, three_ = three()
    net.split("a", "c")
    entry = one.track("p")
    net.run(2 * PERIOD)
    other = two.track("q")  # what makes b speak, and c hear that b knows more
    net.run(4 * PERIOD)
    assert three_.present() == [("p", "key"), ("q", "key")]
    one.untrack(entry)
    net.run(2 * PERIOD)
    two.untrack(other)
    net.run(4 * PERIOD)
    assert three_.present() == []


def test_joins_by_way_of_a_third_node_are_reported_while_a_replica_is_down_and_once_more_when_it_is_up() -> (
    None
):
    net, one, two, three_ = three()
    net.split("a", "c")
    net.run(31_500 + PERIOD)
    assert not three_.shard.peers()["a", 1]
    one.track("p")
    net.run(2 * PERIOD)
    two.track("q")
    net.run(4 * PERIOD)
    assert ("join", "room", "key", "p") in three_.events() and three_.present() == [("q", "key")]
    net.heal()
    net.run(12 * PERIOD)
    assert three_.events() == [("join", "room", "key", "p")] and len(three_.present()) == 2


def test_two_nodes_with_the_same_news_get_one_request() -> None:
    one, two, three_ = ("a", 1), ("b", 1), ("c", 1)
    assert list(trimmed({one: {one: 3}, two: {one: 3}})) == [one]
    assert list(trimmed({one: {one: 1}, two: {one: 3}, three_: {one: 2}})) == [two]
    assert list(trimmed({one: {one: 1, two: 2}, two: {one: 2, two: 1}})) == [one, two]


def test_a_missed_delta_is_repaired_by_a_transfer() -> None:
    net, one, two = pair()
    net.cut.add(("a", "b"))
    one.track("p")
    net.run(2 * PERIOD)
    net.heal()
    one.track("q")
    net.run(4 * PERIOD + 10)
    assert two.present() == [("p", "key"), ("q", "key")]
    assert sent(net, TransferRequest, 4 * PERIOD) and sent(net, TransferAnswer, 4 * PERIOD)


def test_the_answer_is_the_first_generation_that_continues_the_askers_clock() -> None:
    state, kept = State(("a", 1)), Generations((2, 5))
    deltas = []
    for number in range(4):
        state.join(f"p{number}", "room", "key", {})
        deltas.append(state.take_delta())
        kept.push(deltas[-1])
    asker = ("b", 1)

    def given(known: int) -> list[str] | None:
        delta = kept.extract(asker, {("a", 1): known}, state.published)
        return None if delta is None else sorted(entry.pid for entry in delta.entries.values())

    assert given(3) == ["p2", "p3"] and given(0) == ["p0", "p1", "p2", "p3"]
    state.join("late", "room", "key", {})
    state.take_delta()  # never pushed: nothing kept reaches the present
    assert given(4) is None


def test_deltas_that_do_not_join_up_are_not_combined() -> None:
    first, third = Delta({("a", 1): (0, 1)}), Delta({("a", 1): (2, 3)})
    assert not first.joins_up_with(third) and first.joins_up_with(Delta({("a", 1): (1, 2)}))


def test_an_answer_leaves_out_the_askers_own_presences() -> None:
    net, one, two = pair()
    two.track("q")
    net.run(2 * PERIOD)
    delta = one.shard.state.extract(two.shard.replica)
    assert delta.entries == {} and two.shard.replica not in delta.ranges


def test_replicas_that_are_down_are_left_out_of_the_clocks() -> None:
    net, one, _two = pair()
    net.kill("b")
    net.run(50_000)
    assert one.shard.state.clocks() == {("a", 1): 0}


# ---- nodes that go and come


def test_a_killed_nodes_presences_stay_until_it_is_silent_for_longer_than_the_down_period() -> None:
    net, one, two = pair()
    two.track("q")
    net.run(2 * PERIOD)
    one.events()
    last = max(at for at, name, _ in sent(net, Heartbeat) if name == "b")
    net.kill("b")
    net.run(last + 30_000 - net.now)
    assert one.events() == []
    net.run(PERIOD + 10)
    assert one.events() == [("leave", "room", "key", "q")]
    assert one.present() == [] and one.present(with_down=True) == [("q", "key")]
    net.run(100_000)
    assert one.events() == []


def test_back_with_the_same_vsn_all_kept_presences_join_and_then_the_changes_follow() -> None:
    net, one, two = pair()
    gone, stays = two.track("gone"), two.track("stays")
    net.run(2 * PERIOD)
    net.split("a", "b")
    net.run(35_000)
    one.events()
    two.untrack(gone)
    net.run(2 * PERIOD)
    net.heal()
    net.run(16_500 + 4 * PERIOD)
    assert one.events() == [
        ("join", "room", "key", "gone"),
        ("join", "room", "key", "stays"),
        ("leave", "room", "key", "gone"),
    ]
    assert one.present() == [("stays", stays.key)]


def test_a_new_incarnation_while_the_old_counts_as_up_ends_the_old_one_first() -> None:
    net, one, two = pair()
    two.track("old")
    net.run(2 * PERIOD)
    net.kill("b")
    one.events()
    net.start("b", 10).track("new")
    net.run(2 * PERIOD)
    assert one.events() == [("leave", "room", "key", "old"), ("join", "room", "key", "new")]
    assert one.present(with_down=True) == [("new", "key")]


def test_a_new_incarnation_while_the_old_is_down_brings_no_second_leave() -> None:
    net, one, two = pair()
    two.track("old")
    net.run(2 * PERIOD)
    net.kill("b")
    net.run(35_000)
    one.events()
    net.start("b", 10).track("new")
    net.run(2 * PERIOD)
    assert one.events() == [("join", "room", "key", "new")] and one.present(with_down=True) == [
        ("new", "key")
    ]


def test_after_the_permdown_period_all_is_dropped_without_more_leaves() -> None:
    net, one, two = pair()
    two.track("q")
    net.run(2 * PERIOD)
    net.kill("b")
    net.run(35_000)
    one.events()
    net.run(1_200_000)
    assert one.events() == [] and one.present(with_down=True) == [] and one.shard.peers() == {}


def test_a_replica_that_is_still_up_at_its_permdown_leaves_first() -> None:
    net, one, two = pair()
    two.track("q")
    net.run(2 * PERIOD)
    one.events()
    del net.nodes["b"]
    output = one.shard.tick(net.now + 1_300_000)
    ((_joins, leaves),) = [diff["room"] for diff in output.diffs]
    assert [entry.pid for entry in leaves] == ["q"] and one.shard.peers() == {}


def test_graceful_permdown_tells_all_at_once() -> None:
    net, one, two = pair()
    two.track("q")
    net.run(2 * PERIOD)
    one.events()
    net.put_out(two, two.shard.permdown())
    net.kill("b")
    net.run(2)
    assert one.events() == [("leave", "room", "key", "q")] and one.shard.peers() == {}


def test_a_permdown_of_an_unknown_node_is_ignored() -> None:
    output = Shard("a", 1).receive(Permdown(("x", 1)), 0)
    assert output.diffs == [] and output.sent == []


def test_what_a_replaced_incarnation_sent_late_is_no_news() -> None:
    shard = Shard("a", 1)
    for replica in (("b", 1), ("b", 2), ("b", 1)):
        shard.receive(Heartbeat(replica, {replica: 0}), 0)
    assert shard.peers() == {("b", 2): True}


# ---- the process


async def idle() -> None:
    await erlang.receive()


def test_an_untracked_process_outlives_its_presence(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        name = f"{endpoint.pubsub_name}.presence"
        pid = erlang.spawn(idle)
        presence.whereis(name).track(pid, "room", "ann", {})
        presence.whereis(name).untrack(pid, "room", "ann")
        erlang.exit(erlang.whereis(name), "kill")
        await erlang.sleep(20)
        assert erlang.is_process_alive(pid)

    play(body)


def test_what_a_caller_does_with_a_list_is_not_seen_by_others(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        who = presence.whereis(f"{endpoint.pubsub_name}.presence")
        who.track(erlang.self_(), "room", "ann", {"deep": {"list": [1]}})
        who.list("room")["ann"]["metas"][0]["deep"]["list"].append(2)
        who.get_by_key("room", "ann")["metas"].clear()
        assert who.list("room")["ann"]["metas"][0]["deep"] == {"list": [1]}
        who.untrack(erlang.self_())
        assert who.list("room") == {}

    play(body)


def test_handle_metas_sees_each_diff_and_all_that_is_there(play: Any) -> None:
    told: list[Any] = []

    class Watching(presence.Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            await erlang.sleep(5)
            return presences

        def handle_metas(self, topic: str, diff: Any, presences: Any) -> None:
            told.append(
                (topic, set(diff["joins"]), set(diff["leaves"]), {k: len(v) for k, v in presences.items()})
            )

    async def body() -> None:
        told.clear()
        endpoint = await start_endpoint()
        await Watching.start(endpoint.pubsub_name, name="watching")
        who = presence.whereis("watching")
        me = erlang.self_()
        who.track(me, "room", "ann", {})
        who.update(me, "room", "ann", {"x": 1})
        who.untrack(me, "room", "ann")
        await erlang.sleep(100)
        assert told == [
            ("room", {"ann"}, set(), {"ann": 1}),
            ("room", {"ann"}, {"ann"}, {"ann": 1}),
            ("room", set(), {"ann"}, {}),
        ]
        assert await who.list("room") == {}

    play(body)
