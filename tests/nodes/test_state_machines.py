"""Histories of a cluster that hypothesis chooses, and shortens when one fails: links, pg and global, on simulated nodes.

What fails is printed as the shortest list of rules that still fails. After each history all cuts are mended, and then everybody
must agree on the groups and on the names, and every link must have two ends.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runtime.core import engine as engines
from runtime.core.pid import Pid
from runtime.nodes import global_names, pg
from runtime.otp import erlang
from runtime.testing.cluster import Cluster, ClusterMember

NAMES = ("a", "b", "c", "d")
NODE = st.sampled_from(NAMES)
KEY = st.sampled_from(("x", "y"))


class Nodes(RuleBasedStateMachine):
    """Each node runs pg, global and a process of the registered name `member`, which does what it is sent."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.cluster = Cluster(seed, NAMES, on_start=self._prepare)
        self._connect_all()

    def _prepare(self, member: ClusterMember) -> None:
        member.spawn(self._member, name="member")

    async def _member(self) -> None:
        erlang.trap_exit(True)
        await global_names.start_link()
        await pg.start("s")
        while True:
            match await erlang.receive():
                case ("do", function, args):
                    result = function(*args)
                    if hasattr(result, "__await__"):
                        await result

    def _do(self, node: str, function: Any, *args: Any) -> None:
        """Lets the node's process call a function."""
        if node in self.cluster.members:
            self.cluster[node].engine.names["member"].deliver(("do", function, args))
            self.cluster.run()

    # ---- what may happen

    @rule(one=NODE, other=NODE)
    def cut(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.partition(one, other)
            self.cluster.run()

    @rule(one=NODE, other=NODE)
    def mend(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.heal(one, other)
            self._do(one, self._ping, other)

    @rule(one=NODE)
    def crash(self, one: str) -> None:
        if one in self.cluster.members and len(self.cluster.members) > 2:
            self.cluster.crash(one)
            self.cluster.run()

    @rule(one=NODE)
    def restart(self, one: str) -> None:
        if one not in self.cluster.members:
            self.cluster.start(one)
            self.cluster.run()

    @rule(one=NODE, group=KEY)
    def join(self, one: str, group: str) -> None:
        self._do(one, lambda: pg.join("s", group, erlang.self_()))

    @rule(one=NODE, group=KEY)
    def leave(self, one: str, group: str) -> None:
        self._do(one, lambda: pg.leave("s", group, erlang.self_()))

    @rule(one=NODE, name=KEY, resolver=st.sampled_from(("random_notify_name", "notify_all_name", "none")))
    def register(self, one: str, name: str, resolver: str) -> None:
        self._do(one, lambda: global_names.register_name(name, erlang.self_(), resolver))

    @rule(one=NODE, name=KEY)
    def unregister(self, one: str, name: str) -> None:
        self._do(one, global_names.unregister_name, name)

    @rule(one=NODE, other=NODE, linked=st.booleans())
    def link(self, one: str, other: str, linked: bool) -> None:
        if one != other and other in self.cluster.members:
            to = self._seen_from(one, other)
            self._do(one, erlang.link if linked else erlang.unlink, to)

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.cluster.advance(seconds * 1000)

    # ---- what must hold in the end

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        with self.cluster:
            for one in NAMES:
                self.restart(one)
                for other in NAMES:
                    self.cluster.heal(one, other)
            for _ in range(2):
                self.cluster.advance(100_000)
                self._connect_all()
            self._all_agree()
            self._links_have_two_ends()

    def _all_agree(self) -> None:
        views: list[Any] = []
        for one in NAMES:
            engines.set_default(self.cluster[one].engine)
            groups = {group: sorted(map(_home, pg.get_members("s", group))) for group in ("x", "y")}
            names = {name: _home(global_names.whereis_name(name)) for name in global_names.registered_names()}
            views.append((groups, names))
            local = {group: len(pg.get_local_members("s", group)) for group in ("x", "y")}
            assert all(groups[group].count(one) == local[group] for group in local)
        assert all(view == views[0] for view in views), views
        holders = list(views[0][1].values())
        assert "nobody" not in holders

    def _links_have_two_ends(self) -> None:
        ends = {
            (one, _home(other))
            for one in NAMES
            for other in self.cluster[one].engine.names["member"].relations.links
            if _home(other) != one
        }
        assert ends == {(other, one) for one, other in ends}

    # ---- helpers of the rules

    def _connect_all(self) -> None:
        for one in NAMES:
            for other in NAMES:
                if one != other:
                    self.cluster[one].node.connect(other)
        self.cluster.run()

    async def _ping(self, other: str) -> None:
        node = engines.current_engine().node
        assert node is not None
        await node.connect(other)

    def _seen_from(self, one: str, other: str) -> Pid:
        there = self.cluster[other]
        if one not in self.cluster.members:
            return there.engine.names["member"]
        number = there.engine.names["member"].id
        return self.cluster[one].node.pid_named(other, there.node.creation, number)


def _home(pid: Pid | None) -> str:
    if pid is None:
        return "nobody"
    return getattr(pid, "node_name", None) or pid.cell.execution.engine.node_name


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
