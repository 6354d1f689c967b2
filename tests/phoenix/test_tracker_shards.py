"""The processes of a tracker on one node: its pool, its shards, and the processes it tracks. Sentences 15 to 24, 50 and 58."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import Error, Exit
from runtime.otp import erlang, supervisor
from runtime.otp.callback import Stop
from runtime.otp.gen_server import StartError
from runtime.phoenix import presence, tracker, tracker_pool
from runtime.phoenix.phash2 import phash2
from runtime.phoenix.presence import Presence
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.tracker import Tracker
from runtime.phoenix.tracker_pool import TrackerPool
from runtime.phoenix.tracker_shard import Options

# `io:format("~p~n", [[erlang:phash2(T, 4) || T <- [<<"room:1">>, ...]]])` of Erlang/OTP 25.
SHARD_OF_FOUR = {"": 1, "room": 2, "room:1": 1, "room:lobby": 0, "a topic of more than twelve bytes": 2}


class Rooms(Tracker):
    """Keeps what it is told; a topic `bad ...` is a callback that does what it must not."""

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        super().init(pubsub, options, **more)
        self.diffs: list[Any] = []
        self.infos: list[Any] = []

    def handle_diff(self, diff: Any) -> Any:
        self.diffs.append(
            {t: ([e.key for e in joins], [e.key for e in leaves]) for t, (joins, leaves) in diff.items()}
        )
        if "bad return" in diff:
            return "ok"
        if "bad raise" in diff:
            raise RuntimeError("out of cheese")
        return None

    def handle_info(self, message: Any) -> Any:
        self.infos.append(message)
        return Stop("because") if message == "bad return" else None


async def started(kind: type[Tracker] = Rooms, **options: Any) -> TrackerPool:
    """A PubSub and a tracker of the name "rooms"."""
    erlang.trap_exit(True)
    await PubSub.start(name="pubsub")
    await kind.start_link("pubsub", Options(**options), name="rooms")
    return tracker_pool.whereis("rooms")


async def idle() -> None:
    await erlang.receive()


async def trapping(told: list[Any]) -> None:
    erlang.trap_exit(True)
    while True:
        told.append(await erlang.receive())


def links(pid: Any) -> list[Any]:
    info: Any = erlang.process_info(pid)
    return info["links"]


# ---- the pool


def test_a_topic_lives_in_the_shard_that_phash2_says() -> None:
    assert {topic: phash2(topic, 4) for topic in SHARD_OF_FOUR} == SHARD_OF_FOUR


def test_each_topic_is_in_its_shard_alone(play: Any) -> None:
    async def body() -> None:
        pool = await started(pool_size=4)
        pid = erlang.spawn(idle)
        for topic in SHARD_OF_FOUR:
            pool.track(pid, topic, "ann", {})
        for number in range(4):
            shard = erlang.whereis(f"rooms_shard{number}").cell.actor  # type: ignore[union-attr]
            there = {topic for topic in SHARD_OF_FOUR if shard.dirty_list(topic)}
            assert there == {topic for topic, its in SHARD_OF_FOUR.items() if its == number}
        pool.untrack(pid)
        assert all(pool.list(topic) == [] for topic in SHARD_OF_FOUR) and links(pid) == []

    play(body)


def test_shards_are_transient_one_for_one_and_may_restart_twice_each_in_a_second(play: Any) -> None:
    async def body() -> None:
        pool = await started(pool_size=3)
        assert (pool.flags.strategy, pool.flags.intensity, pool.flags.period) == ("one_for_one", 6, 1)
        specs = [(await supervisor.get_childspec("rooms", f"rooms_shard{number}"))[1] for number in range(3)]
        assert [spec.restart for spec in specs] == ["transient"] * 3
        others = [erlang.whereis("rooms_shard1"), erlang.whereis("rooms_shard2")]
        for _ in range(6):
            await ended("rooms_shard0")
            await there("rooms_shard0")
        assert others == [erlang.whereis("rooms_shard1"), erlang.whereis("rooms_shard2")]
        await ended("rooms_shard0")
        message = await erlang.receive(lambda m: isinstance(m, erlang.ExitMessage), 10_000)
        assert message.reason == "shutdown" and erlang.whereis("rooms") is None

    play(body)


async def ended(name: str) -> None:
    pid = erlang.whereis(name)
    assert pid is not None
    erlang.exit(pid, "kill")
    await erlang.await_down(pid, 10_000)


async def there(name: str) -> None:
    while erlang.whereis(name) is None:
        await erlang.sleep(1)


def test_a_shard_that_does_not_run_is_an_error_and_a_restarted_one_is_empty(play: Any) -> None:
    async def body() -> None:
        pool = await started()
        pool.track(erlang.spawn(idle), "room", "ann", {})
        erlang.exit(erlang.whereis("rooms_shard0"), "kill")  # type: ignore[arg-type]
        with pytest.raises(Error, match="noproc"):
            pool.list("room")
        await there("rooms_shard0")
        assert pool.list("room") == []

    play(body)


@pytest.mark.parametrize("wrong", [{"pool_size": 0}, {"down_period": 1}, {"permdown_period": 1}])
def test_options_that_phoenix_refuses_are_refused_at_the_start(play: Any, wrong: dict[str, int]) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        await PubSub.start(name="pubsub")
        with pytest.raises(StartError):
            await Rooms.start_configured("rooms", {"pubsub": "pubsub", **wrong})
        with pytest.raises(StartError, match="needs a name"):
            await Rooms.start_link("pubsub")

    play(body)


def test_graceful_permdown_ends_the_tracker_and_harms_nobody(play: Any) -> None:
    async def body() -> None:
        pool = await started(pool_size=2)
        pid = erlang.spawn(idle)
        pool.track(pid, "room", "ann", {})
        pool.graceful_permdown()
        message = await erlang.receive(lambda m: isinstance(m, erlang.ExitMessage), 10_000)
        assert message.reason == "normal" and erlang.whereis("rooms_shard0") is None
        assert erlang.is_process_alive(pid)

    play(body)


def test_a_shard_ends_with_its_pubsub_and_comes_back_with_it(play: Any) -> None:
    """It would be deaf: Phoenix links the shard to the registry it subscribes at."""

    async def body() -> None:
        await started()
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        await ended("pubsub")
        assert await erlang.await_down(shard, 10_000) == "killed"

    play(body)


# ---- a shard and those it tracks


def test_a_shard_is_linked_to_whom_it_tracks_until_the_last_presence_is_untracked(play: Any) -> None:
    async def body() -> None:
        pool = await started()
        shard, pid = erlang.whereis("rooms_shard0"), erlang.spawn(idle)
        pool.track(pid, "room", "ann", {})
        pool.track(pid, "hall", "ann", {})
        assert links(pid) == [shard]
        pool.untrack(pid, "room", "ann")
        assert links(pid) == [shard]
        pool.untrack(pid, "hall", "ann")
        assert links(pid) == []
        erlang.exit(shard, "kill")  # type: ignore[arg-type]
        await there("rooms_shard0")
        assert erlang.is_process_alive(pid)

    play(body)


@pytest.mark.parametrize("reason", ["normal", "kill", "shutdown", ("own", 1)])
def test_a_death_of_any_reason_is_one_leave_of_all_the_presences(play: Any, reason: Any) -> None:
    async def body() -> None:
        pool = await started()
        shard = pool.shard("room")
        pid = erlang.spawn(leaving, reason)
        pool.track(pid, "room", "ann", {})
        pool.track(pid, "hall", "ann", {})
        shard.diffs.clear()
        erlang.send(pid, "go")
        while not shard.diffs:
            await erlang.sleep(1)
        assert (
            shard.diffs == [{"room": ([], ["ann"]), "hall": ([], ["ann"])}] and pool.dirty_list("room") == []
        )

    play(body)


async def leaving(reason: Any) -> None:
    await erlang.receive()
    if reason == "kill":
        erlang.exit(erlang.self_(), "kill")
    raise Exit(reason)


def test_a_killed_shard_takes_those_along_that_do_not_trap_exits(play: Any) -> None:
    async def body() -> None:
        pool = await started()
        told: list[Any] = []
        pid, survivor = erlang.spawn(idle), erlang.spawn(trapping, told)
        await erlang.sleep(1)
        for each in (pid, survivor):
            pool.track(each, "room", "ann", {})
        shard, ref = erlang.whereis("rooms_shard0"), erlang.monitor(pid)
        erlang.exit(shard, "kill")  # type: ignore[arg-type]
        assert await erlang.receive(lambda m: isinstance(m, erlang.Down), 10_000) == erlang.Down(
            ref, pid, "killed"
        )
        while not told:
            await erlang.sleep(1)
        assert told == [erlang.ExitMessage(shard, "killed")] and erlang.is_process_alive(survivor)

    play(body)


def test_whoever_unlinks_first_outlives_the_shard(play: Any) -> None:
    async def unlinking(pool: TrackerPool) -> None:
        pool.track(erlang.self_(), "room", "ann", {})
        erlang.unlink(erlang.whereis("rooms_shard0"))  # type: ignore[arg-type]
        await erlang.receive()

    async def body() -> None:
        pid = erlang.spawn(unlinking, await started())
        await erlang.sleep(1)
        erlang.exit(erlang.whereis("rooms_shard0"), "kill")  # type: ignore[arg-type]
        await there("rooms_shard0")
        assert erlang.is_process_alive(pid)

    play(body)


# ---- callbacks


def test_other_messages_go_to_handle_info(play: Any) -> None:
    async def body() -> None:
        shard = (await started()).shard("room")
        erlang.send("rooms_shard0", ("hello", 1))
        while not shard.infos:
            await erlang.sleep(1)
        assert shard.infos == [("hello", 1)] and erlang.whereis("rooms_shard0") is shard.pid

    play(body)


def test_a_bad_return_of_handle_info_crashes_the_shard(play: Any) -> None:
    async def body() -> None:
        await started()
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        erlang.send("rooms_shard0", "bad return")
        reason = await erlang.await_down(shard, 10_000)
        assert "handle_info is to return None or NoReply(), got Stop" in str(reason)

    play(body)


@pytest.mark.parametrize(
    ("topic", "says"), [("bad return", "is to return None, got 'ok'"), ("bad raise", "cheese")]
)
def test_a_bad_handle_diff_crashes_the_shard_and_whoever_made_the_change(
    play: Any, topic: str, says: str
) -> None:
    async def body() -> None:
        pool = await started()
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        with pytest.raises(Exit):
            pool.track(erlang.spawn(idle), topic, "ann", {})
        assert says in str(await erlang.await_down(shard, 10_000))

    play(body)


def test_a_bad_handle_diff_crashes_the_shard_also_at_the_end_of_a_process(play: Any) -> None:
    class OnLeave(Rooms):
        def handle_diff(self, diff: Any) -> Any:
            return any(leaves for _, leaves in diff.values()) or None

    async def body() -> None:
        pool = await started(OnLeave)
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        pid = erlang.spawn(idle)
        pool.track(pid, "room", "ann", {})
        erlang.exit(pid, "kill")
        assert "is to return None, got True" in str(await erlang.await_down(shard, 10_000))

    play(body)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_bad_return_of_handle_metas_crashes_the_shard(play: Any, asynchronous: bool) -> None:
    class Bad(Presence):
        def handle_metas(self, topic: str, diff: Any, presences: Any) -> Any:
            async def later() -> str:
                return "ok"

            return later() if asynchronous else "ok"

    async def body() -> None:
        await started(Bad)
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        presence.whereis("rooms").track(erlang.spawn(idle), "room", "ann", {})
        assert "handle_metas returned 'ok'" in str(await erlang.await_down(shard, 10_000))

    play(body)


def test_a_fetch_that_fails_crashes_the_shard(play: Any) -> None:
    class Bad(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            raise RuntimeError("out of cheese")

    async def body() -> None:
        await started(Bad)
        shard = erlang.whereis("rooms_shard0")
        assert shard is not None
        presence.whereis("rooms").track(erlang.spawn(idle), "room", "ann", {})
        assert "out of cheese" in str(await erlang.await_down(shard, 10_000))

    play(body)


def test_a_tracker_that_is_no_presence_is_not_found_as_one(play: Any) -> None:
    async def body() -> None:
        await started()
        with pytest.raises(Error, match="noproc"):
            presence.whereis("rooms")
        assert isinstance(tracker_pool.whereis("rooms").shard("room"), tracker.Tracker)

    play(body)
