"""Requests whose answer is fetched later: to oneself, and what an error names."""

from __future__ import annotations

from typing import Any

from runtime.otp import erlang
from runtime.otp.callback import NoReply, Reply, Stop
from runtime.otp.gen_server import GenServer, call, receive_response, send_request


class Server(GenServer):
    """Answers, asks itself, or stops."""

    def init(self) -> None:
        self.asked: Any = None

    async def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "ask yourself":
                self.asked = send_request(erlang.self_(), "inner")
                self.outer = from_
                return NoReply(continue_="wait")
            case "inner":
                return Reply("from myself")
            case "fetch":
                return Reply(await receive_response(self.asked, 1_000))
        return Stop("why")

    def handle_continue(self, continue_: Any) -> None:
        self.outer.answer("asked")


def test_a_request_to_oneself_is_answered_later(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start()
        assert await call(pid, "ask yourself") == "asked"
        assert await call(pid, "fetch") == ("reply", "from myself")

    play(body)


def test_an_error_names_the_process_that_had_the_name_and_the_name_if_nobody_had_it(play: Any) -> None:
    async def body() -> None:
        pid = await Server.start(name="server")
        assert await receive_response(send_request("server", "stop")) == ("error", ("why", pid))
        assert await receive_response(send_request("server", "stop")) == ("error", ("noproc", "server"))

    play(body)
