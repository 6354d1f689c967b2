"""What bounds a socket: channels, rates, buffers, silence, join time; and how sockets are sent away."""

from __future__ import annotations

import zlib
from typing import Any

import orjson
import pytest

from runtime.core import telemetry
from runtime.otp import dynamic_supervisor, erlang, gen_server
from runtime.otp.erlang import Down
from runtime.phoenix import (
    Broadcast,
    LongPollOptions,
    WebSocketOptions,
    drain,
    drainer,
)
from runtime.phoenix.deflate import negotiate
from runtime.phoenix.longpoll_server import LongPollSession, Poll
from runtime.phoenix.messages import TEXT, Frame
from runtime.phoenix.mount import MESSAGES_PER_SECOND
from runtime.phoenix.serializer import V2_SERIALIZER
from tests.phoenix.client import Client, client_frame, start_endpoint
from tests.phoenix.client import reply as phx_reply
from tests.phoenix.room import HEARTBEAT, UserSocket, channel_of, join, joined


def test_at_most_so_many_channels(play: Any) -> None:
    async def body() -> None:
        options = WebSocketOptions(max_channels_per_transport=2)
        client = Client(await start_endpoint(), UserSocket, options=options)
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
        client = Client(endpoint, UserSocket, options=WebSocketOptions(join_timeout=200))
        client.send(join("room:slow"))
        assert await client.settle(90) == []
        assert await client.settle(300) == [
            phx_reply("1", "1", "room:slow", {"reason": "join timed out"}, "error")
        ]
        assert (await dynamic_supervisor.count_children(endpoint.channels))["active"] == 0

    play(body)


def test_too_many_messages_a_second(play: Any) -> None:
    async def body() -> None:
        client = Client(
            await start_endpoint(), UserSocket, options=WebSocketOptions(max_messages_per_second=5)
        )
        client.send(*[HEARTBEAT] * 5)
        assert len(await client.settle(2000)) == 5
        assert len(await client.ask(*[HEARTBEAT] * 4)) == 4
        got = await client.ask(*[HEARTBEAT] * 20)
        assert got[-1] == ("close", 1008) and len(got) <= 7

    play(body)


@pytest.mark.parametrize(
    "frames",
    [
        client_frame(9, b"") * 20,
        client_frame(10, b"") * 20,
        client_frame(1, b"[", 0) + client_frame(0, b"1,", 0) * 20,
    ],
    ids=["pings", "pongs", "small fragments"],
)
def test_what_carries_no_message_counts_as_one(play: Any, frames: bytes) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        bounded = Client(endpoint, UserSocket, options=WebSocketOptions(max_messages_per_second=5))
        free = Client(endpoint, UserSocket)
        bounded.send_bytes(frames)
        free.send_bytes(frames)
        assert (await bounded.settle())[-1] == ("close", 1008)
        assert not free.io.closed

    play(body)


def test_fragments_of_a_large_message_are_one_message(play: Any) -> None:
    async def body() -> None:
        client = Client(
            await start_endpoint(), UserSocket, options=WebSocketOptions(max_messages_per_second=5)
        )
        client.send_bytes(client_frame(1, b" " * 2000, 0) + client_frame(0, b" " * 2000, 0) * 20)
        client.send_bytes(client_frame(0, orjson.dumps(HEARTBEAT)))
        assert len(await client.settle()) == 1 and not client.io.closed

    play(body)


def test_a_flood_has_a_bound_that_a_busy_client_does_not_meet(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        busy, wild = Client(endpoint, UserSocket), Client(endpoint, UserSocket)
        busy.send_bytes(client_frame(1, orjson.dumps(HEARTBEAT)) * 500)
        wild.send_bytes(client_frame(1, orjson.dumps(HEARTBEAT)) * 3000)
        answered: list[Any] = []
        while len(answered) < 500:
            answered += await busy.settle()
        assert len(answered) == 500 and not busy.io.closed
        answers: list[Any] = []
        while not wild.io.closed:
            answers += await wild.settle()
        answers += wild.take()
        assert answers[-1] == ("close", 1008) and len(answers) <= 2 * MESSAGES_PER_SECOND + 1

    play(body)


def test_what_a_few_bytes_inflate_to_has_a_bound_of_its_own(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        compressor = zlib.compressobj(9, wbits=-15)
        text = orjson.dumps(HEARTBEAT) + b" " * 1_000_000
        packed = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
        options = WebSocketOptions(max_inflate_ratio=None)
        large = Client(endpoint, UserSocket, deflate=negotiate(["permessage-deflate"]), options=options)
        large.send_bytes(client_frame(1, packed[:-4], 0xC0))
        answers: list[Any] = []
        while not large.io.closed:
            answers += await large.settle()
        assert answers + large.take() == [("close", 1009)]
        plain = Client(endpoint, UserSocket, options=WebSocketOptions(max_message_size=2_000_000))
        plain.send_bytes(client_frame(1, text))
        answered: list[Any] = []
        while not answered:  # a large message waits for its turn
            answered = await plain.settle()
        assert len(answered) == 1 and not plain.io.closed

    play(body)


def test_others_go_between_what_inflates_hugely(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        options = WebSocketOptions(max_inflate_ratio=None)
        large = Client(endpoint, UserSocket, deflate=negotiate(["permessage-deflate"]), options=options)
        other = Client(endpoint, UserSocket)
        compressor = zlib.compressobj(9, wbits=-15)
        text = orjson.dumps(HEARTBEAT) + b" " * 200_000
        read = b""
        for _ in range(20):
            packed = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
            read += client_frame(1, packed[:-4], 0xC0)
        order: list[str] = []
        large.connection.write = lambda _: order.append("large")
        other.connection.write = lambda _: order.append("other")
        await erlang.sleep(5)
        large.send_bytes(read)
        other.send(HEARTBEAT)
        while len(order) < 21:
            await erlang.sleep(5)
        assert sorted(order) == ["large"] * 20 + ["other"]
        assert order.index("other") < 10

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
        options = WebSocketOptions(timeout=1200)
        silent, alive = await joined(endpoint, options=options), await joined(endpoint, options=options)
        other = await joined(endpoint, options=WebSocketOptions(timeout=None))
        for _ in range(6):
            alive.send_bytes(client_frame(9, b"x")[:1] if _ == 0 else client_frame(10, b""))
            if _ == 0:
                alive.send_bytes(client_frame(9, b"x")[1:2] + b"\0\0\0\0x")
            endpoint.broadcast("room:a", "news", {})
            await erlang.sleep(300)
        assert silent.take()[-1] == ("close", 1002)
        assert not alive.io.closed and not other.io.closed
        await erlang.sleep(1500)
        assert alive.io.closed and not other.io.closed

    play(body)


def test_a_join_longer_than_the_timeout_is_no_silence(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket, options=WebSocketOptions(timeout=250))
        client.send(join("room:slow"))  # takes 300 ms
        while not (got := await client.settle(10)):
            pass
        assert got == [phx_reply("1", "1", "room:slow", {"user": "ann"})]
        assert await client.settle(1000) == [("close", 1002)]

    play(body)


def test_a_poll_that_got_an_answer_keeps_its_session(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        socket = UserSocket(endpoint, V2_SERIALIZER, 100, None)
        session = LongPollSession(socket, LongPollOptions(window_ms=400))
        pid = drainer.whereis(endpoint.sockets).open(session)
        await erlang.sleep(200)
        erlang.spawn(gen_server.call, pid, Poll())
        await erlang.sleep(900)
        session.push(Frame(TEXT, b"{}"))
        await erlang.sleep(300)  # past the look at 1200 ms
        assert erlang.is_process_alive(pid) and session.buffer == []
        await erlang.sleep(600)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_drain_tells_channels_and_closes_in_batches(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        endpoint.subscribe("ends", erlang.self_())
        clients = [await joined(endpoint, "room:observed") for _ in range(6)]
        lonely = Client(endpoint, UserSocket)
        started = erlang.monotonic_time()
        assert await drain(endpoint.sockets, batch_size=3, batch_interval=90) == 7
        assert erlang.monotonic_time() - started >= 150
        assert [client.take() for client in clients] == [[("close", 1012)]] * 6
        assert lonely.take() == [("close", 1000)]
        for _ in clients:
            told = await erlang.receive(lambda m: isinstance(m, Broadcast), 10_000)
            assert told.payload["reason"] == ("shutdown", "draining")

    play(body)


def test_drain_does_not_wait_for_those_who_come_back(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        await joined(endpoint, "room:a")
        back: list[Client] = []

        async def come_back() -> None:
            await erlang.sleep(3)
            back.append(Client(endpoint, UserSocket))

        erlang.spawn(come_back)
        started = erlang.monotonic_time()
        assert await drain(endpoint.sockets, batch_size=1, batch_interval=10) == 1
        assert erlang.monotonic_time() - started < 10_000
        assert await back[0].settle() == [("close", 1000)]

    play(body)


def test_the_keeper_of_the_sockets_takes_them_along(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        client, lonely = await joined(endpoint), Client(endpoint, UserSocket)
        await erlang.sleep(1)
        erlang.exit(erlang.whereis(endpoint.sockets), "kill")
        assert await client.settle() == [("close", 1012)]
        assert await lonely.settle() == [("close", 1000)]

    play(body)


def test_a_client_that_has_gone_gets_no_more_bytes(play: Any) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket, user="u")
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
        client = Client(endpoint, UserSocket, options=WebSocketOptions(timeout=50), user="u")
        keeper._sweep(keeper._myRef.engine.now())
        assert await client.ask([None, "1", "phoenix", "heartbeat", {}]) == [
            phx_reply(None, "1", "phoenix", {})
        ]

    play(body)
