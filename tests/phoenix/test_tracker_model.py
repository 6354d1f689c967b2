"""Replicas of a tracker under random changes, cuts, kills and restarts: they converge, without ghosts and without flapping."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.phoenix.tracker_shard import Options
from runtime.phoenix.tracker_state import TrackerEntry
from tests.phoenix.replicas import Network

NAMES = ("a", "b", "c", "d")
OPTIONS = Options(
    broadcast_period=100,
    max_silent_periods=3,
    down_period=1_000,
    permdown_period=5_000,
    max_delta_sizes=(2, 5, 10),
)


class Replicas(RuleBasedStateMachine):
    """`own` is what each node that lives has tracked: what all are to know in the end."""

    @initialize(nodes=st.integers(2, 4), delay=st.sampled_from((0.0, 1.0, 30.0, 150.0)))
    def begin(self, nodes: int, delay: float) -> None:
        self.net = Network(OPTIONS, delay)
        self.own: dict[str, list[TrackerEntry]] = {}
        self.pids = 0
        for name in NAMES[:nodes]:
            self.start(name)

    def start(self, name: str) -> None:
        self.net.start(name)
        self.own[name] = []

    def pick(self, data: Any, living: bool = True) -> str | None:
        names = [name for name in self.own if (name in self.net.nodes) == living]
        return data.draw(st.sampled_from(names)) if names else None

    @rule(data=st.data(), topic=st.sampled_from(("room", "hall")), key=st.sampled_from(("x", "y")))
    def track(self, data: Any, topic: str, key: str) -> None:
        if (name := self.pick(data)) is not None:
            self.pids += 1
            self.own[name].append(self.net.nodes[name].track(f"{name}{self.pids}", topic, key))

    @rule(data=st.data())
    def untrack(self, data: Any) -> None:
        name = self.pick(data)
        if name is not None and self.own[name]:
            entry = data.draw(st.sampled_from(self.own[name]))
            self.own[name].remove(entry)
            self.net.nodes[name].untrack(entry)

    @rule(data=st.data())
    def update(self, data: Any) -> None:
        name = self.pick(data)
        if name is not None and self.own[name]:
            entry = data.draw(st.sampled_from(self.own[name]))
            self.own[name].remove(entry)
            self.own[name].append(self.net.nodes[name].update(entry, again=True))

    @rule(data=st.data(), ways=st.sampled_from(("in", "out", "both")), whole=st.booleans())
    def cut(self, data: Any, ways: str, whole: bool) -> None:
        names = sorted(self.own)
        one = data.draw(st.sampled_from(names))
        others = [name for name in names if name != one]
        for other in others if whole else [data.draw(st.sampled_from(others))]:
            if ways != "in":
                self.net.cut.add((one, other))
            if ways != "out":
                self.net.cut.add((other, one))

    @rule()
    def heal(self) -> None:
        self.net.heal()

    @rule(data=st.data())
    def kill(self, data: Any) -> None:
        if (name := self.pick(data)) is not None:
            self.net.kill(name)
            self.own[name] = []

    @rule(data=st.data())
    def restart(self, data: Any) -> None:
        if (name := self.pick(data, living=False)) is not None:
            self.start(name)

    @rule(data=st.data())
    def leave_for_good(self, data: Any) -> None:
        if (name := self.pick(data)) is not None:
            node = self.net.nodes[name]
            self.net.put_out(node, node.shard.permdown())
            self.net.kill(name)
            self.own[name] = []

    @rule(ms=st.sampled_from((10, 250, 1_500, 1_500, 7_000)))
    def wait(self, ms: int) -> None:
        self.net.run(ms)

    @precondition(lambda self: hasattr(self, "net"))
    @rule()
    def converge(self) -> None:
        self.net.heal()
        self.net.settle()
        there = {(entry.replica, entry.clock) for entries in self.own.values() for entry in entries}
        for node in self.net.nodes.values():
            state = node.shard.state
            listed = {(e.replica, e.clock) for topic in ("room", "hall") for e in state.entries(topic)}
            assert listed == there, f"{node.name} lists what it should not, or not all"
            assert set(node.seen) == there, f"{node.name} has reported something else than it lists"
            node.reported.clear()
        self.net.run(20 * OPTIONS.broadcast_period)
        for node in self.net.nodes.values():
            assert node.events() == [], f"{node.name} flaps"

    @invariant()
    def own_presences_are_safe(self) -> None:
        if hasattr(self, "net"):
            for name, node in self.net.nodes.items():
                own = [
                    e for t in ("room", "hall") for e in node.shard.state.entries(t) if e.replica[0] == name
                ]
                assert {(e.topic, e.pid, e.key) for e in own} == {
                    (e.topic, e.pid, e.key) for e in self.own[name]
                }

    def teardown(self) -> None:
        if hasattr(self, "net"):
            self.converge()


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
