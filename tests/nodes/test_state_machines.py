"""Histories of a cluster that hypothesis chooses, and shortens when one fails: links, pg, global and trackers.

What fails is printed as the shortest list of rules that still fails. After each history all is mended, and then what
`tests.nodes.histories` says must hold.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runtime.testing.cluster_histories import ClusterHistory
from tests.nodes.histories import KEYS, RESOLVERS, TOPICS, Members, Trackers

NODE = st.sampled_from(ClusterHistory.nodes)
KEY = st.sampled_from(KEYS)
TOPIC = st.sampled_from(TOPICS)
INDEX = st.integers(0, 3)


class ClusterMachine(RuleBasedStateMachine):
    """What can happen to the network and to whole nodes."""

    kind: ClassVar[type[ClusterHistory]]
    history: ClusterHistory

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.history = self.kind(seed)
        self.history.connect_all()

    @rule(what=st.sampled_from(("cut", "heal", "connect")), one=NODE, other=NODE)
    def connection(self, what: str, one: str, other: str) -> None:
        if one != other:
            self.history.perform((what, one, other))

    @rule(one=NODE, other=NODE, silent=st.booleans())
    def silence(self, one: str, other: str, silent: bool) -> None:
        if one != other:
            self.history.perform(("silence", one, other, silent))

    @rule(one=NODE, other=NODE, most_ms=st.sampled_from((0, 5, 2_000)))
    def delay(self, one: str, other: str, most_ms: int) -> None:
        if one != other:
            self.history.perform(("delay", one, other, most_ms))

    @rule(what=st.sampled_from(("crash", "start")), one=NODE)
    def node(self, what: str, one: str) -> None:
        self.history.perform((what, one))

    @rule(ms=st.sampled_from((10, 1_000, 20_000, 90_000)))
    def wait(self, ms: int) -> None:
        self.history.perform(("wait", ms))

    def teardown(self) -> None:
        if hasattr(self, "history"):
            with self.history.cluster:
                self.history.calm()
                self.history.check()


class MembersMachine(ClusterMachine):
    """Messages, links, groups and names."""

    kind = Members

    @rule(what=st.sampled_from(("send", "link", "unlink")), one=NODE, other=NODE)
    def between(self, what: str, one: str, other: str) -> None:
        if one != other:
            self.history.perform((what, one, other))

    @rule(what=st.sampled_from(("join", "leave", "unregister")), one=NODE, key=KEY)
    def own(self, what: str, one: str, key: str) -> None:
        self.history.perform((what, one, key))

    @rule(one=NODE, name=KEY, resolver=st.sampled_from(RESOLVERS))
    def register(self, one: str, name: str, resolver: str) -> None:
        self.history.perform(("register", one, name, resolver))


class TrackersMachine(ClusterMachine):
    """Presences that come, change and go, and shards that crash."""

    kind = Trackers

    @rule(one=NODE, topic=TOPIC, key=KEY)
    def track(self, one: str, topic: str, key: str) -> None:
        self.history.perform(("track", one, topic, key))

    @rule(what=st.sampled_from(("update", "untrack", "end")), one=NODE, index=INDEX)
    def change(self, what: str, one: str, index: int) -> None:
        self.history.perform((what, one, index))

    @rule(one=NODE)
    def restart(self, one: str) -> None:
        self.history.perform(("restart", one))


def settled(machine: Any, examples: int) -> Any:
    """The test of a machine."""
    test = machine.TestCase
    test.settings = settings(max_examples=examples, stateful_step_count=25, deadline=None)
    return test


TestMembers = settled(MembersMachine, 50)
TestTrackers = settled(TrackersMachine, 20)
