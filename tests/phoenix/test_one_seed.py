"""One seed is one run, byte for byte: what is random for clients comes from the engine."""

from __future__ import annotations

from typing import Any

from runtime.otp import erlang
from runtime.phoenix import Accept, LongPollOptions, Socket, drainer
from runtime.phoenix.longpoll_server import LongPollSession
from runtime.phoenix.serializer import V2_SERIALIZER
from runtime.testing.simulation import play
from tests.phoenix.client import Client, start_endpoint


class Anyone(Socket):
    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        return Accept()


def run(seed: int) -> tuple[str, list[tuple[int, float]]]:
    """A longpoll session's token, and when each of ten sockets is drained."""

    async def body() -> tuple[str, list[tuple[int, float]]]:
        endpoint = await start_endpoint()
        token = LongPollSession(Anyone(endpoint, V2_SERIALIZER, 10, None), LongPollOptions()).token
        closed: list[tuple[int, float]] = []
        for number in range(10):
            client = Client(endpoint, Anyone)
            client.pid.cell.on_exit(
                lambda _pid, number=number: closed.append((number, erlang.monotonic_time()))
            )
        await drainer.drain(endpoint.sockets, batch_size=5, batch_interval=1000)
        return token, closed

    return play(body, seed=seed)


def test_tokens_and_drains_are_those_of_the_seed() -> None:
    token, closed = run(1)
    assert run(1) == (token, closed)
    other, others = run(2)
    assert other != token and others != closed and len(token) == 43
    assert sorted(number for number, _ in closed) == list(range(10))
