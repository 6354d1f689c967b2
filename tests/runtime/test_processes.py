"""Processes: the order of what one sender sends, and what `process_info` says."""

from __future__ import annotations

from typing import Any

from runtime.otp import erlang
from runtime.otp.erlang import ExitMessage


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def test_messages_and_signals_of_one_sender_keep_their_order(play: Any) -> None:
    async def body() -> None:
        seen: list[Any] = []

        async def target() -> None:
            while True:
                seen.append(await erlang.receive())

        pid = erlang.spawn(target, trap_exit=True)
        for n in range(5):
            erlang.send(pid, n)
        erlang.exit(pid, "x")
        erlang.send(pid, 5)
        await erlang.sleep(1)
        assert seen == [0, 1, 2, 3, 4, ExitMessage(erlang.self_(), "x"), 5]

    play(body)


def test_process_info(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(forever, name="it", link=True)
        await erlang.sleep(1)
        ref = erlang.monitor(pid)
        erlang.send(pid, "x")
        info = erlang.process_info(pid)
        assert info is not None
        assert info["registered_name"] == "it"
        assert info["links"] == [erlang.self_()]
        assert info["monitored_by"] == [erlang.self_()]
        assert (info["message_queue_len"], info["messages"]) == (1, ["x"])
        assert info["parent"] is erlang.self_()
        assert info["module"].endswith(":forever")
        assert info["memory"] > 0
        mine = erlang.process_info(erlang.self_())
        assert mine is not None
        assert (mine["status"], mine["monitors"], mine["trap_exit"]) == ("running", [pid], True)
        erlang.demonitor(ref)
        erlang.exit(pid, "kill")
        assert erlang.process_info(pid) is None

    play(body)
