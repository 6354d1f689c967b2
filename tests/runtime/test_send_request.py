"""Requests whose answer is fetched later: to oneself, what an error names, and answers that nobody fetches."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import Exit
from runtime.core.pid import Ref
from runtime.otp import erlang
from runtime.otp.callback import NoReply, Reply, Stop
from runtime.otp.gen_server import GenServer, call, receive_response, send_request, wait_response
from runtime.otp.request_ids import receive_response_of, reqids_new, send_request_to


class Server(GenServer):
    """Answers, asks itself, or stops."""

    async def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "ask yourself":
                send_request(erlang.self_(), "inner")
                self.outer = from_
                return NoReply()
            case "inner":
                return Reply("from myself")
            case "never":
                return NoReply()
        return Stop("why")

    def handle_info(self, message: Any) -> None:
        self.outer.answer(message)


def test_a_request_to_oneself_is_answered_later(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        match await call(pid, "ask yourself"):  # the answer comes as any message of a server that goes on
            case (("alias", Ref()), "from myself"):
                return
            case other:
                raise AssertionError(other)

    play(body)


def test_an_error_names_the_process_that_had_the_name_and_the_name_if_nobody_had_it(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start(name="server")
        assert await receive_response(send_request("server", "stop")) == ("error", ("why", pid))
        assert await receive_response(send_request("server", "stop")) == ("error", ("noproc", "server"))

    play(body)


async def mail() -> list[Any]:
    """All that has come, after a call behind it."""
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


def test_an_answer_that_nobody_waits_for_is_a_message(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        send_request(pid, "inner")
        assert await call(pid, "inner") == "from myself"
        ((word, _ref), answer) = (await mail())[0]
        assert (word, answer) == ("alias", "from myself")
        send_request(pid, "stop")
        await erlang.await_down(pid)
        (down,) = await mail()
        assert isinstance(down, erlang.Down) and (down.pid, down.reason) == (pid, "why")
        send_request("nobody", "inner")
        (down,) = await mail()
        assert (down.pid, down.reason) == (("nobody", pid.cell.engine.node_name), "noproc")

    play(body)


@pytest.mark.parametrize("fetch", [receive_response, wait_response, None])
def test_an_answer_that_is_fetched_is_no_message(play: Any, fetch: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        request = send_request(pid, "inner")
        assert await call(pid, "inner") == "from myself"  # it has come by now
        if fetch is None:
            assert await request == "from myself"
        else:
            assert await fetch(request, 1000) == ("reply", "from myself")
        assert await mail() == []

    play(body)


def test_an_answer_that_was_received_as_a_message_is_gone(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        request = send_request(pid, "inner")
        assert await call(pid, "inner") == "from myself"
        assert len(await mail()) == 1
        assert await wait_response(request, 1) is erlang.TIMEOUT

    play(body)


@pytest.mark.parametrize("fetch", [receive_response, wait_response])
def test_who_waits_for_an_answer_again_waits_in_vain(play: Any, fetch: Any) -> None:
    """OTP waits until the time is over: nothing says that the answer was received."""

    async def body() -> None:
        pid = await Server.start()
        waited, unread = send_request(pid, "inner"), send_request(pid, "inner")
        assert await fetch(waited, 1000) == await fetch(unread, 1000) == ("reply", "from myself")
        void = send_request(pid, "never")
        begin = erlang.monotonic_time()
        assert await receive_response(void, 10) is erlang.TIMEOUT
        for again in (waited, unread, void):
            assert await fetch(again, 10) is erlang.TIMEOUT
        assert erlang.monotonic_time() - begin >= 39 and await mail() == []

    play(body)


def test_an_answer_comes_to_who_asked_alone(play: Any) -> None:
    async def body() -> None:
        pid, me = await Server.start(), erlang.self_()
        request = send_request(pid, "inner")

        async def other() -> None:
            erlang.send(me, await receive_response(request, 10))

        erlang.spawn(other)
        assert await erlang.receive(lambda mail: mail is erlang.TIMEOUT)
        assert await receive_response(request) == ("reply", "from myself")

    play(body)


def test_of_several_answers_each_is_fetched_once(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        ids = reqids_new()
        for label in "abc":
            ids = send_request_to(pid, "inner", label, ids)
        labels = []
        for _ in "abc":
            (_response, label, ids) = await receive_response_of(ids, 1000)
            labels.append(label)
        assert labels == ["a", "b", "c"] and await mail() == []

    play(body)


def test_a_request_is_a_monitor_of_its_sender_until_it_is_answered(play: Any) -> None:
    """As `process_info(Pid, monitors)` says in OTP, which monitors the server of a request."""

    def monitors() -> Any:
        pair = erlang.process_info(erlang.self_(), "monitors")
        assert pair is not None
        return pair[1]

    async def body() -> None:
        pid = await Server.start()
        first, second = send_request(pid, "inner"), send_request(pid, "never")
        assert monitors() == [pid, pid]
        assert await receive_response(first) == ("reply", "from myself")
        assert monitors() == [pid]
        assert await wait_response(second, 1) is erlang.TIMEOUT
        assert monitors() == [pid]
        assert await receive_response(second, 1) is erlang.TIMEOUT
        assert monitors() == []
        unread, awaited = send_request(pid, "inner"), send_request(pid, "inner")
        assert await awaited == "from myself"
        assert monitors() == []
        assert len(await mail()) == 1
        assert unread is not None
        send_request(pid, "never")
        await erlang.sleep(1)
        erlang.exit(pid, "kill")
        await erlang.sleep(1)
        assert monitors() == []

    play(body)


def test_a_request_of_a_process_that_has_ended_is_answered_to_nobody(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()

        def asks() -> None:
            send_request(pid, "inner")
            raise Exit("gone")

        asker, ref = erlang.spawn_monitor(asks)
        assert await erlang.receive() == erlang.Down(ref, asker, "gone")
        assert await call(pid, "inner") == "from myself"

    play(body)


def test_who_looks_without_waiting_sees_what_is_there_and_others_have_their_turns(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        request = send_request(pid, "inner")
        assert await wait_response(request, 0) is erlang.TIMEOUT
        while (answer := await wait_response(request, 0)) is erlang.TIMEOUT:
            pass
        assert answer == ("reply", "from myself")

    play(body)
