"""Functions of erlang, timer, proc_lib, sys, rpc and erpc that have no file of their own."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Error, Exit, GenServer, erlang, gen_server, proc_lib, sys, timer
from runtime.otp.gen_server import NoReply, Reply
from runtime.testing.simulation import play


class Echo(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply(request)


async def hold() -> None:
    await erlang.receive(lambda message: message == "go")


def test_a_group_is_inherited_and_left_alone_by_others() -> None:
    async def body() -> None:
        me = erlang.self_()
        assert erlang.group_leader() is None
        other = erlang.spawn(hold)
        assert erlang.group_leader(me, me) is True
        child = erlang.spawn(hold)
        server = await Echo.start_link()
        assert server is not None
        leaders = [erlang.process_info(pid, "group_leader") for pid in (child, server, other)]
        assert leaders == [("group_leader", me), ("group_leader", me), ("group_leader", None)]
        erlang.exit(other, "kill")
        for wrong in ((me, other), (me, "name"), ("name", me), (None, me)):
            with pytest.raises(Error, match="badarg"):
                erlang.group_leader(*wrong)  # type: ignore[arg-type]

    play(body)


def test_where_a_process_waits() -> None:
    async def body() -> None:
        pid = erlang.spawn(hold)
        assert await erlang.yield_()
        await erlang.sleep(1)
        function = erlang.process_info(pid, "current_function")
        stack = erlang.process_info(pid, "current_stacktrace")
        assert function is not None and stack is not None
        assert any(name == "hold" for _, name, _, _ in stack[1])
        assert function[1] == stack[1][0][:2]
        first, second = erlang.unique_integer(), erlang.unique_integer()
        assert 0 < first < second

    play(body)


def test_processes_of_proc_lib_for_which_nobody_waits() -> None:
    async def ends() -> None:
        raise Exit("done")

    async def body() -> None:
        erlang.trap_exit(True)
        pid, ref = proc_lib.spawn_monitor(hold)
        linked = proc_lib.spawn_link(ends)
        plain = proc_lib.spawn(hold)
        assert proc_lib.initial_call(pid) == (__name__, "hold")
        assert proc_lib.initial_call(erlang.spawn(hold)) is False
        server = await Echo.start_link()
        assert server is not None and proc_lib.initial_call(server) == (f"{__name__}:Echo", "init")
        assert (await erlang.receive()).pid is linked
        erlang.send(pid, "go")
        assert (await erlang.receive()).ref is ref
        assert erlang.process_info(plain, "dictionary") == ("dictionary", [("$ancestors", [erlang.self_()])])

    play(body)


def test_installed_functions_keep_their_state() -> None:
    def count(n: int, event: sys.TraceEvent, name: Any) -> Any:
        seen.append((n, event.kind, name))
        return "done" if n == 3 else n + 1

    seen: list[Any] = []

    async def body() -> None:
        server = await Echo.start_link(name="echo")
        await sys.install(server, count, 1)
        for request in "abc":
            await gen_server.call(server, request)
        assert seen == [(1, "in", "echo"), (2, "out", "echo"), (3, "in", "echo")]
        await sys.install(server, count, 1)
        await sys.remove(server, count)
        await sys.statistics(server, True)
        await sys.no_debug(server)
        await gen_server.call(server, "d")
        assert len(seen) == 3 and await sys.statistics(server, "get") == "no_statistics"

    play(body)


def test_a_reply_to_nobody_is_a_function_clause() -> None:
    class Replies(GenServer):
        def handle_cast(self, request: Any) -> Any:
            gen_server.reply(request, 1)
            return NoReply()

    async def body() -> None:
        erlang.trap_exit(True)
        server = await Replies.start_link()
        gen_server.cast(server, None)
        assert (await erlang.receive()).reason[0] == "function_clause"
        assert timer.now_diff((1, 2, 3), (1, 1, 4)) == 999_999

    play(body)
