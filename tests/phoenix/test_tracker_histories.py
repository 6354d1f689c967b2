"""Seeded histories of five replicas of a tracker: partitions, one-way loss, kills and restarts; then all see the same."""

from __future__ import annotations

import random

import pytest

from runtime.phoenix.tracker_shard import Options
from runtime.phoenix.tracker_state import TrackerEntry
from tests.phoenix.replicas import Network

NAMES = ("a", "b", "c", "d", "e")
TOPICS = ("room", "hall")
OPTIONS = Options(
    broadcast_period=100,
    max_silent_periods=3,
    down_period=1_000,
    permdown_period=5_000,
    max_delta_sizes=(2, 5, 10),
)
WAITS = (10, 100, 300, 1_500, 6_500)


class History:
    """One history; the seed decides all of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.net = Network(OPTIONS, self.random.choice((0.0, 1.0, 40.0, 150.0)))
        self.own: dict[str, list[TrackerEntry]] = {}
        self.pids = 0
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> None:
        self.net.start(name, self.random.uniform(0, 25))
        self.own[name] = []

    def step(self) -> None:
        choose = self.random
        name = choose.choice(NAMES)
        node = self.net.nodes.get(name)
        mine = self.own[name]
        match choose.choices(
            ("track", "leave", "update", "cut", "heal", "end", "wait"), (6, 3, 3, 3, 1, 1, 6)
        )[0]:
            case "track" if node is not None:
                self.pids += 1
                mine.append(node.track(f"{name}{self.pids}", choose.choice(TOPICS), choose.choice("xy")))
            case "leave" if node is not None and mine:
                node.untrack(mine.pop(choose.randrange(len(mine))))
            case "update" if node is not None and mine:
                mine.append(node.update(mine.pop(choose.randrange(len(mine))), again=True))
            case "cut":
                others = choose.sample([other for other in NAMES if other != name], choose.randint(1, 4))
                for other in others:
                    self.net.cut |= set(
                        choose.choice(([(name, other)], [(other, name)], [(name, other), (other, name)]))
                    )
            case "heal":
                self.net.heal()
            case "end":
                if node is None:
                    self.start(name)
                else:
                    if choose.random() < 0.3:
                        self.net.put_out(node, node.shard.permdown())
                    self.net.kill(name)
                    self.own[name] = []
            case "wait":
                self.net.run(choose.choice(WAITS))

    def there(self) -> set[tuple[object, int]]:
        return {(entry.replica, entry.clock) for entries in self.own.values() for entry in entries}


@pytest.mark.parametrize("first", range(0, 1_000, 100))
def test_all_see_the_same_in_the_end(first: int) -> None:
    for seed in range(first, first + 100):
        history = History(seed)
        for _ in range(80):
            history.step()
        net = history.net
        net.heal()
        net.settle()
        for node in net.nodes.values():
            state = node.shard.state
            listed = {(e.replica, e.clock) for topic in TOPICS for e in state.entries(topic)}
            assert listed == history.there(), f"seed {seed}: {node.name} lists a ghost, or not all"
            assert set(node.seen) == history.there(), f"seed {seed}: {node.name} reported something else"
            node.reported.clear()
        net.run(20 * OPTIONS.broadcast_period)
        for node in net.nodes.values():
            assert node.events() == [], f"seed {seed}: {node.name} flaps"


def test_the_same_seed_is_the_same_history() -> None:
    def played() -> str:
        history = History(7)
        for _ in range(80):
            history.step()
        return repr(history.net.sent) + repr([node.events() for node in history.net.nodes.values()])

    assert played() == played()
