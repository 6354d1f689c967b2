"""Socket and channels as processes, without a network: joins, refs, order, crashes, ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from runtime import dynamic_supervisor, erlang, exits, telemetry
from runtime.erlang import Down
from runtime.phoenix import (
    Broadcast,
    Channel,
    Endpoint,
    Error,
    NoReply,
    Ok,
    Reply,
    SocketRef,
    Stop,
    UserSocket,
    WebSocketOptions,
    drain,
    reply,
)
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.pubsub import PubSub
from tests.phoenix.client import Client, client_frame, start_endpoint
from tests.phoenix.client import reply as phx_reply


@dataclass(frozen=True)
class Tell:
    event: str
    payload: Any


class Room(Channel):
    intercept = ("secret",)

    async def join(self, topic: str, payload: Any, socket: UserSocket) -> Any:
        match topic.partition(":")[2]:
            case "slow":
                await erlang.sleep(300)
            case "refused":
                return Error({"reason": "no"})
            case "crash":
                raise RuntimeError("join")
            case "bad":
                return True
            case "binary":
                return Ok(b"\x00")
            case "early":
                self.push("early", {})
            case "stubborn":
                erlang.trap_exit(True)
        return Ok({"user": self.assigns["user"], **self.assigns.get("extra", {})})

    async def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "echo":
                return Reply("ok", payload)
            case "nothing":
                return None
            case "sleep":
                await erlang.sleep(payload)
                return Reply()
            case "push":
                self.push("pushed", payload)
            case "shout":
                self.broadcast("shout", payload)
                return Reply()
            case "others":
                self.broadcast_from("shout", payload)
                return Reply()
            case "secret":
                self.broadcast("secret", payload)
            case "later":
                erlang.send_after(10, self.pid, self.socket_ref())
                return NoReply()
            case "crash":
                raise RuntimeError("crash")
            case "throw":
                exits.throw(Reply("ok"))
            case "stop":
                return Stop(payload if isinstance(payload, str) else tuple(payload), Reply("ok", "bye"))
            case "count":
                self.assigns["count"] = self.assigns.get("count", 0) + 1
                return Reply("ok", self.assigns["count"])
            case "bad":
                return 42
        return NoReply()

    def handle_out(self, event: str, payload: Any) -> Any:
        self.push(event, {**payload, "for": self.assigns["user"]})

    def handle_info(self, message: Any) -> Any:
        match message:
            case SocketRef():
                reply(message, "ok", "later")
            case Tell(event, payload):
                self.push(event, payload)
            case Broadcast():
                self.push("relayed", {"event": message.event})

    def terminate(self, reason: Any) -> None:
        if self.topic == "room:observed":
            self.socket.endpoint.broadcast("ends", "terminated", {"reason": reason})


class Socket(UserSocket):
    channels = {"room:*": Room, "extra:*": (Room, {"assigns": {"extra": {"kind": "extra"}}}), "exact": Room}

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        self.assigns["user"] = params.get("user", "ann")
        return Ok()

    def id(self) -> str | None:
        return f"user:{self.assigns['user']}"


HEARTBEAT = [None, "9", "phoenix", "heartbeat", {}]


def join(topic: str = "room:a", ref: Any = "1", payload: Any = None) -> list[Any]:
    return [ref, ref, topic, "phx_join", {} if payload is None else payload]


async def joined(endpoint: Endpoint, topic: str = "room:a", **options: Any) -> Client:
    client = Client(endpoint, Socket, **options)
    got = await client.ask(join(topic))
    assert got == [phx_reply("1", "1", topic, {"user": client.socket.assigns["user"]})]
    return client


def channel_of(client: Client, topic: str = "room:a") -> Any:
    return client.connection.channels[topic].pid


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
        client = Client(await start_endpoint(), Socket)
        assert await client.ask(join("extra:1")) == [
            phx_reply("1", "1", "extra:1", {"user": "ann", "kind": "extra"})
        ]
        assert await client.ask(join("exact")) == [phx_reply("1", "1", "exact", {"user": "ann"})]
        for topic in ("exactly", "roo", 5, None, ["room:a"], {}):
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
        client = Client(endpoint, Socket)
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
        await erlang.sleep(50)
        endpoint.broadcast("room:a", "news", {"n": 1})
        client.send([None, "10", "phoenix", "heartbeat", {}])
        assert await client.settle(100) == []
        got = await client.settle(300)
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
            ["1", "3", "room:a", "sleep", 100],
            ["1", "4", "room:a", "echo", 4],
            ["2", "5", "room:b", "echo", 5],
        )
        assert await client.settle(50) == [phx_reply("2", "5", "room:b", 5)]
        assert await client.settle(100) == [
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


def test_a_channel_that_traps_exits_is_replaced_too(play: Any) -> None:
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

    if "seed" in getattr(play, "__name__", "") or play.__name__ == "<lambda>":  # five virtual seconds
        play(body)


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
        packed = [Client(endpoint, Socket, deflate=deflate, user="z") for _ in range(3)]
        old = Client(endpoint, Socket, vsn=1)
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


def test_disconnect_by_id(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        ann, bob = await joined(endpoint), await joined(endpoint, user="bob")
        monitor = erlang.monitor(channel_of(ann))
        endpoint.broadcast("user:ann", "other", {})
        assert await ann.settle() == []
        endpoint.disconnect("user:ann")
        assert await ann.settle() == [("close", 1001)] and ann.io.closed
        down = await erlang.receive(lambda m: isinstance(m, Down), 100)
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
        told = await erlang.receive(lambda m: isinstance(m, Broadcast), 1000)
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
        client = Client(await start_endpoint(), Socket, vsn=1)
        client.send({"topic": "room:binary", "event": "phx_join", "payload": {}, "ref": "1"})
        assert await client.settle() == [("close", 1011)]

    play(body)


def test_at_most_so_many_channels(play: Any) -> None:
    async def body() -> None:
        options = WebSocketOptions(max_channels_per_transport=2)
        client = Client(await start_endpoint(), Socket, options=options)
        await client.ask(join("room:1", "1"), join("room:2", "2"))
        full = phx_reply("3", "3", "room:3", {"reason": "too many channels joined"}, "error")
        assert await client.ask(join("room:3", "3")) == [full]
        assert (await client.ask(join("room:2", "4")))[0] == phx_reply("4", "4", "room:2", {"user": "ann"})
        await client.ask(["1", "5", "room:1", "phx_leave", {}])
        assert await client.ask(join("room:3", "6")) == [phx_reply("6", "6", "room:3", {"user": "ann"})]

    play(body)


def test_a_join_that_takes_too_long(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = Client(endpoint, Socket, options=WebSocketOptions(join_timeout=100))
        client.send(join("room:slow"))
        assert await client.settle(90) == []
        assert await client.settle(50) == [
            phx_reply("1", "1", "room:slow", {"reason": "join timed out"}, "error")
        ]
        assert (await dynamic_supervisor.count_children(endpoint.channels))["active"] == 0

    play(body)


def test_too_many_messages_a_second(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), Socket, options=WebSocketOptions(max_messages_per_second=5))
        client.send(*[HEARTBEAT] * 5)
        assert len(await client.settle(2000)) == 5
        assert len(await client.ask(*[HEARTBEAT] * 4)) == 4
        got = await client.ask(*[HEARTBEAT] * 20)
        assert got[-1] == ("close", 1008) and len(got) <= 7

    play(body)


def test_a_slow_reader_is_closed_and_costs_a_bounded_buffer(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        events: list[Any] = []
        telemetry.attach("slow", ("socket", "slow_reader"), lambda *event: events.append(event))
        try:
            slow = await joined(endpoint, options=WebSocketOptions(max_buffer=10_000))
            quick = await joined(endpoint)
            slow.connection.writing_paused = True
            slow.io.stuck = 1
            for index in range(50):
                endpoint.broadcast("room:a", "news", {"i": index, "x": "y" * 1000})
            assert slow.io.stuck <= 11_000
            await erlang.sleep(5)
            assert slow.take()[-1] == ("close", 1013) and slow.io.closed
            assert len(quick.take()) == 50
            assert events[0][2] == {"id": "user:ann", "topics": ["room:a"]} and len(events) == 1
            assert endpoint.pubsub.subscribers("room:a") == [channel_of(quick)]
        finally:
            telemetry.detach("slow")

    play(body)


def test_what_waits_behind_a_join_is_bounded(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client = await joined(endpoint, options=WebSocketOptions(max_buffer=5_000))
        client.send(join("room:slow", "2"))
        await erlang.sleep(5)
        for _ in range(1000):
            endpoint.broadcast("room:a", "news", {"x": "y" * 1000})
        assert client.connection.queued <= 5_000
        client.send_bytes(client_frame(1, b"x" * 70_000))
        assert not client.io.reading
        got = await client.settle(400)
        assert got[-1] == ("close", 1013)

    play(body)


def test_reading_goes_on_after_a_join(play: Any) -> None:
    async def body() -> None:
        client = await joined(await start_endpoint())
        big = ["1", "2", "room:a", "echo", "x" * 70_000]
        client.send(join("room:slow", "2"))
        client.send(big)
        assert not client.io.reading
        got = await client.settle(400)
        assert got[-1][4]["response"] == big[4] and client.io.reading

    play(body)


def test_silence_ends_a_socket(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        options = WebSocketOptions(timeout=400)
        silent, alive = await joined(endpoint, options=options), await joined(endpoint, options=options)
        other = await joined(endpoint, options=WebSocketOptions(timeout=None))
        for _ in range(6):
            alive.send_bytes(client_frame(9, b"x")[:1] if _ == 0 else client_frame(10, b""))
            if _ == 0:
                alive.send_bytes(client_frame(9, b"x")[1:2] + b"\0\0\0\0x")
            endpoint.broadcast("room:a", "news", {})
            await erlang.sleep(100)
        assert silent.take()[-1] == ("close", 1002)
        assert not alive.io.closed and not other.io.closed
        await erlang.sleep(500)
        assert alive.io.closed and not other.io.closed

    play(body)


def test_drain_tells_channels_and_closes_in_batches(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        endpoint.subscribe("ends", erlang.self_())
        clients = [await joined(endpoint, "room:observed") for _ in range(6)]
        lonely = Client(endpoint, Socket)
        started = erlang.monotonic_time()
        assert await drain(endpoint.sockets, batch_size=3, batch_interval=90) == 7
        assert erlang.monotonic_time() - started >= 150
        assert [client.take() for client in clients] == [[("close", 1012)]] * 6
        assert lonely.take() == [("close", 1000)]
        for _ in clients:
            told = await erlang.receive(lambda m: isinstance(m, Broadcast), 1000)
            assert told.payload["reason"] == ("shutdown", "draining")

    play(body)


def test_drain_does_not_wait_for_those_who_come_back(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        await joined(endpoint, "room:a")
        back: list[Client] = []

        async def come_back() -> None:
            await erlang.sleep(3)
            back.append(Client(endpoint, Socket))

        erlang.spawn(come_back)
        started = erlang.monotonic_time()
        assert await drain(endpoint.sockets, batch_size=1, batch_interval=10) == 1
        assert erlang.monotonic_time() - started < 1000
        assert await back[0].settle() == [("close", 1000)]

    play(body)


def test_the_keeper_of_the_sockets_takes_them_along(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client, lonely = await joined(endpoint), Client(endpoint, Socket)
        await erlang.sleep(1)
        erlang.exit(erlang.whereis(endpoint.sockets), "kill")
        assert await client.settle() == [("close", 1012)]
        assert await lonely.settle() == [("close", 1000)]

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


def test_a_client_that_has_gone_gets_no_more_bytes(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), Socket, user="u")
        await client.ask(["1", "1", "room:a", "phx_join", {}])
        ends: list[Any] = []
        watcher = erlang.spawn(_tell_the_end, client.pid, ends)
        assert watcher is not None
        await erlang.sleep(1)
        client.send([None, "2", "phoenix", "heartbeat", {}])
        client.connection.peer_closed()
        client.io.closed = True  # from here on a write is an error, as it is on the real transport
        assert await client.settle() == []
        assert ends == [("shutdown", "peer_closed")]

    play(body)


async def _tell_the_end(pid: Any, ends: list[Any]) -> None:
    erlang.monitor(pid)
    message = await erlang.receive(lambda found: isinstance(found, Down))
    ends.append(message.reason)


def test_a_sweep_before_a_connection_has_begun_leaves_it_alone(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        keeper = erlang.whereis(endpoint.sockets).cell.actor
        await erlang.sleep(100)
        client = Client(endpoint, Socket, options=WebSocketOptions(timeout=50), user="u")
        keeper._sweep(keeper._myRef.engine.now())
        assert await client.ask([None, "1", "phoenix", "heartbeat", {}]) == [
            phx_reply(None, "1", "phoenix", {})
        ]

    play(body)
