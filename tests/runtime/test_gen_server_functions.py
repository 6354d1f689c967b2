"""What few servers need: start_monitor, enter_loop, code changes, a log, collections of requests, endless continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime import Down, GenServer, Pid, StartError, erlang, gen_server, request_ids, sys
from runtime.otp.gen_server import NoReply, Ok, Reply, Stop, call, enter_loop
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


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


class Countdown(GenServer):
    """Continues with itself, `how` says which steps are coroutines."""

    def init(self, start: int, how: str) -> Ok:
        self.how = how
        return Ok(continue_=start)

    def handle_continue(self, continue_: int) -> Any:
        self.left = continue_
        if self.how == "async" or (self.how == "mixed" and continue_ % 2):
            return self._later(continue_)
        return NoReply(continue_=continue_ - 1) if continue_ > 1 else None

    async def _later(self, left: int) -> Any:
        return NoReply(continue_=left - 1) if left > 1 else None

    def handle_call(self, request: Any, from_: Any) -> Reply:
        return Reply(self.left)


@pytest.mark.parametrize("how", ["sync", "async", "mixed"])
def test_a_server_continues_as_often_as_it_likes(play: Any, how: str) -> None:
    async def body() -> None:
        pid = await Countdown.start(5000, how)
        assert await call(pid, "left") == 1

    play(body)
