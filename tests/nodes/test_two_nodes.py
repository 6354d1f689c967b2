"""Two nodes under one seed: connecting, messages, a spawn with link and monitor, and a cut."""

from __future__ import annotations

from typing import Any

from runtime.nodes import net_kernel, spawning
from runtime.otp import erlang
from runtime.otp.erlang import Down, ExitMessage
from runtime.testing.cluster import Cluster


def test_a_link_and_a_monitor_hear_of_a_cut() -> None:
    here: list[Any] = []
    there: list[Any] = []

    async def collect() -> None:
        erlang.trap_exit(True)
        while True:
            there.append(await erlang.receive())

    async def body() -> None:
        erlang.trap_exit(True)
        here.append(net_kernel.nodes())
        here.append(await net_kernel.connect_node("b"))
        here.append(net_kernel.nodes())
        erlang.send(("collect", "b"), ("hello", [1, (2, 3)]))
        pid, ref = await spawning.spawn("b", "collect", link=True, monitor=True)
        erlang.send(pid, "x")
        assert await erlang.receive() == ExitMessage(pid, "noconnection")
        assert await erlang.receive() == Down(ref, pid, "noconnection")
        here.append(net_kernel.nodes())

    with Cluster(1, ["a", "b"]) as cluster:
        cluster["b"].node.export("collect", collect)
        cluster["b"].spawn(collect, name="collect")
        cluster["a"].spawn(body)
        cluster.run()
        assert there == [("hello", [1, (2, 3)]), "x"]
        cluster.partition("a", "b")
        cluster.run()
        assert here == [[], True, ["b"], []]
        assert isinstance(there[-1], ExitMessage) and there[-1].reason == "noconnection"
