"""OTP's `gen_event`."""

from __future__ import annotations

from typing import Any

from runtime import erlang, gen_event
from runtime.otp.gen_event import EventHandler, RemoveHandler, SwapHandler
from runtime.otp.gen_server import Reply
from runtime.testing.simulation import play


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


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
        kind, handler, (_exit, (error, _stack)) = await erlang.receive()
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
