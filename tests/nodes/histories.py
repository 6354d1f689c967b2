"""What may happen to five nodes that run pg, global, links and a tracker, and what must hold afterwards.

`python -m tests.nodes.histories [N]` plays N histories of each kind twice (1,000, if not given), with the seeds from 0: no
invariant may break, and the same seed must send the same frames, byte for byte.
"""

from __future__ import annotations

import logging
import sys
import time
from random import Random
from typing import Any

from runtime.core import engine as engines
from runtime.core.pid import Pid
from runtime.nodes import global_names, pg
from runtime.otp import erlang
from runtime.phoenix import tracker_pool
from runtime.phoenix.pg2 import NodesPubSub
from runtime.phoenix.tracker import Tracker
from runtime.phoenix.tracker_pool import TrackerPool
from runtime.phoenix.tracker_shard import Options
from runtime.testing.cluster import ClusterMember
from runtime.testing.cluster_histories import ClusterHistory, Event, explore

KEYS = ("x", "y")
TOPICS = ("room", "hall")
RESOLVERS = ("random_notify_name", "notify_all_name", "none")
OPTIONS = Options(
    max_silent_periods=2, down_period=12_000, permdown_period=60_000, max_delta_sizes=(2, 5, 10), pool_size=2
)


class Members(ClusterHistory):
    """Each node runs pg, global and a process of the registered name `member`, which does what it is sent.

    Messages: none comes twice, or before one that the same node sent earlier. A link has two ends or none. Groups and names are
    the same on all nodes in the end.
    """

    def __init__(self, seed: int) -> None:
        self.sent = 0
        super().__init__(seed)

    def prepare(self, member: ClusterMember) -> None:
        member.spawn(self._member, member.name, name="member")

    async def _member(self, name: str) -> None:
        erlang.trap_exit(True)
        await global_names.start_link()
        await pg.start("s")
        while True:
            match await erlang.receive():
                case ("do", function, args):
                    result = function(*args)
                    if hasattr(result, "__await__"):
                        await result
                case ("number", sender, number):
                    self.log.append((name, sender, number))

    @classmethod
    def choose(cls, random: Random) -> Event:
        if random.random() < 0.4:
            return super().choose(random)
        one, other = random.sample(cls.nodes, 2)
        match random.choice(
            ("send", "send", "send", "join", "leave", "register", "unregister", "link", "unlink")
        ):
            case "send" | "link" | "unlink" as what:
                return what, one, other
            case "register":
                return "register", one, random.choice(KEYS), random.choice(RESOLVERS)
            case what:
                return what, one, random.choice(KEYS)

    def perform(self, event: Event) -> None:
        match event:
            case ("send", one, other):
                self.sent += 1
                self.do(one, lambda number=self.sent: erlang.send(("member", other), ("number", one, number)))
            case ("join", one, group):
                self.do(one, lambda: pg.join("s", group, erlang.self_()))
            case ("leave", one, group):
                self.do(one, lambda: pg.leave("s", group, erlang.self_()))
            case ("register", one, name, resolver):
                self.do(one, lambda: global_names.register_name(name, erlang.self_(), resolver))
            case ("unregister", one, name):
                self.do(one, global_names.unregister_name, name)
            case ("link" | "unlink" as what, one, other) if other in self.cluster.members:
                self.do(one, erlang.link if what == "link" else erlang.unlink, self.seen_from(one, other))
            case _:
                super().perform(event)

    def do(self, node: str, function: Any, *args: Any) -> None:
        """Lets the node's process call a function."""
        if node in self.cluster.members:
            self.cluster[node].engine.names["member"].deliver(("do", function, args))
            self.cluster.run()

    def seen_from(self, one: str, other: str) -> Pid:
        """The pid of a node's process, as another node has it."""
        there = self.cluster[other]
        member = there.engine.names["member"]
        if one not in self.cluster.members:
            return member
        return self.cluster[one].node.pid_named(other, there.node.creation, member.id)

    def check(self) -> None:
        views: list[Any] = []
        for one in self.nodes:
            member = self.cluster[one]
            assert member.node.nodes() == [other for other in self.nodes if other != one], one
            engines.set_default(member.engine)
            groups = {group: sorted(home(pid) for pid in pg.get_members("s", group)) for group in KEYS}
            names = {name: home(global_names.whereis_name(name)) for name in global_names.registered_names()}
            assert all(groups[group].count(one) == len(pg.get_local_members("s", group)) for group in KEYS)
            views.append((groups, names))
        assert all(view == views[0] for view in views), views
        assert "nobody" not in views[0][1].values()
        ends = {
            (one, home(other))
            for one in self.nodes
            for other in self.cluster[one].engine.names["member"].relations.links
            if home(other) != one
        }
        assert ends == {(other, one) for one, other in ends}, "a link with one end"
        for receiver in self.nodes:
            for sender in self.nodes:
                numbers = [n for to, by, n in self.log if (to, by) == (receiver, sender)]
                assert numbers == sorted(set(numbers)), (receiver, sender, numbers)


def home(pid: Pid | None) -> str:
    """The node of a process."""
    if pid is None:
        return "nobody"
    return getattr(pid, "node_name", None) or pid.cell.engine.node_name


class Reporting(Tracker):
    """Keeps what has been reported and is there, and how much was reported at all. No leave may come without its join."""

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        super().init(pubsub, options, **more)
        self.there: dict[Any, str] = {}
        self.reports = 0

    def handle_diff(self, diff: Any) -> None:
        self.reports += 1
        for joins, leaves in diff.values():
            for entry in leaves:
                assert self.there.pop((entry.replica, entry.clock), None) is not None, (
                    "a leave without a join"
                )
            for entry in joins:
                self.there[entry.replica, entry.clock] = entry.meta["n"]


class Trackers(ClusterHistory):
    """Each node runs a tracker. In the end all list what is there, have reported just that, and report nothing more."""

    nodes = ("a", "b", "c", "d", "e")

    def __init__(self, seed: int) -> None:
        self.count = 0
        self.own: dict[str, list[tuple[Pid, str, str, int]]] = {}  # pid, topic, key, number of the meta
        super().__init__(seed)

    def prepare(self, member: ClusterMember) -> None:
        self.own[member.name] = []

        async def body() -> None:
            await NodesPubSub.start(name="pubsub")
            await Reporting.start("pubsub", OPTIONS, name="tracker")

        member.spawn(body)
        while "tracker" not in member.engine.names:
            assert member.engine.step()

    @classmethod
    def choose(cls, random: Random) -> Event:
        if random.random() < 0.5:
            return super().choose(random)
        what, one = (
            random.choice(("track", "track", "update", "untrack", "end", "restart")),
            random.choice(cls.nodes),
        )
        match what:
            case "track":
                return "track", one, random.choice(TOPICS), random.choice(KEYS)
            case "restart" if random.random() < 0.7:
                return "wait", random.choice(cls.waits)
            case "restart":
                return "restart", one
            case _:
                return what, one, random.randrange(4)

    def perform(self, event: Event) -> None:
        match event:
            case ("track", one, topic, key) if one in self.cluster.members:
                self.count += 1
                pid = self.cluster[one].spawn(idle)
                self.tracker(one).track(pid, topic, key, {"n": self.count})
                self.own[one].append((pid, topic, key, self.count))
            case ("update", one, index) if index < len(self.living(one)):
                self.count += 1
                pid, topic, key, _ = self.own[one][index]
                self.tracker(one).update(pid, topic, key, {"n": self.count})
                self.own[one][index] = pid, topic, key, self.count
            case ("untrack", one, index) if index < len(self.living(one)):
                self.tracker(one).untrack(*self.own[one].pop(index)[:3])
            case ("end", one, index) if index < len(self.living(one)):
                pid = self.own[one].pop(index)[0]
                pid.cell.exit_signal(pid, "kill", False)
            # A shard crashes, and those it tracks with it.
            case ("restart", one) if one in self.cluster.members:
                shard = self.tracker(one).shard(TOPICS[0])
                self.own[one] = [own for own in self.own[one] if self.tracker(one).shard(own[1]) is not shard]
                shard.pid.cell.exit_signal(shard.pid, "kill", False)
                self.cluster.advance(1_001)  # more often its supervisor gives up
            case _:
                super().perform(event)
        self.cluster.run()

    def living(self, node: str) -> list[Any]:
        """Who is present by this node."""
        return self.own[node] if node in self.cluster.members else []

    def tracker(self, node: str) -> TrackerPool:
        """The tracker of a node, to be used at once."""
        engines.set_default(self.cluster[node].engine)
        return tracker_pool.whereis("tracker")

    def check(self) -> None:
        expected = sorted(number for node in self.nodes for *_, number in self.own[node])
        for node in self.nodes:
            pool = self.tracker(node)
            for listing in (pool.list, pool.dirty_list):
                listed = sorted(meta["n"] for topic in TOPICS for _, meta in listing(topic))
                assert listed == expected, (node, listing.__name__, listed, expected)
            told = sorted(number for shard in self.shards(pool) for number in shard.there.values())
            assert told == expected, (node, "reported", told, expected)
        before = [shard.reports for node in self.nodes for shard in self.shards(self.tracker(node))]
        self.cluster.advance(30 * OPTIONS.broadcast_period)
        after = [shard.reports for node in self.nodes for shard in self.shards(self.tracker(node))]
        assert before == after, "it flaps"

    def shards(self, pool: TrackerPool) -> list[Reporting]:
        """The shards of a node's tracker."""
        return pool.shards()  # type: ignore[return-value]


async def idle() -> None:
    """A process that is there."""
    await erlang.receive()


KINDS: tuple[type[ClusterHistory], ...] = (Members, Trackers)


def main(histories: int) -> None:
    """The command."""
    logging.disable(logging.CRITICAL)  # crashes are what histories are made of
    for kind in KINDS:
        started = time.process_time()
        first = explore(kind, histories)
        second = explore(kind, histories)
        assert first == second, [seed for seed in range(histories) if first[seed] != second[seed]]
        spent = time.process_time() - started
        print(
            f"{kind.__name__}: {histories} histories, each twice: the same, no invariant broken ({spent:.0f} s of CPU)",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
