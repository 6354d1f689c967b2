"""rpc's promises, and erpc's multicast and check_response, over two nodes."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import Error, Exit, Throw
from runtime.nodes import erpc, pg, rpc
from runtime.otp import erlang
from runtime.testing.cluster import Cluster


def results(body: Any) -> Any:
    """What `body()` returns, as a process of node a; node b lets it call the functions here."""
    said: list[Any] = []
    told: list[Any] = []

    async def run() -> None:
        said.append(await body())

    async def slow(value: Any) -> Any:
        await erlang.sleep(50)
        return value

    def fails(kind: str) -> None:
        raise {"exit": Exit, "error": Error, "throw": Throw}[kind]("boom")

    with Cluster(1, ["a", "b"]) as cluster:
        for member in ("a", "b"):
            for name, function in (
                ("slow", slow),
                ("fails", fails),
                ("tell", told.append),
                ("trap", erlang.trap_exit),
            ):
                cluster[member].node.export(name, function)
        cluster["a"].spawn(run)
        cluster.advance(1000)
    return said[0], told


def test_a_promise_is_kept() -> None:
    async def body() -> Any:
        promise = rpc.async_call("b", "slow", (7,))
        early = await rpc.nb_yield(promise)
        failed = [
            await rpc.yield_(rpc.async_call("b", "fails", (kind,))) for kind in ("exit", "error", "throw")
        ]
        assert failed[1][1][1][0] == "boom"
        return [early, await rpc.nb_yield(promise, 100), failed[0], failed[2], await rpc.block_call("b", "slow", (8,)),
                await rpc.yield_(rpc.async_call("nowhere", "slow", (1,)))]  # fmt: skip

    assert results(body)[0] == [
        "timeout", ("value", 7), ("badrpc", ("EXIT", "boom")), "boom", 8, ("badrpc", "nodedown"),
    ]  # fmt: skip


def test_multicast_and_answers_that_are_told_apart() -> None:
    async def body() -> Any:
        assert erpc.multicast(["a", "b"], "tell", ("hello",)) == "ok"
        one, other = erpc.send_request("b", "slow", (1,)), erpc.send_request("b", "fails", ("exit",))
        answers: list[Any] = []
        for _ in range(2):
            message = await erlang.receive()
            answers.append(erpc.check_response(message, one))
            if answers[-1] == "no_response":
                with pytest.raises(Exit) as ended:
                    erpc.check_response(message, other)
                answers.append(ended.value.reason)
        return answers

    answers, told = results(body)
    assert answers == ["no_response", ("exception", "boom"), ("response", 1)]
    assert told == ["hello", "hello"]


def test_who_asks_for_an_answer_again_waits_until_the_time_is_over() -> None:
    async def body() -> Any:
        request, void = erpc.send_request("b", "slow", (1,)), erpc.send_request("b", "slow", (2,))
        assert await erpc.receive_response(request) == 1
        with pytest.raises(Error, match="timeout"):
            await erpc.receive_response(void, 0)
        begin = erlang.monotonic_time()
        for again in (request, void):
            assert await erpc.wait_response(again, 100) == "no_response"
            with pytest.raises(Error, match="badarg"):
                await erpc.receive_response(again, 100)
        return erlang.monotonic_time() - begin

    assert results(body)[0] == pytest.approx(400)


def test_a_request_is_no_others() -> None:
    async def body() -> Any:
        request, me = erpc.send_request("b", "slow", (1,)), erlang.self_()

        async def other() -> None:
            try:
                await erpc.receive_response(request, 100)
            except Error as error:
                erlang.send(me, error.reason)

        erlang.spawn(other)
        return await erlang.receive(lambda mail: isinstance(mail, tuple)), await erpc.receive_response(
            request
        )

    assert results(body)[0] == (("erpc", "badarg"), 1)


def test_a_multicall_without_a_timeout_runs_in_the_caller_where_its_own_node_comes_first() -> None:
    async def body() -> Any:
        erlang.trap_exit(False)
        traps = [await erpc.multicall(["b", "a", "a"], "trap", (True,), timeout) for timeout in (100, None)]
        return traps, erlang.trap_exit(False)

    (traps, trapping), _ = results(body)
    assert traps == [[("ok", False)] * 3] * 2 and trapping


def test_groups_with_a_member_here() -> None:
    async def body() -> Any:
        await pg.start("scope")
        await pg.join("scope", "group", erlang.self_())
        with pytest.raises(Error, match="badarg"):
            pg.which_local_groups("nowhere")
        return pg.which_local_groups("scope")

    assert results(body)[0] == ["group"]
