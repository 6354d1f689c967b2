"""Several replicas of a tracker under one clock and a network that a test cuts, for the tests of Phoenix.Tracker."""

from __future__ import annotations

from typing import Any

from runtime.phoenix.tracker_shard import Diff, Options, Output, Sent, Shard
from runtime.phoenix.tracker_state import Replica, TrackerEntry

Event = tuple[str, str, Any, Any]  # what, topic, key, pid


class Node:
    """One replica, what it has reported, and when it ticks."""

    def __init__(self, name: str, vsn: int, options: Options, offset: float) -> None:
        self.shard = Shard(name, vsn, options)
        self.name = name
        self.next_tick = offset
        self.reported: list[Diff] = []
        self.seen: dict[tuple[Replica, int], TrackerEntry] = {}

    def report(self, diff: Diff) -> None:
        self.reported.append(diff)
        for joins, leaves in diff.values():
            for entry in leaves:
                assert (entry.replica, entry.clock) in self.seen, (
                    f"{self.name}: a leave without a join: {entry}"
                )
                del self.seen[entry.replica, entry.clock]
            for entry in joins:
                self.seen[entry.replica, entry.clock] = entry

    def events(self) -> list[Event]:
        """What was reported since the last time, flat, leaves before joins of one diff."""
        found: list[Event] = []
        for diff in self.reported:
            for topic, (joins, leaves) in diff.items():
                found += [("leave", topic, entry.key, entry.pid) for entry in leaves]
                found += [("join", topic, entry.key, entry.pid) for entry in joins]
        self.reported.clear()
        return found

    # ---- what a tracker process does

    def track(self, pid: str, topic: str = "room", key: str = "key", **meta: Any) -> TrackerEntry:
        entry = self.shard.state.join(pid, topic, key, meta)
        self.report({topic: ([entry], [])})
        return entry

    def untrack(self, entry: TrackerEntry) -> None:
        self.shard.state.leave(entry)
        self.report({entry.topic: ([], [entry])})

    def update(self, entry: TrackerEntry, **meta: Any) -> TrackerEntry:
        new = self.shard.state.update(entry, meta)
        self.report({entry.topic: ([new], [entry])})
        return new

    def present(self, topic: str = "room", with_down: bool = False) -> list[tuple[Any, Any]]:
        return sorted((entry.pid, entry.key) for entry in self.shard.state.entries(topic, with_down))


class Network:
    """Nodes whose messages arrive `delay` ms later, unless the way from one to the other is cut when they are sent."""

    def __init__(self, options: Options | None = None, delay: float = 1.0) -> None:
        self.options = options or Options()
        self.delay = delay
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.cut: set[tuple[str, str]] = set()
        self.sent: list[tuple[float, str, str | None, Sent]] = []  # everything, for tests to look at
        self._flying: list[tuple[float, int, str, str, Sent]] = []
        self._starts = 0

    def start(self, name: str, offset: float | None = None) -> Node:
        """A new incarnation of a node."""
        self._starts += 1
        first = self.now + (self._starts * 7 % 300 if offset is None else offset)
        node = self.nodes[name] = Node(name, self._starts, self.options, first)
        return node

    def kill(self, name: str) -> None:
        del self.nodes[name]

    def split(self, one: str, other: str) -> None:
        self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cut.clear()

    def put_out(self, node: Node, output: Output) -> None:
        for diff in output.diffs:
            node.report(diff)
        for to, message in output.sent:
            self.sent.append((self.now, node.name, to, message))
            for name in self.nodes if to is None else [to]:
                if name != node.name and (node.name, name) not in self.cut:
                    self._flying.append((self.now + self.delay, len(self.sent), node.name, name, message))

    def run(self, ms: float) -> None:
        """Lets time pass."""
        until = self.now + ms
        while True:
            arrivals = [flying[0] for flying in self._flying]
            ticks = [node.next_tick for node in self.nodes.values()]
            due = min(arrivals + ticks, default=until + 1)
            if due > until:
                break
            self.now = max(self.now, due)
            arrived = sorted((f for f in self._flying if f[0] <= self.now), key=lambda f: (f[0], f[1]))
            self._flying = [f for f in self._flying if f[0] > self.now]
            for _at, _number, _from, to, message in arrived:
                if (node := self.nodes.get(to)) is not None:
                    self.put_out(node, node.shard.receive(message, self.now))
            for node in list(self.nodes.values()):
                if node.next_tick <= self.now:
                    node.next_tick += self.options.broadcast_period
                    self.put_out(node, node.shard.tick(self.now))
        self.now = until

    def settle(self) -> None:
        """As long as it takes from the last fault until everybody knows everything."""
        options = self.options
        rounds = options.max_silent_periods + 2 + 4 * options.clock_sample_periods
        self.run(2 * (options.silence + options.broadcast_period) + rounds * options.broadcast_period)
