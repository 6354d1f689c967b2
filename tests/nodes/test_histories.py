"""Random histories of five nodes: cuts, one-way loss, crashes and restarts by the seed. No link loses silently, pg converges."""

from __future__ import annotations

from random import Random
from typing import Any

from runtime.core import engine as engines
from runtime.nodes import pg
from runtime.otp import erlang
from runtime.testing.cluster import Cluster, ClusterMember

NAMES = ["a", "b", "c", "d", "e"]


class History:
    """One cluster under one seed; `log` is all that its processes saw."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log: list[Any] = []
        self.sent = 0
        self.cluster = Cluster(seed, NAMES, on_start=self._prepare)

    def _prepare(self, member: ClusterMember) -> None:
        member.spawn(self._member, member.name, name="member")

    async def _member(self, name: str) -> None:
        await pg.start("s")
        await pg.join("s", "g", erlang.self_())
        while True:
            match await erlang.receive():
                case ("send", to, number):
                    erlang.send(("member", to), ("number", name, number))
                case ("number", sender, number):
                    self.log.append((name, sender, number))

    def act(self) -> None:
        """One thing happens."""
        one, other = self.random.sample(NAMES, 2)
        cluster, living = self.cluster, self.cluster.members
        match self.random.choice(
            ["send"] * 6 + ["cut", "heal", "connect", "connect", "crash", "start", "loss", "wait"]
        ):
            case "send" if one in living:
                self.sent += 1
                engines.set_default(living[one].engine)
                erlang.send("member", ("send", other, self.sent))
            case "cut":
                cluster.partition(one, other)
            case "heal":
                cluster.heal(one, other)
            case "connect" if one in living:
                living[one].node.connect(other)
            case "crash" if one in living and len(living) > 2:
                cluster.crash(one)
            case "start" if one not in living:
                cluster.start(one)
            case "loss":
                cluster.network.path(one, other).loss = self.random.choice([0.0, 0.2])
            case "wait":
                cluster.advance(self.random.randrange(90_000))
        cluster.run()

    def calm(self) -> None:
        """All that was broken is mended, and everybody connects to everybody."""
        for one in NAMES:
            if one not in self.cluster.members:
                self.cluster.start(one)
            for other in NAMES:
                self.cluster.heal(one, other)
                self.cluster.network.path(one, other).loss = 0.0
        self.cluster.advance(200_000)
        for _ in range(2):
            for one in NAMES:
                for other in NAMES:
                    self.cluster[one].node.connect(other)
            self.cluster.run()


def play(seed: int) -> list[Any]:
    history = History(seed)
    try:
        for _ in range(40):
            history.act()
        history.calm()
        for name in NAMES:
            member = history.cluster[name]
            assert member.node.nodes() == [other for other in NAMES if other != name], seed
            engines.set_default(member.engine)
            assert len(pg.get_members("s", "g")) == len(NAMES), (seed, name)
        for receiver in NAMES:
            for sender in NAMES:
                numbers = [n for to, by, n in history.log if (to, by) == (receiver, sender)]
                assert numbers == sorted(set(numbers)), (seed, receiver, sender)
        return history.log
    finally:
        history.cluster.close()


def test_histories() -> None:
    logs = [play(seed) for seed in range(60)]
    assert sum(map(len, logs)) > 200


def test_one_seed_is_one_history() -> None:
    assert [play(seed) for seed in range(5)] == [play(seed) for seed in range(5)]
