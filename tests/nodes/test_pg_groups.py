"""Groups of pg that Python holds for equal and Erlang does not: 1, 1.0 and True; also inside tuples."""

from __future__ import annotations

from typing import Any

from runtime.nodes import pg
from runtime.otp import erlang
from runtime.testing.cluster import Cluster

GROUPS = (1, True, 1.0, (1, "x"), (True, "x"))


def shown(groups: Any) -> list[str]:
    return sorted(map(repr, groups))


def test_groups_are_three_on_every_node_whoever_started_first() -> None:
    pids: dict[str, Any] = {}
    told: list[Any] = []
    seen: dict[str, Any] = {}

    async def member() -> None:
        await pg.start()
        for number, group in enumerate(GROUPS):
            await pg.join(pg.DEFAULT_SCOPE, group, [erlang.self_()] * (number + 1))
        await erlang.receive()
        await pg.leave(pg.DEFAULT_SCOPE, True, erlang.self_())
        await erlang.receive()

    async def watcher() -> None:
        await pg.start()
        await erlang.sleep(100)
        ref, members = await pg.monitor(pg.DEFAULT_SCOPE, 1)
        seen["monitored"] = len(members)
        seen["all"] = {
            repr(group): len(pids) for group, pids in (await pg.monitor_scope(pg.DEFAULT_SCOPE))[1].items()
        }
        while True:
            message = await erlang.receive()
            told.append((message[0] is ref, message[1], message[2]))

    with Cluster(1, ["a", "b"]) as cluster:
        cluster["a"].spawn(cluster["a"].node.connect, "b")
        cluster.advance(100)
        pids["a"] = cluster["a"].spawn(member)
        cluster.advance(100)
        pids["b"] = cluster["b"].spawn(watcher)
        cluster.advance(1000)
        counts = {repr(group): number + 1 for number, group in enumerate(GROUPS)}
        assert seen == {"monitored": 1, "all": counts}
        cluster["a"].spawn(erlang.send, pids["a"], "leave one")
        cluster.advance(100)
        assert told == [(False, "leave", True)] and told[0][2] is True, "who watches 1 is not told"
        cluster["a"].spawn(erlang.exit, pids["a"], "kill")
        cluster.advance(100)
        left = [group for number, group in enumerate(GROUPS) for _ in range(number + 1)]
        assert shown(group for own, _, group in told if not own) == shown(left)
        assert [group for own, _, group in told if own] == [1]
