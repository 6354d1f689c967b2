"""Supervisor on both engines: order, strategies, restarts, intensity, shutdowns, significance."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.exits import Exit
from runtime.core.pid import Pid
from runtime.otp import dynamic_supervisor, erlang, supervisor
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import GenServer, StartError, Stop, call, cast
from runtime.otp.restart import RestartIntensity
from runtime.otp.supervisor import ChildSpec, Supervisor, SupFlags, count_children, which_children

log: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()


class Worker(GenServer):
    def init(self, name: str, trap: bool = True, refuse: bool = False) -> Any:
        erlang.trap_exit(trap)
        log.append(f"+{name}")
        self.name = name
        return Stop("refused") if refuse else None

    def handle_cast(self, request: Any) -> Any:
        return Stop(request)

    async def terminate(self, reason: Any) -> None:
        if self.name == "stubborn":
            await erlang.sleep(10_000)
        log.append(f"-{self.name}")


def spec(name: str, *args: Any, **fields: Any) -> ChildSpec:
    return ChildSpec(name, (partial(Worker.start_link, name=name), (name, *args)), **fields)


def abc(**fields: Any) -> list[ChildSpec]:
    return [spec(name, **fields) for name in "abc"]


def test_start_in_order_stop_in_reverse(play: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link(abc())
        assert [row[0] for row in await which_children(sup)] == ["c", "b", "a"]
        assert await count_children(sup) == {"specs": 3, "active": 3, "supervisors": 0, "workers": 3}
        erlang.exit(sup, "shutdown")
        assert await erlang.await_down(sup, 1000) == "shutdown"
        assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]

    play(body)


def test_rest_for_one_tells_equal_ids_of_other_types_apart(play: Any) -> None:
    async def body() -> None:
        children = [
            ChildSpec(key, (partial(Worker.start_link, name=name), (name,)))
            for key, name in ((1, "int"), (True, "bool"), (1.0, "float"))
        ]
        await Supervisor.start_link(children, strategy="rest_for_one")
        log.clear()
        cast("bool", "boom")
        await erlang.sleep(20)
        assert log == ["-bool", "-float", "+bool", "+float"]

    play(body)


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        ("one_for_one", ["-b", "+b"]),
        ("one_for_all", ["-b", "-c", "-a", "+a", "+b", "+c"]),
        ("rest_for_one", ["-b", "-c", "+b", "+c"]),
    ],
)
def test_strategies(play: Any, strategy: str, restarted: list[str]) -> None:
    async def body() -> None:
        await Supervisor.start_link(abc(), strategy=strategy)
        log.clear()
        cast("b", "boom")
        await erlang.sleep(10)
        assert log == restarted

    play(body)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "boom"])
def test_restart_types(play: Any, restart: str, reason: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link([spec("a", restart=restart)])
        cast("a", reason)
        await erlang.sleep(10)
        again = restart == "permanent" or (restart == "transient" and reason == "boom")
        assert log == ["+a", "-a", "+a"] if again else ["+a", "-a"]
        rows = await which_children(sup)
        assert len(rows) == (0 if restart == "temporary" else 1)

    play(body)


def test_intensity_and_period(play: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link(abc(), intensity=2, period=1)
        for _ in range(4):  # two within a period are allowed, again and again
            cast("a", "boom")
            await erlang.sleep(800)
        assert erlang.is_process_alive(sup)
        ref = erlang.monitor(sup)
        for _ in range(3):
            cast("a", "boom")
            await erlang.sleep(2)
        down = await erlang.receive(lambda m: getattr(m, "ref", None) is ref, 1000)
        assert down.reason == "shutdown"
        assert log[-2:] == ["-c", "-b"]

    play(body)


def test_a_failed_start_rolls_back(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(StartError) as failed:
            await Supervisor.start_link([spec("a"), spec("b"), spec("c", True, True)])
        assert failed.value.reason == ("shutdown", ("failed_to_start_child", "c", "refused"))
        assert log == ["+a", "+b", "+c", "-b", "-a"]

    play(body)


@pytest.mark.parametrize("specs", [[], [spec("a"), spec("a")], [spec("a"), spec("b", restart="bad")]])
def test_one_template_is_asked_for_before_it_is_looked_at(play: Any, specs: list[ChildSpec]) -> None:
    async def body() -> None:
        with pytest.raises(StartError) as caught:
            await Supervisor.start_link(specs, strategy="simple_one_for_one")
        assert caught.value.reason == ("bad_start_spec", specs)

    play(body)


def test_shutdowns(play: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link(
            [spec("a", shutdown="brutal_kill"), spec("stubborn", shutdown=20), spec("c", shutdown="infinity")]
        )
        began = erlang.monotonic_time()
        erlang.exit(sup, "shutdown")
        assert await erlang.await_down(sup, 20_000) == "shutdown"
        assert 19 <= erlang.monotonic_time() - began < 9000
        assert log == ["+a", "+stubborn", "+c", "-c"]  # the first two had no time for last words

    play(body)


@pytest.mark.parametrize(("kind", "linked"), [(Supervisor, True), (DynamicSupervisor, False)])
def test_a_supervisor_stays_linked_to_a_child_until_it_has_ended(play: Any, kind: Any, linked: bool) -> None:
    """OTP 25 unlinks behind the DOWN; Elixir's DynamicSupervisor does before it sends the exit signal."""

    class Lingering(GenServer):
        def init(self, tester: Pid) -> None:
            self.tester = tester
            erlang.trap_exit(True)

        async def terminate(self, reason: Any) -> None:
            erlang.send(self.tester, "terminating")
            await erlang.receive(lambda message: message == "go")

    async def body() -> None:
        me = erlang.self_()
        sup = await kind.start_link()
        child_spec = ChildSpec("a", (Lingering.start_link, (me,)), shutdown="infinity")
        start = supervisor.start_child if linked else dynamic_supervisor.start_child
        started = await start(sup, child_spec)
        child = started[1] if linked else started

        async def terminate() -> None:
            erlang.send(me, await supervisor.terminate_child(sup, "a" if linked else child))

        erlang.spawn(terminate)
        assert await erlang.receive() == "terminating"
        seen: Any = erlang.process_info(sup, ["links", "monitors"])
        assert (child in seen[0][1], seen[1][1]) == (linked, [child])
        erlang.send(child, "go")
        assert await erlang.receive() == "ok"
        seen = erlang.process_info(sup, ["links", "messages", "monitors"])
        assert (child in seen[0][1], *seen[1:]) == (False, ("messages", []), ("monitors", []))

    play(body)


def test_significant_children_and_auto_shutdown(play: Any) -> None:
    async def body() -> None:
        children = abc(restart="temporary", significant=True)
        for auto, ends in (("any_significant", 1), ("all_significant", 3)):
            sup = await Supervisor.start_link(children, auto_shutdown=auto)
            for count, name in enumerate("abc", 1):
                cast(name, "normal")
                await erlang.sleep(5)
                assert erlang.is_process_alive(sup) == (count < ends)
                if count == ends:
                    break
        with pytest.raises(StartError) as bad:
            await Supervisor.start_link(children)
        assert bad.value.reason[0] == "start_spec"

    play(body)


def test_the_functions(play: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link([spec("a")])
        status, pid = await supervisor.start_child(sup, spec("b"))
        assert status == "ok"
        assert await supervisor.start_child(sup, spec("b")) == ("error", ("already_started", pid))
        assert await supervisor.delete_child(sup, "b") == ("error", "running")
        assert await supervisor.terminate_child(sup, "b") == "ok"
        assert await supervisor.start_child(sup, spec("b")) == ("error", "already_present")
        status, again = await supervisor.restart_child(sup, "b")
        assert (status, again is pid) == ("ok", False)
        assert await supervisor.restart_child(sup, "b") == ("error", "running")
        assert await supervisor.terminate_child(sup, "b") == "ok"
        assert await supervisor.delete_child(sup, "b") == "ok"
        assert await supervisor.get_childspec(sup, "b") == ("error", "not_found")
        assert (await supervisor.get_childspec(sup, "a"))[1].id == "a"
        status, (reason, _child) = await supervisor.start_child(sup, spec("d", True, True))
        assert (status, reason) == ("error", "refused")

    play(body)


def test_a_tree_falls_from_the_top(play: Any) -> None:
    class Sub(Supervisor):
        def init(self, names: str) -> Any:
            return SupFlags("one_for_all"), [spec(name) for name in names]

    async def body() -> None:
        children = [
            ChildSpec("left", (Sub.start_link, ("ab",)), type="supervisor"),
            ChildSpec("right", (Sub.start_link, ("cd",)), type="supervisor"),
        ]
        sup = await Supervisor.start_link(children)
        info = erlang.process_info(erlang.whereis("d"))
        assert len(info["ancestors"]) == 3
        erlang.exit(sup, "shutdown")
        assert await erlang.await_down(sup, 1000) == "shutdown"
        assert log[4:] == ["-d", "-c", "-b", "-a"]
        assert erlang.processes() == [erlang.self_()]

    play(body)


@pytest.mark.parametrize("start", [Supervisor.start_link, DynamicSupervisor.start_link])
def test_a_call_that_is_no_request_ends_a_supervisor(start: Any, play: Any) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        sup = await start()
        await supervisor.count_children(sup)
        with pytest.raises(Exit) as caught:
            await call(sup, "hello")
        assert caught.value.reason[0][0] == "function_clause"

    play(body)


def test_a_cast_that_is_no_request_ends_a_supervisor_but_not_a_dynamic_one(play: Any) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        sup, dynamic = await Supervisor.start_link(abc()), await DynamicSupervisor.start_link()
        cast(sup, "hello")
        cast(dynamic, "hello")
        assert (await erlang.await_down(sup))[0] == "function_clause"
        assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
        assert await supervisor.count_children(dynamic) == {
            "specs": 0,
            "active": 0,
            "supervisors": 0,
            "workers": 0,
        }

    play(body)


@given(st.lists(st.floats(0, 3)), st.integers(0, 4), st.floats(0.1, 5))
def test_restart_intensity_is_otps_count_property(pauses: list[float], intensity: int, period: float) -> None:
    window, now, earlier = RestartIntensity(intensity, period), 0.0, list[float]()
    for pause in pauses:
        now += pause
        earlier = [at for at in earlier if at >= now - period] + [now]
        assert window.add(now) == (len(earlier) <= intensity)
        assert len(window.restarts) == len(earlier)


def test_a_child_id_that_cannot_be_a_key_is_refused(play: Any) -> None:
    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        spec = ChildSpec(["a"], (GenServer.start_link, ()))
        assert await supervisor.start_child(sup, spec) == ("error", ("invalid_id", ["a"]))
        assert erlang.is_process_alive(sup)
        with pytest.raises(StartError) as caught:
            await Supervisor.start_link([spec])
        assert caught.value.reason == ("start_spec", ("invalid_id", ["a"]))

    play(body)


def test_a_start_function_that_is_cancelled_has_failed_to_start(play: Any) -> None:
    async def cancelled() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        status, (reason, _child) = await supervisor.start_child(sup, ChildSpec("a", (cancelled, ())))
        assert status == "error"
        assert reason[0] == "EXIT"
        assert isinstance(reason[1][0], asyncio.CancelledError)
        assert erlang.is_process_alive(sup)

    play(body)


def test_a_supervisor_that_is_killed_while_a_child_starts_is_unwound(play: Any) -> None:
    left: list[str] = []

    async def slow() -> None:
        try:
            erlang.send("waiting", "starting")
            await asyncio.sleep(3600)
        finally:
            left.append("start function")

    async def body() -> None:
        sup: Any = await Supervisor.start_link([])
        erlang.register("waiting", erlang.self_())
        erlang.spawn(supervisor.start_child, sup, ChildSpec("a", (slow, ())))
        assert await erlang.receive(lambda message: message == "starting") == "starting"
        erlang.exit(sup, "kill")
        while not left:
            await erlang.sleep(5)
        assert left == ["start function"]

    play(body)
