"""Telemetry spans: start, stop and exception of one piece of work, and nothing where nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.core import telemetry
from runtime.core.exits import Exit
from runtime.otp import gen_server
from runtime.otp.gen_server import GenServer, Reply, Stop
from runtime.testing.simulation import Simulation

WORK = telemetry.Span("test", "work")


@pytest.fixture
def seen() -> Iterator[list[tuple[Any, ...]]]:
    """What is executed of the test's span and of calls."""
    events: list[tuple[Any, ...]] = []
    for name in (("test", "work"), ("gen", "call")):
        for at in ("start", "stop", "exception"):
            telemetry.attach("seen", (*name, at), lambda *event: events.append(event))
    yield events
    telemetry.detach("seen")


def test_a_span_is_active_while_anybody_listens_to_any_of_its_events() -> None:
    assert not WORK.active
    telemetry.attach("one", ("test", "work", "stop"), print)
    telemetry.attach("two", ("test", "work", "exception"), print)
    telemetry.detach("one")
    assert WORK.active
    telemetry.detach("two")
    assert not WORK.active


def test_a_span_made_later_finds_who_listens_already() -> None:
    telemetry.attach("early", ("test", "later", "start"), print)
    assert telemetry.Span("test", "later").active
    telemetry.detach("early")


def test_the_events_of_one_piece_of_work_share_its_span(seen: list[tuple[Any, ...]]) -> None:
    running = WORK.start({"who": "me"}, {"size": 3})
    running.stop(result="done")
    (start, size, about), (stop, took, ended) = seen
    assert (start, stop) == (("test", "work", "start"), ("test", "work", "stop"))
    assert size == {"size": 3} and took["duration"] >= 0
    assert about["span"] is ended["span"] is running
    assert "result" not in about and (ended["who"], ended["result"]) == ("me", "done")


class Server(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return Stop("tired") if request == "stop" else Reply(request)


def test_a_call_is_a_span_from_its_wait_to_its_end(seen: list[tuple[Any, ...]]) -> None:
    with Simulation() as sim:
        server = sim.start(Server, name="echo")

        async def main() -> None:
            assert await gen_server.call(server, "hello") == "hello"
            with pytest.raises(Exit):
                await gen_server.call(server, "stop")

        sim.complete(main())
    calls = [(event[-1], about["server"], about["request"]) for event, _m, about in seen]
    assert calls == [
        ("start", "echo", "hello"), ("stop", "echo", "hello"), ("start", "echo", "stop"), ("exception", "echo", "stop"),
    ]  # fmt: skip
    assert seen[0][2]["caller"] is None and seen[0][2]["from"] is seen[1][2]["from"]
