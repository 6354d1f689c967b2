"""The timing wheel against a list of moments."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.otp import erlang
from runtime.phoenix import WebSocketOptions
from runtime.phoenix.timing_wheel import TimingWheel
from runtime.testing.simulation import play
from tests.phoenix.client import Client, start_endpoint
from tests.phoenix.room import UserSocket

MOMENTS = st.floats(0, 100, allow_nan=False)
TICKS = st.sampled_from([0.01, 0.5, 1.0, 2.0])


@given(
    st.dictionaries(st.integers(), st.tuples(MOMENTS, TICKS), max_size=40),
    st.sets(st.integers(0, 39)),
    st.lists(MOMENTS, max_size=8),
)
def test_what_is_due_is_taken_once_and_within_a_tick(
    entries: dict[int, tuple[float, float]], removed: set[int], looks: list[float]
) -> None:
    wheel: TimingWheel[int] = TimingWheel()
    slots = {entry: wheel.put(entry, due, tick) for entry, (due, tick) in entries.items()}
    waiting = dict(entries)
    for index, entry in enumerate(entries):
        if index in removed:
            wheel.remove(entry, slots[entry])
            wheel.remove(entry, slots[entry])
            del waiting[entry]
    for now in sorted(looks):
        taken = wheel.take(now)
        assert len(taken) == len(set(taken))
        assert all(waiting[entry][0] <= now for entry in taken), "nothing is taken before it is due"
        for entry in taken:
            del waiting[entry]
        assert all(due + tick >= now for due, tick in waiting.values()), "nothing is late by more than a tick"
    assert sorted(wheel.take(200.0)) == sorted(waiting)


class Watched(TimingWheel[Any]):
    """Keeps what it has handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def take(self, now: float) -> list[Any]:
        found = super().take(now)
        self.taken += found
        return found


def test_only_those_who_may_be_late_are_looked_at() -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        keeper = erlang.whereis(endpoint.sockets).cell.actor
        wheel = keeper._silent = Watched()
        options = WebSocketOptions(timeout=1_000)
        clients = [Client(endpoint, UserSocket, options=options, user="u") for _ in range(20)]
        for _ in range(9):
            await erlang.sleep(100)
            for client in clients:
                client.send([None, "1", "phoenix", "heartbeat", {}])
        assert wheel.taken == []
        while not all(client.io.closed for client in clients):
            await erlang.sleep(10)
        assert len(wheel.taken) == 2 * len(clients), (
            "when the first timeout was over, and when they were silent"
        )
        assert 1_900 <= erlang.monotonic_time() <= 2_000
        assert keeper.format_status() == {"transports": 0, "closing": 0}

    play(body, seed=1)


def test_a_frame_is_watched_while_it_is_not_whole() -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        options = WebSocketOptions(frame_timeout=200)
        slow, next_one, ended = (Client(endpoint, UserSocket, options=options, user="u") for _ in range(3))
        keeper = erlang.whereis(endpoint.sockets).cell.actor
        await erlang.sleep(1)
        ping = b"\x89\x80abcd"
        for client in (slow, next_one, ended):
            client.send_bytes(ping[:3])
        await erlang.sleep(1)
        assert len(keeper._begun) == 3
        ended.connection.peer_closed()
        await erlang.sleep(98)
        assert ended.connection not in keeper._begun, "nothing stays of one that has gone"
        slow.send_bytes(ping[3:4])
        next_one.send_bytes(ping[3:] + ping[:2])
        await erlang.sleep(120)
        assert (slow.io.closed, next_one.io.closed) == (True, False), "its second frame has begun later"
        next_one.send_bytes(ping[2:])
        await erlang.sleep(500)
        assert not next_one.io.closed
        assert keeper._begun == {}

    play(body, seed=1)
