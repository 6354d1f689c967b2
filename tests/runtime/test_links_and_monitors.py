"""Links and monitors on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core import exits
from runtime.core.exits import Error, Exit
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Down, ExitMessage


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def ending(how: Any) -> Any:
    def body() -> None:
        if isinstance(how, BaseException):
            raise how

    return body


def test_a_chain_of_ten_thousand_links_falls_without_a_stack(play: Any) -> None:
    async def body() -> None:
        me = erlang.self_()

        async def chain(left: int) -> None:
            if left:
                erlang.spawn_link(chain, left - 1)
            else:
                erlang.send(me, "complete")
            await forever()

        first = erlang.spawn(chain, 10_000)
        assert await erlang.receive(timeout=100_000) == "complete"
        assert len(erlang.processes()) == 10_002
        erlang.exit(first, "boom")
        await erlang.sleep(1)
        assert erlang.processes() == [erlang.self_()]

    play(body)


def test_one_link_a_pair_many_monitors_down_once_exit_before_down(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(forever)
        refs = [erlang.monitor(pid) for _ in range(3)]
        for _ in range(3):
            erlang.link(pid)
        erlang.exit(pid, "x")
        mail = [await erlang.receive(timeout=1000) for _ in range(4)]
        assert mail == [ExitMessage(pid, "x"), *(Down(ref, pid, "x") for ref in refs)]
        assert await erlang.receive(timeout=1) is TIMEOUT
        erlang.exit(erlang.spawn(forever, link=True), "y")
        assert (await erlang.receive(timeout=1000)).reason == "y"

    play(body)


def test_the_dead_give_noproc(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn(ending(None))
        await erlang.sleep(1)
        ref = erlang.monitor(pid)
        assert await erlang.receive(timeout=10) == Down(ref, pid, "noproc")
        erlang.link(pid)
        assert await erlang.receive(timeout=10) == ExitMessage(pid, "noproc")
        erlang.trap_exit(False)
        with pytest.raises(Error) as refused:
            erlang.link(pid)
        assert refused.value.reason == "noproc"
        ref = erlang.monitor("nobody")
        assert await erlang.receive(timeout=10) == Down(ref, ("nobody", erlang.NODE), "noproc")

    play(body)


def test_unlink_and_demonitor(play: Any) -> None:
    async def body() -> None:
        pid = erlang.spawn_link(forever)
        ref, other = erlang.monitor(pid), erlang.monitor(pid)
        assert erlang.unlink(pid)
        assert erlang.demonitor(ref, info=True) is True
        assert erlang.demonitor(ref, info=True) is False
        erlang.exit(pid, "x")
        assert erlang.demonitor(other, info=True) is True  # the DOWN signal waits until we do
        assert await erlang.receive(timeout=1) is TIMEOUT
        pid = erlang.spawn(forever)
        ref = erlang.monitor(pid)
        erlang.exit(pid, "x")
        assert await erlang.receive(lambda message: False, timeout=1) is TIMEOUT
        assert erlang.demonitor(ref, info=True) is False  # too late: the message is there
        assert erlang.demonitor(ref, flush=True) is True
        assert await erlang.receive(timeout=1) is TIMEOUT

    play(body)


def test_unlink_after_exit(play: Any) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        pid = erlang.spawn_link(forever)
        erlang.exit(pid, "x")
        erlang.unlink(pid)
        assert await erlang.receive(timeout=1) is TIMEOUT
        pid = erlang.spawn_link(forever)
        erlang.exit(pid, "x")
        assert await erlang.receive(timeout=1) == ExitMessage(pid, "x")

    play(body)


@pytest.mark.parametrize(
    ("then", "end"),
    [
        (lambda pid: None, "x"),
        (erlang.unlink, "still there"),
        (lambda pid: erlang.trap_exit(True), ("trapped", "x")),
        (lambda pid: (erlang.trap_exit(True), erlang.unlink(pid)), "still there"),
        (lambda pid: (erlang.trap_exit(True), erlang.trap_exit(False)), "x"),
        (lambda pid: (erlang.is_process_alive(erlang.self_()), erlang.unlink(pid)), "still there"),
        (lambda pid: (erlang.is_process_alive(pid), erlang.unlink(pid)), "x"),
        (lambda pid: (erlang.process_info(erlang.self_()), erlang.unlink(pid)), "still there"),
        (lambda pid: (erlang.process_info(pid), erlang.unlink(pid)), "x"),
        (lambda pid: erlang.exit(erlang.self_(), "mine"), "mine"),
        (lambda pid: exits.exit("mine"), "mine"),
    ],
)
def test_the_link_of_a_process_that_one_ends_acts_when_one_waits(play: Any, then: Any, end: Any) -> None:
    """As OTP 25 does: until then the one that sent the signal may unlink, or begin to trap exits.

    To ask whether it is alive, or for its state, is to wait for it.
    """

    async def body() -> None:
        async def killer() -> None:
            pid = erlang.spawn_link(forever)
            await erlang.sleep(1)
            erlang.exit(pid, "x")
            then(pid)
            match await erlang.receive(timeout=1):
                case ExitMessage(reason=reason):
                    raise Exit(("trapped", reason))
            raise Exit("still there")

        pid, ref = erlang.spawn_monitor(killer)
        assert await erlang.receive() == Down(ref, pid, end)

    play(body)


@pytest.mark.parametrize("target", [3, ["a"], ("a", 1)])
def test_a_monitor_of_what_is_no_process_is_badarg(play: Any, target: Any) -> None:
    async def body() -> None:
        for function in (erlang.monitor, lambda dest: erlang.send_after(1, dest, "x"), erlang.await_down):
            with pytest.raises(Error) as caught:
                result: Any = function(target)
                if function is erlang.await_down:
                    await result
            assert caught.value.reason == "badarg"
        assert await erlang.receive(timeout=5) is erlang.TIMEOUT

    play(body)
