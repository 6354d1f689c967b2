"""The process dictionary against Erlang/OTP 25 and Elixir 1.14: put, get, get_keys, erase, `$ancestors` and `$callers`."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import ChildSpec, Error, GenServer, Supervisor, erlang, gen_server, proc_lib, task
from runtime.otp.gen_server import Reply
from runtime.testing.simulation import play


class Server(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply(erlang.put("seen", request))


def test_put_get_and_erase() -> None:
    async def body() -> None:
        assert erlang.get() == [] and erlang.get("k") is None
        assert erlang.put("k", 1) is None
        assert erlang.put("k", 2) == 1
        assert (
            erlang.put(1, "one") is None
            and erlang.put(True, "yes") is None
            and erlang.put(1.0, "float") is None
        )
        assert erlang.get(1) == "one" and erlang.get(True) == "yes"
        assert erlang.get() == [("k", 2), (1, "one"), (True, "yes"), (1.0, "float")]
        assert erlang.get_keys() == ["k", 1, True, 1.0] and erlang.get_keys("yes") == [True]
        assert erlang.erase("k") == 2 and erlang.erase("k") is None
        assert len(erlang.erase()) == 3 and erlang.get() == []
        with pytest.raises(TypeError):
            erlang.put([], 1)

    play(body)


def test_each_process_has_its_own_and_others_see_it() -> None:
    async def keeps() -> None:
        erlang.put("mine", 1)
        await erlang.receive()

    async def body() -> None:
        erlang.put("mine", 0)
        pid = erlang.spawn(keeps)
        await erlang.sleep(1)
        assert erlang.process_info(pid, "dictionary") == ("dictionary", [("mine", 1)])
        assert erlang.get("mine") == 0
        erlang.exit(pid, "kill")
        assert erlang.process_info(pid, "dictionary") is None
        with pytest.raises(Error):
            erlang.process_info(erlang.self_(), "dictionry")

    play(body)


def test_a_server_keeps_it_from_call_to_call() -> None:
    async def body() -> None:
        pid = await Server.start()
        assert await gen_server.call(pid, "a") is None
        assert await gen_server.call(pid, "b") == "a"

    play(body)


def test_ancestors_are_names_or_pids() -> None:
    async def acknowledges() -> None:
        proc_lib.init_ack(("ok", erlang.get("$ancestors")))

    async def body() -> None:
        sup = await Supervisor.start_link([ChildSpec("s", (Server.start_link, ()))], name="sup")
        [server] = [pid for pid in erlang.process_info(sup, "links")[1] if pid is not erlang.self_()]  # type: ignore[index]
        assert erlang.process_info(server, "dictionary") == (
            "dictionary",
            [("$ancestors", ["sup", erlang.self_()])],
        )
        assert await proc_lib.start_link(acknowledges) == ("ok", [erlang.self_()])

    play(body)


def test_a_task_knows_its_callers() -> None:
    async def inner() -> Any:
        return erlang.get("$callers")

    async def outer() -> Any:
        return erlang.self_(), await task.async_(inner)

    async def body() -> None:
        pid, callers = await task.async_(outer)
        assert callers == [pid, erlang.self_()]

    play(body)


def test_outside_of_processes_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        erlang.put("k", 1)
