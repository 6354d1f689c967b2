"""Arguments that Erlang refuses: badarg, and nothing is done. NaN and infinity are no durations anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runtime import (
    ChildSpec,
    DynamicSupervisor,
    Error,
    Exit,
    GenServer,
    Ref,
    Registry,
    StateMachine,
    Supervisor,
    agent,
    erlang,
    gen_event,
    gen_server,
    proc_lib,
    state_machine,
    supervisor,
    sys,
    task,
    task_supervisor,
)
from runtime.otp.gen_server import NoReply, Reply
from runtime.otp.state_machine import InitialState, KeepState, RepeatState
from runtime.testing.simulation import Simulation, play

NAN, INF = float("nan"), float("inf")
wrong: Any = None


class Idle(GenServer):
    def init(self, timeout: float | None = None) -> Any:
        self.seen: list[Any] = []
        return gen_server.Ok(timeout=timeout)

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply("ok", timeout=request)

    def handle_cast(self, request: Any) -> Any:
        return NoReply(timeout=request)

    def handle_info(self, message: Any) -> None:
        self.seen.append(message)


class NoPids:
    """A registry whose names are none."""

    def whereis_name(self, key: Any) -> Any:
        return "a name"


async def done(result: Any) -> Any:
    return await result if asyncio.iscoroutine(result) or hasattr(result, "__await__") else result


BADARG: dict[str, Callable[[Any], Any]] = {
    "cancel_timer(1)": lambda _: erlang.cancel_timer(1),  # type: ignore[arg-type]
    "read_timer('ab')": lambda _: erlang.read_timer("ab"),  # type: ignore[arg-type]
    "demonitor('x')": lambda _: erlang.demonitor("x"),  # type: ignore[arg-type]
    "unalias(1)": lambda _: erlang.unalias(1),  # type: ignore[arg-type]
    "send_after(1 << 64)": lambda pid: erlang.send_after(1 << 64, pid, "x"),
    "send_after(-1)": lambda pid: erlang.send_after(-1, pid, "x"),
    "send_after(nan)": lambda pid: erlang.send_after(NAN, pid, "x"),
    "start_timer(inf)": lambda pid: erlang.start_timer(INF, pid, "x"),
    "start_timer('1')": lambda pid: erlang.start_timer("1", pid, "x"),  # type: ignore[arg-type]
    "send_after(True)": lambda pid: erlang.send_after(True, pid, "x"),
    "register(42)": lambda pid: erlang.register(42, pid),  # type: ignore[arg-type]
    "register('undefined')": lambda pid: erlang.register("undefined", pid),
    "unregister(42)": lambda _: erlang.unregister(42),  # type: ignore[arg-type]
    "unregister([])": lambda _: erlang.unregister([]),  # type: ignore[arg-type]
    "whereis(42)": lambda _: erlang.whereis(42),  # type: ignore[arg-type]
    "spawn(42)": lambda _: erlang.spawn(42),  # type: ignore[arg-type]
    "spawn_link(None)": lambda _: erlang.spawn_link(None),  # type: ignore[arg-type]
    "spawn_monitor('x')": lambda _: erlang.spawn_monitor("x"),  # type: ignore[arg-type]
    "spawn(name=42)": lambda _: erlang.spawn(print, name=42),  # type: ignore[arg-type]
    "start(name=42)": lambda _: Idle.start(name=42),
    "start(name='undefined')": lambda _: Idle.start(name="undefined"),
    "start(timeout=nan)": lambda _: Idle.start(timeout=NAN),
    "trap_exit(1)": lambda _: erlang.trap_exit(1),  # type: ignore[arg-type]
    "stop('invalid')": lambda pid: gen_server.stop(pid, "normal", "invalid"),  # type: ignore[arg-type]
    "stop(-1)": lambda pid: gen_server.stop(pid, "normal", -1),
    "stop(nan)": lambda pid: gen_server.stop(pid, "normal", NAN),
    "stop(42)": lambda _: gen_server.stop(42),
    "call('invalid')": lambda pid: gen_server.call(pid, None, "invalid"),  # type: ignore[arg-type]
    "call(-1)": lambda pid: gen_server.call(pid, None, -1),
    "call(inf)": lambda pid: gen_server.call(pid, None, INF),
    "call(42)": lambda _: gen_server.call(42, None),
    "cast(42)": lambda _: gen_server.cast(42, None),
    "statem call(nan)": lambda pid: state_machine.call(pid, None, NAN),
    "get_state('x')": lambda pid: sys.get_state(pid, "x"),  # type: ignore[arg-type]
    "get_state(42)": lambda _: sys.get_state(42),
    "suspend(nan)": lambda pid: sys.suspend(pid, NAN),
    "await_down(nan)": lambda pid: erlang.await_down(pid, NAN),
    "sleep(nan)": lambda _: erlang.sleep(NAN),
    "sleep(inf)": lambda _: erlang.sleep(INF),
    "receive(nan)": lambda _: erlang.receive(timeout=NAN),
    "receive(inf)": lambda _: erlang.receive(timeout=INF),
    "await_many(nan)": lambda _: task.await_many([], NAN),
    "start_child(42)": lambda _: supervisor.start_child(42, None),
    "async_(5)": lambda _: task.async_(wrong),
    "task.start('x')": lambda _: task.start("x"),  # type: ignore[arg-type]
    "task.start_link(5)": lambda _: task.start_link(5),  # type: ignore[arg-type]
    "async_nolink(5)": lambda pid: task_supervisor.async_nolink(pid, 5),  # type: ignore[arg-type]
    "start_child(5)": lambda pid: task_supervisor.start_child(pid, 5),  # type: ignore[arg-type]
    "async_stream(5)": lambda _: task_supervisor.async_stream(None, [1], 5),  # type: ignore[arg-type]
    "agent.start(5)": lambda _: agent.start(5),  # type: ignore[arg-type]
    "agent.get(5)": lambda pid: agent.get(pid, 5),  # type: ignore[arg-type]
    "agent.update(5)": lambda pid: agent.update(pid, 5),  # type: ignore[arg-type]
    "agent.cast(5)": lambda pid: agent.cast(pid, 5),  # type: ignore[arg-type]
    "proc_lib.start(5)": lambda _: proc_lib.start(5),  # type: ignore[arg-type]
    "proc_lib.spawn(None)": lambda _: proc_lib.spawn(None),  # type: ignore[arg-type]
    "call(via 5)": lambda _: gen_server.call(("via", 5, "key"), None),
    "start(name=via 5)": lambda _: Idle.start(name=("via", 5, "key")),
    "call(via [])": lambda _: gen_server.call(("via", Registry(), []), None),
    "call(via no pid)": lambda _: gen_server.call(("via", NoPids(), "key"), None),
    "put([])": lambda _: erlang.put([], 1),
    "Registry.register({})": lambda _: Registry().register({}, 1),  # type: ignore[arg-type]
    "Registry.lookup([])": lambda _: Registry().lookup([]),  # type: ignore[arg-type]
    "log(0)": lambda pid: sys.log(pid, 0),
    "log(nan)": lambda pid: sys.log(pid, NAN),  # type: ignore[arg-type]
    "trace(-1)": lambda pid: sys.trace(pid, -1, print),
    "trace('x')": lambda pid: sys.trace(pid, "x", print),  # type: ignore[arg-type]
    "statistics('on')": lambda pid: sys.statistics(pid, "on"),  # type: ignore[arg-type]
    "statistics(1)": lambda pid: sys.statistics(pid, 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BADARG)
def test_badarg_and_nothing_is_done(name: str) -> None:
    async def body() -> None:
        pid = await Idle.start()
        others, names = erlang.processes(), erlang.registered()
        with pytest.raises(Error) as caught:
            await done(BADARG[name](pid))
        assert caught.value.reason == "badarg"
        await erlang.sleep(10)
        assert (erlang.processes(), erlang.registered()) == (others, names)
        assert pid.cell.actor.seen == []

    play(body)


@pytest.mark.parametrize("ms", [-1, "x", None], ids=repr)
def test_what_after_takes_for_no_time_is_timeout_value(ms: Any) -> None:
    async def body() -> None:
        if ms is not None:
            with pytest.raises(Error, match="timeout_value"):
                erlang.receive(timeout=ms)
        with pytest.raises(Error, match="timeout_value"):
            erlang.receive(timeout=1 << 33)
        assert erlang.cancel_timer(Ref()) is False
        assert erlang.demonitor(Ref()) is True

    play(body)


@pytest.mark.parametrize("timeout", [NAN, INF])
def test_a_callback_that_returns_no_duration_ends_its_server(timeout: Any) -> None:
    async def body() -> None:
        pid = await Idle.start()
        erlang.monitor(pid)
        gen_server.cast(pid, timeout)
        assert (await erlang.receive(timeout=1000)).reason[0] == "badarg"

    play(body)


@pytest.mark.parametrize("timeout", [-1, "x", True])
def test_a_return_value_whose_timeout_is_none_is_a_bad_one_and_answers_nobody(timeout: Any) -> None:
    async def body() -> None:
        pid = await Idle.start()
        erlang.monitor(pid)
        gen_server.cast(pid, timeout)
        assert (await erlang.receive(timeout=1000)).reason == ("bad_return_value", NoReply(timeout=timeout))
        with pytest.raises(gen_server.Exit) as ended:
            await gen_server.call(await Idle.start(), timeout)
        assert ended.value.reason[0] == ("bad_return_value", Reply("ok", timeout=timeout))
        with pytest.raises(gen_server.StartError) as failed:
            await Idle.start(timeout)
        assert failed.value.reason == ("bad_return_value", gen_server.Ok(timeout=timeout))

    play(body)


def test_time_of_the_engine_itself() -> None:
    with Simulation() as sim:
        for ms in (NAN, INF, -1):
            with pytest.raises(Error, match="badarg"):
                sim.advance(ms)
        with pytest.raises(Error, match="badarg"):
            sim.engine.call_later(NAN, print)


def test_a_period_is_finite() -> None:
    async def body() -> None:
        for period in (NAN, INF, 0, True):
            with pytest.raises(Exception, match="invalid_period"):
                await Supervisor.start_link([], period=period)
            with pytest.raises(Exception, match="invalid_period"):
                await DynamicSupervisor.start_link(period=period)

    play(body)


@pytest.mark.parametrize("count", [NAN, INF, 0, -1, 1.5, True, "2"])
def test_a_count_is_a_whole_number(count: Any) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="max_concurrency"):
            task_supervisor.async_stream(None, [1], lambda item: item, max_concurrency=count)
        if count != 0 or count is True:  # no child at all is a bound, too
            with pytest.raises(Exception, match="invalid_max_children"):
                await DynamicSupervisor.start_link(max_children=count)

    play(body)


def test_a_timeout_fires_though_a_request_of_sys_waits() -> None:
    class Busy(Idle):
        async def handle_call(self, request: Any, from_: Any) -> Any:
            await erlang.sleep(10)
            return Reply("ok", timeout=request)

    async def body(timeout: float) -> None:
        pid = await Busy.start()
        call = gen_server.call(pid, timeout)
        await erlang.sleep(1)
        watch = erlang.spawn(sys.get_state, pid)
        await erlang.sleep(1)
        await call
        await erlang.await_down(watch)
        await erlang.sleep(100)
        assert pid.cell.actor.seen == ["timeout"]

    play(body, 0)
    play(body, 5)


def test_the_enter_call_is_repeated_with_the_first_old_state() -> None:
    class Machine(StateMachine):
        state_enter = True

        def init(self) -> Any:
            self.entered: list[Any] = []
            return InitialState("a")

        def a(self, event: Any, content: Any) -> Any:
            return state_machine.NextState("b") if event == "cast" else None

        def b(self, event: Any, content: Any) -> Any:
            self.entered.append(content)
            return RepeatState() if len(self.entered) < 3 else KeepState()

    async def body() -> None:
        pid = await Machine.start()
        gen_server.cast(pid, "go")
        await erlang.sleep(1)
        assert pid.cell.actor.entered == ["a", "a", "a"]

    play(body)


def test_a_format_status_that_raises_is_noted() -> None:
    class Bad(Idle):
        def format_status(self) -> Any:
            raise KeyError("secret")

    async def body() -> None:
        pid = await Bad.start()
        status = await sys.get_status(pid)
        assert status["state"].endswith("Bad.format_status crashed")
        assert erlang.is_process_alive(pid)

    play(body)


def test_keys_of_one_equality_are_several() -> None:
    async def body() -> None:
        registry = Registry()
        for key in (1, True, 1.0, (1,), (True,), (1.0,)):
            registry.register(key, repr(key))
        assert registry.count() == 6
        assert [repr(key) for key in registry.keys(erlang.self_())] == [
            "1",
            "True",
            "1.0",
            "(1,)",
            "(True,)",
            "(1.0,)",
        ]
        assert registry.lookup((True,))[0][1] == "(True,)"
        registry.unregister(True)
        assert registry.lookup(1)[0][1] == "1"
        assert registry.whereis_name(True) is None

        specs = [ChildSpec(key, (Idle.start_link, ())) for key in (1, True, 1.0)]
        sup = await Supervisor.start_link(specs)
        assert [repr(row[0]) for row in await supervisor.which_children(sup)] == ["1.0", "True", "1"]
        assert await supervisor.terminate_child(sup, True) == "ok"
        assert await supervisor.delete_child(sup, True) == "ok"
        assert [repr(row[0]) for row in await supervisor.which_children(sup)] == ["1.0", "1"]

    play(body)


def test_a_simulation_reaches_by_exit_and_send_whom_call_reaches() -> None:
    with Simulation() as sim:
        registry = Registry()
        sim.start(Idle, name="named")
        sim.start(Idle, name=("via", registry, "key"))
        sim.send(("via", registry, "key"), "hello")
        sim.run()
        assert sim.call(("via", registry, "key"), None) == "ok"
        assert sim.sent(to=("via", registry, "key"))[0] == "hello"
        sim.exit("named", "kill")
        sim.exit(("via", registry, "key"), "boom")
        assert erlang.whereis("named") is None
        assert registry.count() == 0
        with pytest.raises(Exception, match="noproc"):
            sim.exit("named", "kill")


@pytest.mark.parametrize(
    "ask",
    [
        lambda dest: gen_server.call(dest, None),
        lambda dest: gen_server.call(dest, None, 0),
        lambda dest: state_machine.call(dest, None),
        lambda dest: supervisor.which_children(dest),
        lambda dest: sys.get_state(dest),
        lambda dest: gen_server.stop(dest),
        lambda dest: gen_event.which_handlers(dest),
    ],
)
def test_without_distribution_another_node_is_down(ask: Callable[[Any], Any]) -> None:
    """As on `nonode@nohost`; a name that is free on this node is `noproc`."""

    async def body() -> None:
        for dest, why in (
            (("server", "other@host"), ("nodedown", "other@host")),
            (("server", erlang.NODE), "noproc"),
        ):
            with pytest.raises(Exit) as ended:
                await ask(dest)
            reason = ended.value.reason
            assert reason == why or reason[0] == why

    play(body)


def test_sys_neither_asks_its_own_process_nor_waits_no_time_for_the_dead() -> None:
    async def body() -> None:
        dead = erlang.spawn(print)
        await erlang.await_down(dead)
        for ask, why in (
            (lambda: sys.get_state(erlang.self_()), "calling_self"),
            (lambda: sys.suspend(erlang.self_(), 0), "calling_self"),
            (lambda: sys.get_state(dead, 0), "timeout"),
            (lambda: sys.get_state(dead, 1), "noproc"),
        ):
            with pytest.raises(Exit) as ended:
                await ask()
            assert ended.value.reason[0] == why

    play(body)


def test_a_cast_by_a_module_that_is_none_is_silent() -> None:
    """`catch Mod:send(...), ok` (gen_server:cast/2)."""

    async def body() -> None:
        assert gen_server.cast(("via", None, "key"), None) is None

    play(body)
