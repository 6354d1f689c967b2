"""Agent, timer, gen_event and what else OTP and Elixir have beside GenServer and Supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime import (
    ChildSpec,
    Down,
    Error,
    Exit,
    ExitMessage,
    GenServer,
    PartitionSupervisor,
    Pid,
    Registry,
    StartError,
    Supervisor,
    agent,
    erlang,
    gen_event,
    gen_server,
    partition_supervisor,
    request_ids,
    supervisor,
    sys,
    task,
    task_supervisor,
    timer,
)
from runtime.otp.gen_event import EventHandler, RemoveHandler, SwapHandler
from runtime.otp.gen_server import NoReply, Reply, Stop, enter_loop
from runtime.otp.registry import ANY
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


# ---- agent


def test_an_agent_keeps_a_value() -> None:
    async def body() -> None:
        pid = await agent.start_link(lambda: 1, name="agent")
        assert await agent.get("agent", lambda value: value) == 1
        assert await agent.update("agent", lambda value, by: value + by, 2) == "ok"
        assert await agent.get_and_update(pid, lambda value: (value, value * 10)) == 3
        agent.cast(pid, lambda value: value + 1)
        assert await sys.get_state(pid) == 31
        await agent.stop(pid)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_what_an_agents_function_raises_ends_it_and_the_call() -> None:
    async def body() -> None:
        pid = await agent.start(dict)
        with pytest.raises(Exit) as caught:
            await agent.get(pid, lambda value: value["nothing"])
        assert isinstance(caught.value.reason[0][0], KeyError)
        pid = await agent.start(dict)
        with pytest.raises(Exit) as caught:
            await agent.get_and_update(pid, lambda value: value)
        assert caught.value.reason[0] == ("bad_return_value", {})
        with pytest.raises(StartError):
            await agent.start(lambda: 1 / 0)

    play(body)


# ---- timer


def test_timers_of_the_timer_module() -> None:
    async def body() -> None:
        me = erlang.self_()
        for refused in (
            timer.apply_after(-1, print), timer.send_interval(0, me, 1), timer.apply_interval(float("nan"), print),
            timer.exit_after(1, 42, "x"), timer.cancel(1), timer.send_after("1", me, 1),
        ):  # fmt: skip
            assert refused == ("error", "badarg")
        timer.apply_after(5, erlang.send, me, "after")
        _, interval = timer.send_interval(10, me, "tick")
        await erlang.sleep(35)
        assert await mail() == ["after", "tick", "tick", "tick"]
        assert timer.cancel(interval) == ("ok", "cancel")
        await erlang.sleep(50)
        assert await mail() == []
        _, ref = timer.apply_interval(10, erlang.send, me, "again")
        await erlang.sleep(25)
        timer.cancel(ref)
        assert await mail() == ["again", "again"]
        assert (timer.seconds(2), timer.hms(1, 1, 1)) == (2000, 3_661_000)
        elapsed, value = await timer.tc(lambda: 7)
        assert (elapsed >= 0, value) == (True, 7)

    play(body)


def test_repeatedly_waits_for_the_last_one() -> None:
    async def body() -> None:
        me = erlang.self_()

        async def slow() -> None:
            erlang.send(me, erlang.monotonic_time())
            await erlang.sleep(25)

        began = erlang.monotonic_time()
        timer.apply_repeatedly(10, slow)
        await erlang.sleep(70)
        assert [round(at - began) for at in await mail()] == [10, 35, 60]

    play(body)


def test_exit_and_kill_after_and_the_end_of_an_interval() -> None:
    async def body() -> None:
        pid, ref = erlang.spawn_monitor(timer.sleep, 1000)
        other = erlang.spawn(timer.sleep, 1000)
        timer.exit_after(10, other, "late")
        timer.send_interval(5, other, "tick")
        assert await erlang.await_down(other) == "late"
        timer.kill_after(5, pid)
        await erlang.sleep(20)
        assert await mail() == [Down(ref, pid, "killed")]

    play(body)


# ---- gen_event


class Log(EventHandler):
    def init(self, args: Any) -> Any:
        if args == "refuse":
            return ("error", "refused")
        self.seen: list[Any] = [] if args is None else [args]
        return "ok"

    def handle_event(self, event: Any) -> Any:
        self.seen.append(event)
        match event:
            case "crash":
                raise KeyError(event)
            case "remove":
                return RemoveHandler()
            case "swap":
                return SwapHandler("bye", (Log, 2), "hello")
        return None

    def handle_call(self, request: Any) -> Any:
        return RemoveHandler(self.seen) if request == "last" else Reply(list(self.seen))

    def terminate(self, arg: Any) -> Any:
        return ("left", arg)


def test_handlers_hear_are_asked_and_deleted() -> None:
    async def body() -> None:
        events = await gen_event.start_link()
        assert await gen_event.add_handler(events, Log) == "ok"
        assert await gen_event.add_handler(events, (Log, 1), "first") == "ok"
        assert await gen_event.add_handler(events, (Log, 9), "refuse") == ("error", "refused")
        gen_event.notify(events, "a")
        assert await gen_event.sync_notify(events, "b") == "ok"
        assert await gen_event.which_handlers(events) == [(Log, 1), Log]
        assert await gen_event.call(events, (Log, 1), "seen") == ["first", "a", "b"]
        assert await gen_event.call(events, (Log, 7), "seen") == ("error", "bad_module")
        assert await gen_event.delete_handler(events, (Log, 7)) == ("error", "module_not_found")
        assert await gen_event.delete_handler(events, (Log, 1), "x") == ("left", "x")
        assert await gen_event.call(events, Log, "last") == ["a", "b"]
        assert await gen_event.which_handlers(events) == []
        await gen_event.stop(events)

    play(body)


def test_a_handler_that_crashes_goes_alone_and_its_supervisor_hears_of_it() -> None:
    async def body() -> None:
        events = await gen_event.start()
        await gen_event.add_handler(events, Log)
        await gen_event.add_sup_handler(events, (Log, 1))
        await gen_event.delete_handler(events, Log)
        await gen_event.sync_notify(events, "crash")
        kind, handler, (error, _stack) = await erlang.receive()
        assert (kind, handler, type(error)) == ("gen_event_EXIT", (Log, 1), KeyError)
        assert await gen_event.which_handlers(events) == []
        await gen_event.add_sup_handler(events, Log)
        await gen_event.sync_notify(events, "remove")
        assert await mail() == [("gen_event_EXIT", Log, "normal")]

        async def passes_by() -> None:
            await gen_event.add_sup_handler(events, (Log, 3))

        await erlang.await_down(erlang.spawn(passes_by))
        assert await gen_event.which_handlers(events) == []
        assert erlang.is_process_alive(events)

    play(body)


def test_handlers_are_swapped() -> None:
    async def body() -> None:
        events = await gen_event.start()
        await gen_event.add_handler(events, Log)
        await gen_event.sync_notify(events, "swap")
        assert await gen_event.call(events, (Log, 2), "seen") == [("hello", ("left", "bye"))]
        assert await gen_event.swap_handler(events, ((Log, 2), "x"), (Log, "y")) == "ok"
        assert await gen_event.call(events, Log, "seen") == [("y", ("left", "x"))]
        assert await gen_event.swap_handler(events, ((Log, 5), "x"), ((Log, 6), "y")) == "ok"
        assert await gen_event.call(events, (Log, 6), "seen") == [("y", "error")]

    play(body)


# ---- gen_server


class Server(GenServer):
    def init(self, start: Any = None) -> Any:
        self.value = start
        return Stop("no") if start == "stop" else None

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "silent":
                return NoReply()
            case ("after", ms):
                erlang.send_after(ms, self._myRef, ("answer", from_))
                return NoReply()
            case "crash":
                raise RuntimeError("crash")
        return Reply((type(self).__name__, self.value))

    def handle_info(self, message: Any) -> None:
        match message:
            case ("answer", from_):
                gen_server.reply(from_, "late")
            case "timeout":
                self.value = "timed out"


class Newer(Server):
    def code_change(self, old_module: Any, extra: Any) -> Any:
        if extra == "refuse":
            raise ValueError("refused")
        self.value = (old_module.__name__, extra, self.value)


def test_start_monitor() -> None:
    async def body() -> None:
        started = await Server.start_monitor(1)
        assert started is not None
        pid, ref = started
        erlang.exit(pid, "kill")
        assert await erlang.receive() == Down(ref, pid, "killed")
        with pytest.raises(StartError, match="no"):
            await Server.start_monitor("stop")
        await erlang.sleep(1)
        assert await mail() == []

    play(body)


def test_a_plain_process_enters_the_loop() -> None:
    async def plain(parent: Pid) -> None:
        erlang.send(parent, "plain")
        server = Server()
        server.value = "entered"
        enter_loop(server, 50)

    def at_once() -> None:
        server = Server()
        server.value = "at once"
        enter_loop(server)

    async def body() -> None:
        pid = erlang.spawn(plain, erlang.self_())
        assert await erlang.receive() == "plain"
        assert await gen_server.call(pid, "who") == ("Server", "entered")
        assert await gen_server.call(erlang.spawn(at_once), "who") == ("Server", "at once")
        pid = erlang.spawn(plain, erlang.self_())
        await erlang.sleep(60)
        assert await gen_server.call(pid, "who") == ("Server", "timed out")
        await gen_server.stop(pid)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_code_changes_while_suspended_and_the_state_stays() -> None:
    async def body() -> None:
        pid = await Server.start("kept")
        assert (await sys.change_code(pid, Newer))[0] == "error"
        await sys.suspend(pid)
        refused = await sys.change_code(pid, Newer, extra="refuse")
        assert (refused[0], type(refused[1][0])) == ("error", ValueError)
        assert await sys.change_code(pid, Newer, extra="x") == "ok"
        await sys.resume(pid)
        assert await gen_server.call(pid, "who") == ("Newer", ("Server", "x", "kept"))

    play(body)


def test_events_go_to_a_file(tmp_path: Path) -> None:
    async def body() -> None:
        pid = await Server.start(1)
        assert await sys.log_to_file(pid, str(tmp_path / "none" / "x")) == ("error", "open_file")
        assert await sys.log_to_file(pid, str(tmp_path / "log")) == "ok"
        await gen_server.call(pid, "who")
        assert await sys.log_to_file(pid, None) == "ok"
        await gen_server.call(pid, "again")

    play(body)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["in", "out"]
    assert "Call('who')" in lines[0]


def test_collections_of_requests() -> None:
    async def body() -> None:
        ids = request_ids.reqids_new()
        assert await request_ids.receive_response_of(ids) == "no_request"
        one, two = await Server.start(1), await Server.start(2)
        ids = request_ids.send_request_to(one, ("after", 50), "slow", ids)
        ids = request_ids.send_request_to(two, "who", "quick", ids)
        assert request_ids.reqids_size(ids) == 2
        answer, label, ids = await request_ids.receive_response_of(ids, 1000)
        assert (answer, label) == (("reply", ("Server", 2)), "quick")
        assert await request_ids.wait_response_of(ids, 10) == "timeout"
        answer, label, ids = await request_ids.receive_response_of(ids, 1000)
        assert (answer, label, request_ids.reqids_to_list(ids)) == (("reply", "late"), "slow", [])
        request = gen_server.send_request(two, "crash")
        assert request_ids.check_response(request) == "no_reply"
        assert await request_ids.wait_response(gen_server.send_request(one, "silent"), 5) == "timeout"
        status, (reason, dest) = await request_ids.wait_response(request, 100)
        assert (status, type(reason[0]), dest) == ("error", RuntimeError, two)
        with pytest.raises(ValueError, match="already"):
            request_ids.reqids_add(request, 1, request_ids.reqids_add(request, 1, ids))

    play(body)


def test_after_a_timeout_a_collection_is_void_and_late_answers_are_dropped() -> None:
    async def body() -> None:
        server = await Server.start(1)
        ids = request_ids.send_request_to(server, ("after", 20), "late", request_ids.reqids_new())
        assert await request_ids.receive_response_of(ids, 5) == "timeout"
        await erlang.sleep(50)
        assert await mail() == []
        assert request_ids.check_response(gen_server.send_request("nobody", 1)) == (
            "error",
            ("noproc", "nobody"),
        )

    play(body)


# ---- supervisors and tasks


def test_child_specs() -> None:
    async def body() -> None:
        spec = Server.child_spec(5, name="child", restart="transient")
        assert (spec.id, spec.restart, spec.type, spec.modules) == (Server, "transient", "worker", (Server,))
        assert Supervisor.child_spec([], id="sup").type == "supervisor"
        assert supervisor.check_childspecs([spec]) == "ok"
        assert supervisor.check_childspecs([spec, spec]) == ("error", ("duplicate_child_name", Server))
        wrong = ChildSpec(1, (print, ()), restart="often")  # type: ignore[arg-type]
        assert supervisor.check_childspecs([spec, wrong]) == ("error", ("invalid_restart_type", "often"))
        await Supervisor.start_link([spec])
        assert await gen_server.call("child", "who") == ("Server", 5)

    play(body)


def test_partitions_are_fewer_and_more() -> None:
    async def body() -> None:
        await PartitionSupervisor.start_link(Server.child_spec(1), partitions=3, name="parts")
        assert await partition_supervisor.resize("parts", 1) == 3
        assert partition_supervisor.partitions("parts") == 1
        assert (await supervisor.count_children("parts"))["active"] == 1
        for key in range(5):
            assert await gen_server.call(partition_supervisor.via("parts", key), "who")
        assert await partition_supervisor.resize("parts", 3) == 1
        assert (await supervisor.count_children("parts"))["active"] == 3
        for number in (0, 4, True, 1.5):
            with pytest.raises(ValueError, match="expected 1 to 3"):
                await partition_supervisor.resize("parts", number)  # type: ignore[arg-type]

    play(body)


def test_yield_many_with_a_limit_and_ignore() -> None:
    async def body() -> None:
        async def after(ms: float) -> float:
            await erlang.sleep(ms)
            return ms

        tasks = [task.async_(after, ms) for ms in (30, 10, 20)]
        got = await task.yield_many(tasks, 1000, limit=1)
        assert got == [(tasks[0], None), (tasks[1], ("ok", 10)), (tasks[2], None)]
        got = await task.yield_many([tasks[0], tasks[2]], 15, on_timeout="kill_task")
        assert got == [(tasks[0], None), (tasks[2], ("ok", 20))]
        assert not erlang.is_process_alive(tasks[0].pid)
        left = task.async_(after, 5)
        assert await task.ignore(left) is None
        done = task.async_(after, 0)
        await erlang.sleep(20)
        assert await task.ignore(done) == ("ok", 0)
        assert all(
            isinstance(message, ExitMessage) for message in await mail()
        )  # of the tasks that were not ignored
        with pytest.raises(ValueError, match="limit"):
            await task.yield_many([], 1, limit=0)

    play(body)


def test_a_stream_without_a_supervisor_and_with_its_inputs() -> None:
    async def body() -> None:
        async def half(number: int) -> float:
            if number == 0:
                raise Exit("zero")
            return number / 2

        stream = task_supervisor.async_stream(
            None, [4, 0, 2], half, max_concurrency=2, zip_input_on_exit=True
        )
        assert [result async for result in stream] == [("ok", 2.0), ("exit", (0, "zero")), ("ok", 1.0)]

    play(body)


# ---- registry


def test_what_elixirs_registry_has() -> None:
    async def body() -> None:
        me = erlang.self_()
        registry = Registry("duplicate", name="reg", listeners=[me], partitions=4)
        registry.register("k", (1, "a"))
        registry.register("k", (2, "b"))
        registry.register(1, "one")
        assert registry.match("k", (ANY, "a")) == [(me, (1, "a"))]
        assert registry.match("k", (1.0, ANY)) == []
        assert registry.count_match("k", ANY, lambda value: value[0] > 1) == 1
        assert registry.values("k", me) == [(1, "a"), (2, "b")]
        assert registry.select((ANY, ANY, (ANY, "b")), body=lambda key, _pid, value: (key, value)) == [
            ("k", (2, "b"))
        ]
        assert registry.count_select((1, ANY, ANY)) == 1
        assert await registry.lock("k", lambda: 7) == 7
        registry.unregister_match("k", (1, ANY))
        assert registry.keys(me) == ["k", 1]
        assert await mail() == [
            ("register", "reg", "k", me, (1, "a")),
            ("register", "reg", "k", me, (2, "b")),
            ("register", "reg", 1, me, "one"),
            ("unregister", "reg", "k", me),
        ]
        unique = Registry()
        pid = await Server.start(1, name=unique.via("name", "value"))
        assert unique.lookup("name") == [(pid, "value")]
        assert await gen_server.call(unique.via("name"), "who") == ("Server", 1)
        erlang.exit(pid, "kill")
        assert unique.count() == 0
        for partitions in (0, True, "2"):
            with pytest.raises(ValueError, match="partitions"):
                Registry(partitions=partitions)  # type: ignore[arg-type]
        with pytest.raises(Error):
            unique.register("x", pid=pid)

    play(body)
