"""The process table and the parts of a control block: what a process is made of, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.exits import Exit
from runtime.core.process_table import PAGE, ProcessTable
from runtime.core.small_set import including, without
from runtime.otp import erlang
from runtime.otp import sys as debug
from runtime.otp.gen_server import GenServer, NoReply, Ok, Reply, call, cast, reply
from runtime.testing.simulation import Simulation, play_real


class Server(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        if request == "later":
            self.from_ = from_
            return NoReply()
        return Reply(request)

    def handle_cast(self, request: Any) -> None:
        reply(self.from_, request)


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as simulation:
        yield simulation


def test_numbers_tell_the_age_and_come_once(sim: Simulation) -> None:
    pids = [sim.start(Server) for _ in range(3 * PAGE)]
    sim.run()
    numbers = [pid.id for pid in pids]
    assert numbers == sorted(set(numbers))
    table = sim.engine.table
    assert [table.get(number) for number in numbers] == pids == [pid for pid in table if pid in pids]
    for pid in pids[: 2 * PAGE]:
        sim.exit(pid, "kill")
    sim.run()
    assert [pid.id for pid in pids] == numbers, "the dead keep theirs"
    assert str(pids[0]) == f"<0.{numbers[0]}.0>"
    assert [table.get(number) for number in numbers] == [None] * 2 * PAGE + pids[2 * PAGE :]
    assert sim.start(Server).id == numbers[-1] + 1
    assert len(table) == len(erlang.processes()) == len(list(table))


def test_a_page_of_the_dead_is_dropped(sim: Simulation) -> None:
    for _ in range(3):
        for pid in [sim.start(Server) for _ in range(10 * PAGE)]:
            sim.exit(pid, "kill")
    sim.run()
    assert len(sim.engine.table._pages) <= 2


def test_survivors_keep_their_places_when_the_page_is_packed(sim: Simulation) -> None:
    pids = [sim.start(Server) for _ in range(6 * PAGE)]
    sim.run()
    numbers = [pid.id for pid in pids]
    kept = pids[:: PAGE // 2]
    for pid in pids:
        if pid not in kept:
            sim.exit(pid, "kill")
    sim.run()
    table = sim.engine.table
    assert sum(map(len, table._pages.values())) < PAGE, "the dead have left no holes"
    assert [pid.id for pid in pids] == numbers
    assert [table.get(number) for number in numbers] == [pid if pid in kept else None for pid in pids]
    assert [pid for pid in table if pid in kept] == kept
    for pid in kept:
        sim.exit(pid, "kill")
    sim.run()
    assert [pid.id for pid in pids] == numbers
    assert sim.start(Server).id == numbers[-1] + 1


@pytest.mark.parametrize("number", [-1, 0, PAGE, PAGE + 1, 10**30])
def test_a_number_that_nobody_has(number: int) -> None:
    table = ProcessTable()
    assert table.get(number) is None
    assert table.reserve() == table.given_out == 1
    assert table.get(1) is None and len(table) == 0


def test_a_process_at_rest_is_small() -> None:
    async def body() -> float:
        for _ in range(1_000):
            await Server.start()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            await Server.start()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / 10_000

    assert play_real(body) < 250  # bytes: 190 with CPython 3.11; linked and called about 200 more


class Cancelled(GenServer):
    async def handle_call(self, request: Any, from_: Any) -> Any:
        if request == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            task.uncancel()
        else:
            await asyncio.sleep(0)
        return Reply(request)


def test_a_cancel_in_the_last_step_reaches_nobody_else(play: Any) -> None:
    async def body() -> None:
        one, other = await Cancelled.start(), await Cancelled.start()
        for _ in range(3):
            assert await call(one, "cancel") == "cancel"
            assert await call(other, "go") == "go"
            assert await call(one, "go") == "go"

    play(body)


def test_what_was_handled_is_not_blamed_later(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        await debug.suspend(pid)
        await erlang.sleep(1)
        assert pid is not None
        info = erlang.process_info(pid)
        assert info is not None and (info["status"], info["current_message"]) == ("suspended", None)
        assert pid.cell.execution.context is None

    play(body)


class Leaving(GenServer):
    """Is ended by somebody else while the plain part of its callback runs."""

    def handle_info(self, message: Any) -> Any:
        self._myRef.terminate("shot")
        return self.more()

    async def more(self) -> None:
        self.went_on = True


@pytest.mark.filterwarnings("ignore:coroutine 'Leaving.more'")
def test_the_dead_do_not_rise(play: Any) -> None:
    async def body() -> None:
        pid = await Leaving.start()
        assert pid is not None
        erlang.send(pid, "go")
        assert await erlang.await_down(pid) == "shot"
        await erlang.sleep(1)
        assert not erlang.is_process_alive(pid)
        assert erlang.processes() == [erlang.self_()]

    play(body)


def test_an_interrupt_in_an_exit_hook_reaches_the_program() -> None:
    def hook(pid: Any) -> None:
        raise KeyboardInterrupt

    async def ends() -> None:
        erlang.self_().cell.on_exit(hook)

    async def body() -> None:
        erlang.spawn(ends)
        await erlang.sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        play_real(body)


class Alone(GenServer):
    """Nobody's child: all it has it shares with others, until it does `what` in its init."""

    def init(self, what: str) -> Any:
        me = self._myRef
        match what:
            case "trap_exit":
                erlang.trap_exit(True)
            case "register":
                erlang.register("alone", me)
            case "link":
                erlang.link(erlang.spawn(erlang.sleep, 1000))
            case "monitor":
                erlang.monitor(erlang.spawn(erlang.sleep, 1000))
            case "timeout":
                return Ok(timeout=1000)
            case "mail":
                erlang.send(me, "mail")
        return None


@pytest.mark.parametrize("what", ["trap_exit", "register", "link", "monitor", "timeout", "mail"])
def test_what_one_does_shows_in_no_other(play: Any, what: str) -> None:
    async def body() -> None:
        one, *others = [await Alone.start(it) for it in (what, "", "")]
        await debug.suspend(one)
        infos = [erlang.process_info(pid) for pid in others if pid is not None]
        for key in (
            "trap_exit",
            "registered_name",
            "links",
            "monitors",
            "monitored_by",
            "status",
            "message_queue_len",
        ):
            assert [info[key] for info in infos if info] == [NOTHING[key]] * 2, key

    play(body)


NOTHING = {
    "trap_exit": False,
    "registered_name": None,
    "links": [],
    "monitors": [],
    "monitored_by": [],
    "status": "waiting",
    "message_queue_len": 0,
}


def test_the_dead_need_no_collector() -> None:
    async def body() -> None:
        pid = await Server.start()
        assert pid is not None and await call(pid, 1) == 1
        there = weakref.ref(pid)
        erlang.exit(pid, "kill")
        await erlang.sleep(1)
        gc.disable()
        try:
            del pid
            assert there() is None
        finally:
            gc.enable()

    play_real(body)  # a Simulation's trace keeps them all


def test_the_call_that_ends_a_rest_is_a_monitor(play: Any) -> None:
    async def body() -> None:
        for late in (False, True):
            pid = await Server.start()
            assert pid is not None
            pending = call(pid, "later")
            if late:  # it has been taken, and the server is at rest again
                await erlang.sleep(1)
            erlang.exit(pid, "kill")
            with pytest.raises(Exit) as gone:
                await pending
            assert gone.value.reason[0] == "killed"

    play(body)


def test_a_late_answer_leaves_nothing_behind(play: Any) -> None:
    async def body() -> Any:
        pid = await Server.start()
        assert pid is not None
        erlang.spawn(_answer, pid)
        assert await call(pid, "later", 1000) == "now"
        assert pid.cell.relations.monitored_by == ()
        return await call(pid, "again")

    assert play(body) == "again"


async def _answer(pid: Any) -> None:
    await erlang.sleep(5)
    cast(pid, "now")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_few_are_a_set_in_order_of_arrival(steps: list[tuple[bool, int]]) -> None:
    some, model = (), dict[int, None]()
    for add, one in steps:
        if add:
            some = including(some, one)
            model.setdefault(one)
        else:
            some = without(some, one)
            model.pop(one, None)
        assert list(some) == list(model)


def test_all_that_a_control_block_holds_has_a_slot(sim: Simulation) -> None:
    """Thespian's address has a dict, which would take what no slot is named for: 16 bytes of every process."""
    pid = sim.start(Server)
    assert sim.call(pid, "answer") == "answer"
    assert vars(pid) == {}


def test_an_idle_process_carries_no_empty_table(play: Any) -> None:
    async def body() -> None:
        pid = await GenServer.start()
        assert pid is not None
        for message in range(3):
            erlang.send(pid, message)
        erlang.demonitor(erlang.monitor(pid))
        await erlang.sleep(1)
        run, relations = pid.cell.execution, pid.cell.relations
        assert run is pid.cell.engine.rest
        assert relations.reductions >= 3
        assert relations.links == relations.monitors == relations.monitored_by == ()
        assert relations.exit_hooks is relations.rare is None

    play(body)
