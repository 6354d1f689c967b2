"""Calls to a server of another node whose request, reply or reason cannot travel; a signal that cannot be read."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from runtime.core.exits import Exit
from runtime.nodes import net_kernel, spawning
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, NoReply, Reply, Stop
from runtime.testing.cluster import Cluster


class Echo(GenServer):
    """Answers with what the name of the request stands for."""

    def init(self) -> None:
        self.kept: Any = None

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "object":
                return Reply(object())
            case "later":
                self.kept = from_
                return NoReply()
            case "now":
                gen_server.reply(self.kept, lambda: None)
                return Reply("answered")
            case "end":
                return Stop(("gone", object()))
        return Reply(request)


def run(cluster: Cluster, body: Any) -> list[Any]:
    """What a process of node a that runs `body(say)` says."""
    said: list[Any] = []
    cluster["b"].spawn(_serve)
    cluster.run()
    cluster["a"].spawn(body, said.append)
    cluster.advance(10)
    return said


async def _serve() -> None:
    await Echo.start(name="echo")


async def ask(request: Any) -> Any:
    try:
        return await gen_server.call(("echo", "b"), request, None)
    except Exit as ended:
        return ended.reason[0]


def test_a_reply_that_cannot_travel_is_the_callers_exit(caplog: pytest.LogCaptureFixture) -> None:
    async def body(say: Any) -> None:
        say(await ask("object"))
        erlang.spawn(late, say)
        await erlang.sleep(5)
        say(await ask("now"))
        say(await ask("still there"))

    async def late(say: Any) -> None:
        say(await ask("later"))

    with Cluster(3, ["a", "b"]) as cluster, caplog.at_level(logging.ERROR, "runtime.nodes"):
        said = run(cluster, body)
    refused = "a builtins.{} cannot be sent to another node: register its class"
    assert said[0] == ("unencodable", refused.format("object"))
    assert set(said[1:]) == {("unencodable", refused.format("function")), "answered", "still there"}
    assert caplog.text.count("cannot be answered") == 2


def test_a_reason_that_cannot_travel_arrives_as_its_text() -> None:
    async def body(say: Any) -> None:
        say(await ask("end"))

    with Cluster(3, ["a", "b"]) as cluster:
        (reason,) = run(cluster, body)
    assert reason[0] == "gone" and reason[1].startswith("<object object")


def test_what_cannot_be_sent_leaves_nothing_behind() -> None:
    async def body(say: Any) -> None:
        for bad in (
            lambda: gen_server.call(("echo", "b"), object(), None),
            lambda: spawning.spawn("b", "f", object(), monitor=True),
            lambda: spawning.spawn_request("b", "f", object(), monitor=True),
            lambda: erlang.send(("echo", "b"), object()),
        ):
            with pytest.raises(TypeError):
                result: Any = bad()
                await result
        say(erlang.process_info(erlang.self_())["monitors"])  # type: ignore[index]

    with Cluster(3, ["a", "b"]) as cluster:
        assert run(cluster, body) == [[]]
        connection = cluster["a"].node.connection("b")
        assert not connection.relations._monitors and not connection.relations._numbers


def test_a_signal_that_cannot_be_read_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def body(say: Any) -> None:
        assert await net_kernel.connect_node("b")
        net_kernel.monitor_node("b", True)
        node = net_kernel.this_node()
        assert node is not None
        node.connection("b").signal(None, b"\xc1")
        say(await erlang.receive())

    with Cluster(3, ["a", "b"]) as cluster, caplog.at_level(logging.ERROR, "runtime.nodes"):
        assert run(cluster, body) == [("nodedown", "b")]
        assert cluster["b"].node.nodes() == []
    assert "cannot be read" in caplog.text
