"""Socket and channels as processes, without a network: joins, refs, order, crashes, ends."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.otp import dynamic_supervisor, erlang, gen_server, sys
from runtime.otp.erlang import Down
from runtime.phoenix import Broadcast, NoReply, Stop
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.phoenix.json_library import EncodeError
from runtime.phoenix.messages import Message
from runtime.phoenix.pubsub import PubSub
from runtime.testing import simulation as testing
from tests.phoenix.client import Client, client_frame, start_endpoint
from tests.phoenix.client import reply as phx_reply
from tests.phoenix.room import HEARTBEAT, Room, Tell, UserSocket, channel_of, join, joined


def test_join_echo_leave(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint)
        assert await client.ask(["1", "2", "room:a", "echo", None]) == [phx_reply("1", "2", "room:a", None)]
        assert await client.ask(["1", "3", "room:a", "nothing", {}]) == []
        assert await client.ask(["1", "3", "room:a", "push", {"a": 1}]) == [
            ["1", None, "room:a", "pushed", {"a": 1}]
        ]
        assert await client.ask(["1", "4", "room:a", "later", {}]) == []
        assert await client.settle(20) == [phx_reply("1", "4", "room:a", "later")]
        await client.ask(["1", False, "room:a", "later", {}])  # only null is no ref
        assert await client.settle(20) == [phx_reply("1", False, "room:a", "later")]
        assert await client.ask(["1", "5", "room:a", "phx_leave", {}]) == [
            phx_reply("1", "5", "room:a", {}),
            ["1", "1", "room:a", "phx_close", {}],
        ]
        unmatched = phx_reply(None, "6", "room:a", {"reason": "unmatched topic"}, "error")
        assert await client.ask(["1", "6", "room:a", "echo", {}]) == [unmatched]
        assert (await dynamic_supervisor.count_children(endpoint.channels))["active"] == 0

    play(body)


def test_routes_and_assigns(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket)
        assert await client.ask(join("extra:1")) == [
            phx_reply("1", "1", "extra:1", {"user": "ann", "kind": "extra"})
        ]
        assert await client.ask(join("exact")) == [phx_reply("1", "1", "exact", {"user": "ann"})]
        for topic in ("exactly", "roo", 5, None, True, 1.5, [], ["room:a", [97]]):
            unmatched = phx_reply(None, "2", topic, {"reason": "unmatched topic"}, "error")
            assert await client.ask(["2", "2", topic, "phx_join", {}]) == [unmatched]
        channel = channel_of(client, "exact").cell.actor
        channel.assigns["mine"] = 1
        assert "mine" not in client.socket.assigns

    play(body)


@pytest.mark.parametrize(
    ("topic", "response"),
    [
        ("room:refused", {"reason": "no"}),
        ("room:crash", {"reason": "join crashed"}),
        ("room:bad", {"reason": "join crashed"}),
        ("room:early", {"reason": "join crashed"}),
    ],
)
def test_refused_joins_leave_nothing_behind(play: Any, topic: str, response: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = Client(endpoint, UserSocket)
        assert await client.ask(join(topic)) == [phx_reply("1", "1", topic, response, "error")]
        assert client.connection.channels == {}
        assert (await dynamic_supervisor.count_children(endpoint.channels))["active"] == 0
        assert endpoint.pubsub.subscribers(topic) == []
        assert await client.ask(HEARTBEAT) == [phx_reply(None, "9", "phoenix", {})]

    play(body)


def test_a_join_blocks_the_socket_and_order_is_phoenix(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint)
        client.send(join("room:slow", "2"), HEARTBEAT, ["1", "3", "room:a", "echo", 1])
        await erlang.sleep(20)
        endpoint.broadcast("room:a", "news", {"n": 1})
        client.send([None, "10", "phoenix", "heartbeat", {}])
        assert await client.settle(20) == []
        got = await client.settle(600)
        assert got[:2] == [
            phx_reply("2", "2", "room:slow", {"user": "ann"}),
            phx_reply(None, "9", "phoenix", {}),
        ]
        # What came while the join ran, in the order in which it came; the echo races with all of it.
        rest = [frame for frame in got[2:] if frame[1] != "3"]
        assert rest == [[None, None, "room:a", "news", {"n": 1}], phx_reply(None, "10", "phoenix", {})]
        assert phx_reply("1", "3", "room:a", 1) in got

    play(body)


def test_a_slow_event_blocks_its_channel_alone(play: Any) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        await client.ask(join("room:b", "2"))
        client.send(
            ["1", "3", "room:a", "sleep", 600],
            ["1", "4", "room:a", "echo", 4],
            ["2", "5", "room:b", "echo", 5],
        )
        assert await client.settle(50) == [phx_reply("2", "5", "room:b", 5)]
        assert await client.settle(1000) == [
            phx_reply("1", "3", "room:a", {}),
            phx_reply("1", "4", "room:a", 4),
        ]

    play(body)


def test_a_second_join_replaces_the_channel(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint)
        old = channel_of(client)
        await client.ask(["1", "2", "room:a", "count", {}])
        assert await client.ask(join("room:a", "3")) == [
            phx_reply("3", "3", "room:a", {"user": "ann"}),
            ["1", "1", "room:a", "phx_close", {}],
        ]
        assert not erlang.is_process_alive(old)
        assert await client.ask(["1", "4", "room:a", "count", {}]) == []
        assert await client.ask(["3", "5", "room:a", "count", {}]) == [phx_reply("3", "5", "room:a", 1)]
        assert endpoint.pubsub.subscribers("room:a") == [channel_of(client)]

    play(body)


def test_a_channel_that_traps_exits_is_replaced_too() -> None:
    async def body() -> None:
        client = await joined(await start_endpoint(), "room:stubborn")
        old = channel_of(client, "room:stubborn")
        client.send(["1", "2", "room:stubborn", "sleep", 60_000], join("room:stubborn", "3"))
        assert await client.settle(1000) == []
        got = await client.settle(5000)
        assert got == [
            phx_reply("3", "3", "room:stubborn", {"user": "ann"}),
            ["1", "1", "room:stubborn", "phx_close", {}],
        ]
        assert not erlang.is_process_alive(old)

    testing.play(body)  # six seconds, of virtual time alone


@pytest.mark.parametrize(
    ("event", "payload", "events"),
    [
        ("crash", {}, ["phx_error"]),
        ("throw", {}, ["phx_error"]),
        ("bad", {}, ["phx_error"]),
        ("stop", "normal", ["phx_reply", "phx_close"]),
        ("stop", "shutdown", ["phx_reply", "phx_close"]),
        ("stop", ["shutdown", "x"], ["phx_reply", "phx_close"]),
        ("stop", "other", ["phx_reply", "phx_error"]),
    ],
)
def test_how_a_channel_ends(play: Any, event: str, payload: Any, events: list[str]) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        await client.ask(join("room:b", "2"))
        got = await client.ask(["1", "3", "room:a", event, payload])
        assert [frame[3] for frame in got] == events
        assert got[-1][:2] == ["1", "1"]
        assert list(client.connection.channels) == ["room:b"]
        assert await client.ask(["2", "4", "room:b", "echo", 1]) == [phx_reply("2", "4", "room:b", 1)]

    play(body)


@pytest.mark.parametrize(("reason", "event"), [("normal", "phx_close"), ("other", "phx_error")])
def test_a_call_may_end_a_channel(play: Any, reason: str, event: str) -> None:
    class Called(Room):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return Stop(request, "bye")

    class CalledSocket(UserSocket):
        channels = {"room:*": Called}

    async def body() -> None:
        client = Client(await start_endpoint(), CalledSocket)
        await client.ask(join())
        assert await gen_server.call(channel_of(client), reason) == "bye"
        assert await client.settle() == [["1", "1", "room:a", event, {}]]

    play(body)


def test_a_killed_channel_is_an_error_to_its_client_alone(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        one, two = await joined(endpoint), await joined(endpoint)
        erlang.exit(channel_of(one), "kill")
        assert await one.settle() == [["1", "1", "room:a", "phx_error", {}]]
        assert await two.settle() == []
        assert endpoint.pubsub.subscribers("room:a") == [channel_of(two)]

    play(body)


def test_pipelined_leave_and_join(play: Any) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        got = await client.ask(["1", "2", "room:a", "phx_leave", {}], join("room:a", "3"))
        assert got == [phx_reply("3", "3", "room:a", {"user": "ann"}), ["1", "1", "room:a", "phx_close", {}]]

    play(body)


def test_broadcasts_wake_no_channel_unless_intercepted(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        ann, bob = await joined(endpoint), await joined(endpoint, user="bob")
        before = erlang.process_info(channel_of(bob))
        assert before is not None
        assert await ann.ask(["1", "2", "room:a", "shout", {"m": 1}]) == [
            [None, None, "room:a", "shout", {"m": 1}],
            phx_reply("1", "2", "room:a", {}),
        ]
        assert await bob.settle() == [[None, None, "room:a", "shout", {"m": 1}]]
        after = erlang.process_info(channel_of(bob))
        assert after is not None and after["reductions"] == before["reductions"]
        assert await ann.ask(["1", "3", "room:a", "others", {}]) == [phx_reply("1", "3", "room:a", {})]
        assert await bob.settle() == [[None, None, "room:a", "shout", {}]]
        assert await ann.ask(["1", "4", "room:a", "secret", {}]) == [
            ["1", None, "room:a", "secret", {"for": "ann"}]
        ]
        assert await bob.settle() == [["1", None, "room:a", "secret", {"for": "bob"}]]

    play(body)


def test_a_broadcast_is_encoded_once_per_serializer(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        deflate = negotiate_deflate(["permessage-deflate"])
        clients = [await joined(endpoint, user=f"u{i}") for i in range(4)]
        packed = [Client(endpoint, UserSocket, deflate=deflate, user="z") for _ in range(3)]
        old = Client(endpoint, UserSocket, vsn=1)
        for client in packed:
            await client.ask(join())
        await old.ask({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"})
        made: list[Any] = []
        for serializer in {type(c.socket.serializer) for c in (*clients, old)}:
            real = serializer.fastlane

            def counting(self: Any, message: Any, real: Any = real) -> Any:
                made.append(type(self).__name__)
                return real(self, message)

            monkeypatch.setattr(serializer, "fastlane", counting)
        endpoint.broadcast("room:a", "news", {"text": "x" * 500})
        await erlang.sleep(5)
        assert sorted(made) == ["V1", "V2"]
        outputs = [bytes(client.io.out) for client in packed]
        assert outputs[0][0] == 0xC1 and outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) < 100
        assert all(client.take()[0][3] == "news" for client in clients)
        assert old.take()[0]["event"] == "news"

    play(body)


def test_a_payload_no_serializer_takes_ends_the_sender(play: Any) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        assert await client.ask(["1", "2", "room:a", "shout", [1]]) == [["1", "1", "room:a", "phx_error", {}]]
        assert await client.ask(HEARTBEAT) == [phx_reply(None, "9", "phoenix", {})]

    play(body)


def test_a_broadcast_reaches_all_who_come_before_a_serializer_that_raises(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        first, old = await joined(endpoint), Client(endpoint, UserSocket, vsn=1)
        await old.ask({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"})
        last = await joined(endpoint, user="last")
        with pytest.raises(EncodeError):
            endpoint.broadcast("room:a", "news", b"for V2 alone")
        assert await first.settle() == [b"\x02\x06\x04room:anewsfor V2 alone"]
        assert await old.settle() == await last.settle() == []
        old.send({"topic": "room:a", "event": "shout", "payload": [1], "ref": "2"})
        assert [message["event"] for message in await old.settle()] == ["phx_error"]
        await old.ask({"topic": "room:b", "event": "phx_join", "payload": {}, "ref": "3"})
        await last.ask(join("room:b"))
        old.send({"topic": "room:b", "event": "shout", "payload": [1], "ref": "4"})
        assert [message["event"] for message in await old.settle()] == ["shout", "phx_error"]

    play(body)


def test_disconnect_by_id(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        ann, bob = await joined(endpoint), await joined(endpoint, user="bob")
        monitor = erlang.monitor(channel_of(ann))
        endpoint.broadcast("user:ann", "other", {})
        assert await ann.settle() == []
        endpoint.disconnect("user:ann")
        assert await ann.settle() == [("close", 1001)] and ann.io.closed
        down = await erlang.receive(lambda m: isinstance(m, Down), 10_000)
        assert down.ref is monitor and down.reason == ("shutdown", "disconnected")
        assert await bob.ask(HEARTBEAT) == [phx_reply(None, "9", "phoenix", {})]

    play(body)


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("close", 1000, ("shutdown", "local_closed")),
        ("gone", None, ("shutdown", "peer_closed")),
        ("garbage", 1011, "error"),
        ("unmasked", 1002, "error"),
        ("kill", None, "killed"),
    ],
)
def test_channels_end_with_their_socket(play: Any, how: str, code: int | None, reason: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint, "room:observed")
        endpoint.subscribe("ends", erlang.self_())
        match how:
            case "close":
                client.send_bytes(client_frame(8, b"\x03\xe8bye"))
            case "gone":
                client.connection.peer_closed()
            case "garbage":
                client.send_bytes(client_frame(1, b"{"))
            case "unmasked":
                client.send_bytes(b"\x81\x00")
            case "kill":
                erlang.exit(client.pid, "kill")
        told = await erlang.receive(lambda m: isinstance(m, Broadcast), 10_000)
        got = told.payload["reason"]
        assert got == reason if reason != "error" else got[0] not in ("shutdown",)
        assert client.take() == ([("close", code)] if code else [])
        assert client.io.closed
        assert endpoint.pubsub.count() == (1, 1)  # what is left is our own subscription

    play(body)


def test_nothing_is_handled_after_the_close(play: Any) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        frames = client_frame(8, b"") + client_frame(1, b'[null,"9","phoenix","heartbeat",{}]')
        client.send_bytes(frames)
        assert await client.settle() == [("close", 1000)]

    play(body)


def test_a_binary_join_reply_on_v1_ends_the_socket(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket, vsn=1)
        client.send({"topic": "room:binary", "event": "phx_join", "payload": {}, "ref": "1"})
        assert await client.settle() == [("close", 1011)]

    play(body)


def test_replies_from_outside_and_broadcasts_checked(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint)
        for topic, event in ((1, "e"), ("t", None)):
            with pytest.raises(TypeError):
                endpoint.broadcast(topic, event, {})  # type: ignore[arg-type]
        erlang.send(channel_of(client), Tell("told", {"x": 1}))
        assert await client.settle() == [["1", None, "room:a", "told", {"x": 1}]]
        endpoint.subscribe("side", channel_of(client))
        endpoint.broadcast("side", "note", {})
        assert await client.settle() == [["1", None, "room:a", "relayed", {"event": "note"}]]

    play(body)


def test_subscriptions_follow_their_process(play: Any) -> None:
    async def body() -> None:
        await PubSub.start(name="ps")
        pubsub = erlang.whereis("ps").cell.actor
        me = erlang.self_()
        pubsub.subscribe("t")
        pubsub.subscribe("t", metadata="second")
        pubsub.subscribe("u")
        pid = erlang.spawn(erlang.sleep, 60_000)
        pubsub.subscribe("t", pid)
        pubsub.broadcast("t", "hello")
        assert await erlang.receive() == "hello" and await erlang.receive() == "hello"
        pubsub.broadcast_from(me, "t", "not to me")
        assert await erlang.receive(timeout=0) is erlang.TIMEOUT
        seen: list[Any] = []
        pubsub.broadcast(
            "t", "x", lambda subs, source, message: seen.extend((tuple(s), source, message) for s in subs)
        )
        assert [entry[0] for entry in seen if entry[0][0] is me] == [(me, None), (me, "second")]
        erlang.exit(pid, "kill")
        assert pubsub.subscribers("t") == [me, me]
        pubsub.subscribe("t", pid)  # dead: nothing happens
        pubsub.unsubscribe("t")
        assert pubsub.subscribers("t") == [] and pubsub.subscribers("u") == [me]
        pubsub.unsubscribe("u")
        assert pubsub.count() == (0, 0)

    play(body)


def test_broadcasts_go_to_the_adapter_too(play: Any) -> None:
    sent: list[Any] = []

    class Adapter:
        def broadcast(self, topic: str, message: Any, dispatcher: Any) -> None:
            sent.append((topic, message))

    async def body() -> None:
        sent.clear()
        await PubSub.start(Adapter(), name="ps")
        pubsub = erlang.whereis("ps").cell.actor
        pubsub.broadcast("t", 1)
        pubsub.broadcast_from(None, "t", 2)
        pubsub.local_broadcast("t", 3)
        assert sent == [("t", 1), ("t", 2)]

    play(body)


def test_local_broadcasts_reach_all_or_all_but_one(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        ann, bob = await joined(endpoint), await joined(endpoint, user="bob")
        endpoint.local_broadcast("room:a", "news", {"n": 1})
        endpoint.local_broadcast_from(channel_of(ann), "room:a", "news", {"n": 2})
        assert [message[4] for message in await ann.settle()] == [{"n": 1}]
        assert [message[4] for message in await bob.settle()] == [{"n": 1}, {"n": 2}]

    play(body)


def test_a_message_of_the_client_voids_a_timeout_and_is_seen_by_sys(play: Any) -> None:
    """A channel is a GenServer: what comes ends the timeout of the callback before, is traced and counted."""
    timeouts: list[Any] = []

    class Timed(Room):
        async def handle_in(self, event: Any, payload: Any) -> Any:
            return NoReply(timeout=100) if event == "wait" else await super().handle_in(event, payload)

        def handle_info(self, message: Any) -> Any:
            timeouts.append(message)

    class TimedSocket(UserSocket):
        channels = {"room:*": Timed}

    async def body() -> None:
        client = Client(await start_endpoint(), TimedSocket)
        await client.ask(join())
        channel = channel_of(client)
        seen: list[Any] = []
        await sys.trace(channel, None, seen.append)
        await sys.statistics(channel, True)
        for ref in ("2", "3"):
            await client.ask(["1", ref, "room:a", "wait", {}])
            await erlang.sleep(60)
        assert timeouts == []
        await erlang.sleep(60)
        assert timeouts == ["timeout"]
        assert [event.message.event for event in seen if isinstance(event.message, Message)] == [
            "wait",
            "wait",
        ]
        assert (await sys.statistics(channel, "get"))["messages_in"] >= 2

    play(body)
