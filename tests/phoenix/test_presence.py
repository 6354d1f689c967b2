"""Presence: state and diffs as the `phoenix` client's Presence class reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime.otp import erlang
from runtime.otp.erlang import receive
from runtime.phoenix import Broadcast, presence
from runtime.phoenix.endpoint import Fastlane
from runtime.phoenix.presence import AlreadyTracked, NoPresence, Presence
from runtime.phoenix.serializer import V2_SERIALIZER
from runtime.testing.simulation import play
from tests.phoenix.client import start_endpoint


async def started() -> tuple[Presence, Any]:
    endpoint = await start_endpoint()
    endpoint.subscribe("room", erlang.self_())
    return presence.whereis(f"{endpoint.pubsub_name}.presence"), endpoint


async def next_diff(timeout: float = 10_000) -> Any:
    message = await receive(lambda m: isinstance(m, Broadcast), timeout)
    return message if message is erlang.TIMEOUT else (message.topic, message.payload)


async def idle() -> None:
    await receive()


def member() -> Any:
    return erlang.spawn(idle)


def test_track_update_untrack(play: Any) -> None:
    async def body() -> None:
        who, _endpoint = await started()
        pid = member()
        first = who.track(pid, "room", "ann", {"tab": 1})
        joined = {"metas": [{"tab": 1, "phx_ref": first}]}
        assert await next_diff() == ("room", {"joins": {"ann": joined}, "leaves": {}})
        assert who.list("room") == {"ann": joined} and who.get_by_key("room", "ann") == joined
        assert who.get_by_key("room", "bob") == [] and who.list("other") == {}
        with pytest.raises(AlreadyTracked):
            who.track(pid, "room", "ann", {})
        second = who.update(pid, "room", "ann", {"tab": 1})
        updated = {"metas": [{"tab": 1, "phx_ref": second, "phx_ref_prev": first}]}
        assert await next_diff() == ("room", {"joins": {"ann": updated}, "leaves": {"ann": joined}})
        third = who.update(pid, "room", "ann", lambda meta: {**meta, "via": "fun"})
        assert who.list("room")["ann"]["metas"] == [
            {"tab": 1, "via": "fun", "phx_ref": third, "phx_ref_prev": second}
        ]
        await next_diff()
        with pytest.raises(NoPresence):
            who.update(pid, "room", "nobody", {})
        who.untrack(pid, "room", "nobody")
        who.untrack(pid, "room", "ann")
        diff = await next_diff()
        assert diff[1]["joins"] == {} and diff[1]["leaves"]["ann"]["metas"][0]["phx_ref"] == third
        assert who.list("room") == {} and await next_diff(50) is erlang.TIMEOUT
        assert len({first, second, third}) == 3

    play(body)


def test_two_tabs_are_two_metas_and_an_end_is_one_diff_per_topic(play: Any) -> None:
    async def body() -> None:
        who, endpoint = await started()
        endpoint.subscribe("other", erlang.self_())
        one, two = member(), member()
        refs = [who.track(one, "room", "ann", {"tab": 1}), who.track(two, "room", "ann", {"tab": 2})]
        who.track(one, "room", "second key", {})
        who.track(one, "other", "ann", {})
        for _ in range(4):
            await next_diff()
        assert [meta["phx_ref"] for meta in who.list("room")["ann"]["metas"]] == refs
        erlang.exit(one, "kill")
        diffs = dict([await next_diff(), await next_diff()])
        assert set(diffs["room"]["leaves"]) == {"ann", "second key"} and set(diffs["other"]["leaves"]) == {
            "ann"
        }
        assert diffs["room"]["leaves"]["ann"]["metas"] == [{"tab": 1, "phx_ref": refs[0]}]
        assert who.list("room") == {"ann": {"metas": [{"tab": 2, "phx_ref": refs[1]}]}}
        assert await next_diff(50) is erlang.TIMEOUT

    play(body)


def test_what_cannot_be_tracked(play: Any) -> None:
    async def body() -> None:
        who, _endpoint = await started()
        pid = member()
        for meta in (None, [1], "x", b"x"):
            with pytest.raises(TypeError):
                who.track(pid, "room", "ann", meta)  # type: ignore[arg-type]
        assert who.list("room") == {}

    play(body)


def test_a_dead_process_joins_and_leaves(play: Any) -> None:
    """`Process.link/1` of a tracker, which traps exits, to the dead."""

    async def body() -> None:
        who, _endpoint = await started()
        pid = member()
        erlang.exit(pid, "kill")
        ref = who.track(pid, "room", "ann", {})
        gone = {"ann": {"metas": [{"phx_ref": ref}]}}
        assert await next_diff() == ("room", {"joins": gone, "leaves": {}})
        assert await next_diff() == ("room", {"joins": {}, "leaves": gone})
        assert who.list("room") == {}

    play(body)


def test_a_meta_that_is_no_json_costs_its_diff_alone(play: Any) -> None:
    async def body() -> None:
        who, endpoint = await started()
        client = SimpleNamespace(push=lambda frame: None)
        lane = Fastlane(client, V2_SERIALIZER, frozenset())  # type: ignore[arg-type]
        endpoint.pubsub.subscribe("bytes", member(), lane)
        who.track(member(), "bytes", "ann", {"b": b"x"})
        ref = who.track(member(), "room", "bob", {})
        assert (await next_diff())[1]["joins"] == {"bob": {"metas": [{"phx_ref": ref}]}}

    play(body)


def test_fetch_adds_to_what_clients_see(play: Any) -> None:
    class Named(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            return {key: {**entry, "name": key.upper()} for key, entry in presences.items()}

    async def body() -> None:
        endpoint = await start_endpoint()
        endpoint.subscribe("room", erlang.self_())
        await Named.start(endpoint.pubsub_name, name="named")
        who = presence.whereis("named")
        who.track(member(), "room", "ann", {})
        assert (await next_diff())[1]["joins"]["ann"]["name"] == "ANN"
        assert who.list("room")["ann"]["name"] == "ANN" and who.get_by_key("room", "ann")["name"] == "ANN"

    play(body)


def test_members_do_not_outlive_the_presence(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        pid = member()
        name = f"{endpoint.pubsub_name}.presence"
        presence.whereis(name).track(pid, "room", "ann", {})
        await erlang.sleep(1)
        erlang.exit(erlang.whereis(name), "kill")
        assert await erlang.await_down(pid, 10_000) == "killed"

    play(body)


def test_refs_come_from_the_engine() -> None:
    def refs(seed: int) -> list[str]:
        found: list[str] = []

        async def body() -> None:
            who, _endpoint = await started()
            found.extend(who.track(member(), "room", key, {}) for key in ("ann", "bob", "cid"))

        play(body, seed=seed)
        return found

    assert refs(3) == refs(3), "two runs under one seed are the same"
    assert len(set(refs(3))) == 3 and refs(3) != refs(4)


def test_keys_that_are_no_strings_are_written_as_elixir_writes_them() -> None:
    async def body() -> None:
        who, _endpoint = await started()
        pid = member()
        for key, text in ((1, "1"), (True, "true"), (1.0, "1.0"), (None, ""), (1e20, "1.0e20")):
            who.track(pid, "room", key, {})
            assert list((await next_diff())[1]["joins"]) == [text]
        assert list(who.list("room")) == ["1", "true", "1.0", "", "1.0e20"]
        who.untrack(pid, "room", True)
        assert list(who.list("room")) == ["1", "1.0", "", "1.0e20"]
        assert len(who.get_by_key("room", 1)["metas"]) == 1 and who.get_by_key("room", True) == []
        without_text: list[Any] = [{}, [1.5]]  # `Phoenix.Presence.get_by_key/3` begins with `to_string(key)`
        for key in without_text:
            with pytest.raises(ValueError):
                who.get_by_key("room", key)

    play(body)


def test_a_topic_is_a_string() -> None:
    async def body() -> None:
        _who, endpoint = await started()
        topic: Any
        for topic in (5, None, ["room"]):
            for function in (endpoint.subscribe, endpoint.unsubscribe):
                with pytest.raises(TypeError, match="a topic must be a string"):
                    function(topic)

    play(body)
