"""The observer's feed: what operators are told, how a storm of crashes is held together, and what observing costs."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from actors.instruments import instruments
from actors.observer import MAX_REPORTS, TOPIC, Observer
from runtime.core import telemetry
from runtime.otp import erlang, gen_server
from runtime.otp.dynamic_supervisor import DynamicSupervisor, start_child
from runtime.otp.gen_server import GenServer, start_actor
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pubsub import PubSub
from runtime.testing.deterministic_engine import DeterministicEngine


class Worker(GenServer):
    """Crashes when told to."""

    def handle_cast(self, request: Any) -> Any:
        raise RuntimeError("told to")


class Setup:
    """A tree with an observer, and a subscriber that keeps what it is told."""

    def __init__(self, children: int = 0) -> None:
        self.engine = DeterministicEngine(seed=3)
        self.heard: list[Broadcast] = []

        async def root() -> None:
            specs = [
                ChildSpec("pubsub", (lambda: PubSub.start_link(name="pubsub"), ())),
                ChildSpec("worker", (lambda: Worker.start_link(name="worker"), ())),
                ChildSpec(
                    "channels", (lambda: DynamicSupervisor.start_link(name="channels"), ()), type="supervisor"
                ),
                ChildSpec("observer", (lambda: start_actor(Observer(), (), link=True, name="observer"), ())),
            ]
            await Supervisor.start_link(specs, intensity=1000, name="root")
            for _ in range(children):
                await start_child("channels", ChildSpec(None, (Worker.start_link, ()), restart="temporary"))
            await erlang.receive()

        self.engine.spawn(root)
        self.engine.run()

    def watch(self) -> None:
        """Somebody opens the console."""

        async def console() -> None:
            PubSub.subscribe(erlang.whereis("pubsub").cell.actor, TOPIC)  # type: ignore[union-attr]
            while True:
                self.heard.append(await erlang.receive())

        self.engine.spawn(console)
        self.engine.run()

    def told(self, event: str) -> list[Any]:
        """The payloads of an event."""
        return [one.payload for one in self.heard if one.event == event]


@pytest.fixture
def setup() -> Any:
    made: list[Setup] = []

    def make(children: int = 0) -> Setup:
        made.append(Setup(children))
        return made[-1]

    yield make
    for one in made:
        instruments().close()
        one.engine.close()


def test_a_crash_is_told_within_a_tenth_of_a_second(setup: Any) -> None:
    one = setup()
    one.watch()
    one.engine.advance(1500)
    assert len(one.told("stats")) == 1 and len(one.told("tree")) == 1
    gen_server.cast("worker", "crash")
    one.engine.advance(100)
    kinds = [report["kind"] for report in one.told("report")]
    assert sorted(kinds) == ["crash", "supervisor"]
    worker = next(node for node in one.told("tree")[-1]["children"] if node["name"] == "worker")
    assert worker["restarts"] == 1
    assert len(one.told("tree")) == 2


def test_an_unchanged_tree_is_not_told_again(setup: Any) -> None:
    one = setup()
    one.watch()
    one.engine.advance(10_000)
    assert len(one.told("tree")) == 1 and 9 <= len(one.told("stats")) <= 10


def test_nobody_there_nothing_is_built(setup: Any) -> None:
    one = setup()
    gen_server.cast("worker", "crash")
    one.engine.advance(5000)
    assert one.heard == [] and len(instruments().samples) == 5
    assert [entry.report.kind for entry in instruments().reports.last()].count("crash") == 1


def test_a_storm_of_crashes_is_held_together(setup: Any) -> None:
    one = setup(children=300)
    one.watch()
    one.engine.advance(1100)
    for pid in erlang.whereis("channels").cell.actor.children:  # type: ignore[union-attr]
        gen_server.cast(pid, "crash")
    one.engine.advance(200)
    assert len(one.told("report")) <= 2 * MAX_REPORTS
    assert sum(missed["reports"] for missed in one.told("missed")) >= 600 - 2 * MAX_REPORTS
    assert len(one.told("tree")) <= 4


def test_the_log_outlives_the_observer(setup: Any) -> None:
    one = setup()
    gen_server.cast("worker", "crash")
    one.engine.advance(1000)
    erlang.exit(erlang.whereis("observer"), "kill")  # type: ignore[arg-type]
    one.engine.advance(3000)
    assert erlang.whereis("observer") is not None
    assert any(entry.report.name == "worker" for entry in instruments().reports.last())
    assert len(instruments().reports.listeners) == 1


def test_observing_costs_less_than_two_percent(setup: Any) -> None:
    """10,000 channel actors, 2,000 transactions a minute, a console open: CPU of observing alone, over ten seconds."""
    one = setup(children=10_000)
    one.watch()
    one.engine.advance(2000)
    seconds = 10
    began = process_time()
    for _ in range(seconds):
        for _ in range(2000 // 60 + 1):
            telemetry.execute(
                ("http", "request", "stop"),
                {"duration": 0.002},
                {"method": "POST", "route": "/api/v1/transactions", "status": 201},
            )
            telemetry.execute(("db_writer", "batch"), {"rows": 1, "duration": 0.001, "seq": 1}, {})
            telemetry.execute(
                ("phoenix", "broadcast"),
                {"deliveries": 1},
                {"topic": "transaction:x", "event": "new_transaction"},
            )
        one.engine.advance(1000)
    share = (process_time() - began) / seconds
    assert len(one.told("stats")) >= seconds
    print(f"observing: {share:.2%} of one CPU")
    assert share < 0.02, f"{share:.2%} of one CPU"
