"""gen_event held against Erlang/OTP 25: what handlers, callers and supervisors of handlers hear, asked of `erl` case by case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime import TIMEOUT, Error, Exit, Pid, Throw, erlang, gen_event, request_ids
from runtime.core.exits import Stack
from runtime.otp.gen_event import EventHandler, RemoveHandler, SwapHandler
from runtime.otp.gen_server import Reply
from runtime.testing.simulation import play

RAISES: dict[str, Callable[[Any], Exception]] = {"error": Error, "exit": Exit, "throw": Throw}
CRASHED = ("EXIT", ("boom", "stack"))


class Handler(EventHandler):
    """Does what the event says, and tells its owner what it hears."""

    def init(self, args: Any) -> Any:
        match args:
            case (("new", id, owner), last):
                erlang.send(owner, ("init2", id, last))
                self.id, self.owner = id, owner
            case ("crash", kind):
                raise RAISES[kind]("boom")
            case "ignore_me":
                return "nope"
            case (id, owner):
                self.id, self.owner = id, owner
        return None

    def act(self, event: Any, reply: Any = None) -> Any:
        match event:
            case ("raise", kind):
                raise RAISES[kind]("boom")
            case "bad":
                return "bad_result"
            case "remove":
                return RemoveHandler("removed")
            case ("swap", id):
                return SwapHandler("swap_arg", (Handler, id), ("new", id, self.owner), "swapped")
        if reply is None:
            erlang.send(self.owner, ("heard", self.id, event))
        return reply

    def handle_event(self, event: Any) -> Any:
        return self.act(event)

    def handle_info(self, message: Any) -> Any:
        return self.act(message)

    def handle_call(self, request: Any) -> Any:
        return self.act(request, Reply(("answer", self.id, request)))

    def terminate(self, arg: Any) -> Any:
        erlang.send(self.owner, ("terminate", self.id, plain(arg)))
        if self.id == "bad_end":
            raise Error("last")
        return ("last", self.id)


def plain(value: Any) -> Any:
    """Handlers by their ids, stacks and pids by a word."""
    match value:
        case type():
            return "plain"
        case (type(), id):
            return id
        case tuple():
            return tuple(map(plain, value))
        case list():
            return [plain(item) for item in value]
        case Stack():
            return "stack"
        case Pid():
            return True
    return value


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=30)) is not TIMEOUT:
        got.append(plain(message))
    return got


async def add(manager: Pid, id: str) -> Any:
    return await gen_event.add_handler(manager, (Handler, id), (id, erlang.self_()))


async def sup_add(manager: Pid, id: str) -> Any:
    return await gen_event.add_sup_handler(manager, (Handler, id), (id, erlang.self_()))


async def which(manager: Pid) -> list[Any]:
    return plain(await gen_event.which_handlers(manager))


def held(case: Callable[[Pid], Awaitable[Any]], expected: Any) -> None:
    async def body() -> None:
        erlang.trap_exit(False)
        manager = await gen_event.start()
        assert manager is not None
        assert plain(await case(manager)) == expected

    play(body)


SWAPPED = ("gen_event_EXIT", "a", ("swapped", "c", True))
ENDS = [  # of the two handlers: what each ends with, what the supervisor of the older one hears
    (("raise", "error"), ("error", CRASHED), CRASHED),
    (("raise", "exit"), ("error", ("EXIT", "boom")), ("EXIT", "boom")),
    (("raise", "throw"), ("error", "boom"), "boom"),
    ("bad", ("error", "bad_result"), "bad_result"),
    ("remove", "remove_handler", "normal"),
]


@pytest.mark.parametrize("event, last, told", ENDS, ids=str)
def test_a_handler_goes_and_its_supervisor_hears_of_it(event: Any, last: Any, told: Any) -> None:
    async def by_event(manager: Pid) -> Any:
        await sup_add(manager, "a")
        await add(manager, "b")
        return [await gen_event.sync_notify(manager, event), await which(manager), await mail()]

    async def by_message(manager: Pid) -> Any:
        await sup_add(manager, "a")
        erlang.send(manager, event)
        got = await mail()
        return [await which(manager), got]

    async def by_call(manager: Pid) -> Any:
        await sup_add(manager, "a")
        answer = await gen_event.call(manager, (Handler, "a"), event)
        return [answer, await which(manager), await mail()]

    one = [("terminate", "a", last), ("gen_event_EXIT", "a", told)]
    held(by_event, ["ok", [], [("terminate", "b", last), *one]])
    held(by_message, [[], one])
    held(by_call, ["removed" if event == "remove" else last, [], one])


def test_a_handler_swaps_itself() -> None:
    async def by_event(manager: Pid) -> Any:
        await sup_add(manager, "a")
        await add(manager, "b")
        return [await gen_event.sync_notify(manager, ("swap", "c")), await which(manager), await mail()]

    async def by_message(manager: Pid) -> Any:
        await sup_add(manager, "a")
        erlang.send(manager, ("swap", "c"))
        got = await mail()
        return [await which(manager), got]

    async def by_call(manager: Pid) -> Any:
        await sup_add(manager, "a")
        answer = await gen_event.call(manager, (Handler, "a"), ("swap", "c"))
        return [answer, await which(manager), await mail()]

    one = [("terminate", "a", "swap_arg"), SWAPPED, ("init2", "c", ("last", "a"))]
    other = [("terminate", "b", "swap_arg"), ("init2", "c", ("last", "b"))]
    held(by_event, ["ok", ["c", "c"], [*other, *one]])
    held(by_message, [["c"], one])
    held(by_call, ["swapped", ["c"], one])


def test_handlers_that_do_not_start_and_one_that_is_there_twice() -> None:
    async def wrong(manager: Pid) -> Any:
        results = [await gen_event.add_handler(manager, Handler, ("crash", kind)) for kind in RAISES]
        return [*results, await gen_event.add_handler(manager, Handler, "ignore_me"), await which(manager)]

    async def twice(manager: Pid) -> Any:
        return [await add(manager, "a"), await add(manager, "a"), await which(manager), await mail()]

    held(wrong, [CRASHED, ("EXIT", "boom"), "boom", "nope", []])
    held(twice, ["ok", "ok", ["a", "a"], []])


def test_handlers_are_deleted_and_swapped_from_outside() -> None:
    async def delete(manager: Pid) -> Any:
        await sup_add(manager, "a")
        results = [await gen_event.delete_handler(manager, (Handler, "a"), "arg") for _ in range(2)]
        return [*results, await which(manager), await mail()]

    async def delete_bad_end(manager: Pid) -> Any:
        await sup_add(manager, "bad_end")
        return [
            await gen_event.delete_handler(manager, (Handler, "bad_end"), "arg"),
            await which(manager),
            await mail(),
        ]

    def swap(first: Callable[[Pid, str], Awaitable[Any]] | None, by: Any = gen_event.swap_handler) -> Any:
        async def case(manager: Pid) -> Any:
            if first is not None:
                await first(manager, "a")
            new = ((Handler, "b"), ("new", "b", erlang.self_()))
            result = await by(manager, ((Handler, "a"), "args1"), new)
            return [result, await which(manager), await mail()]

        return case

    told = ("gen_event_EXIT", "a", ("swapped", "b", True))
    held(
        delete,
        [
            ("last", "a"),
            ("error", "module_not_found"),
            [],
            [("terminate", "a", "arg"), ("gen_event_EXIT", "a", "normal")],
        ],
    )
    held(delete_bad_end, [("EXIT", ("last", "stack")), [],
                          [("terminate", "bad_end", "arg"), ("gen_event_EXIT", "bad_end", "normal")]])  # fmt: skip
    held(swap(sup_add), ["ok", ["b"], [("terminate", "a", "args1"), told, ("init2", "b", ("last", "a"))]])
    held(
        swap(add, gen_event.swap_sup_handler),
        ["ok", ["b"], [("terminate", "a", "args1"), ("init2", "b", ("last", "a"))]],
    )
    held(swap(None), ["ok", ["b"], [("init2", "b", "error")]])


def test_the_ends_of_managers_and_supervisors_of_handlers() -> None:
    async def stop(manager: Pid) -> Any:
        await sup_add(manager, "a")
        await add(manager, "b")
        await gen_event.stop(manager)
        return await mail()

    async def stop_reason(manager: Pid) -> Any:
        await sup_add(manager, "a")
        await gen_event.stop(manager, "boom")
        return await mail()

    async def exit_of_its_supervisor(manager: Pid) -> Any:
        await sup_add(manager, "a")
        erlang.exit(manager, "boom")
        got = await mail()
        return [erlang.is_process_alive(manager), got]

    def supervisor_dies(reason: Any) -> Any:
        async def case(manager: Pid) -> Any:
            owner = erlang.self_()

            async def supervisor() -> None:
                await gen_event.add_sup_handler(manager, (Handler, "s"), ("s", owner))
                raise Exit(reason)

            erlang.spawn(supervisor)
            got = await mail()
            return [await which(manager), got]

        return case

    one = [("terminate", "a", "stop"), ("gen_event_EXIT", "a", "shutdown")]
    held(stop, [("terminate", "b", "stop"), *one])
    held(stop_reason, one)
    held(
        exit_of_its_supervisor,
        [True, [("terminate", "a", ("stop", "boom")), ("gen_event_EXIT", "a", "shutdown")]],
    )
    for reason in ("bye", "normal"):
        held(supervisor_dies(reason), [[], [("terminate", "s", ("stop", reason))]])


def test_calls_and_requests() -> None:
    async def case(manager: Pid) -> Any:
        await add(manager, "a")
        await add(manager, "b")
        gen_event.notify(manager, "e")
        here, nobody = (
            gen_event.send_request(manager, handler, "q") for handler in ((Handler, "a"), "nobody")
        )
        answers = [await request_ids.wait_response(request, 100) for request in (here, nobody)]
        return [await gen_event.call(manager, "nobody", "x"), answers, await which(manager), await mail()]

    async def monitored(_: Pid) -> Any:
        started = await gen_event.start_monitor(name="events")
        assert started is not None
        await gen_event.stop("events", "boom")
        down = await erlang.receive(timeout=30)
        return [down.ref is started[1], down.reason]

    held(case, [("error", "bad_module"), [("reply", ("answer", "a", "q")), ("reply", ("error", "bad_module"))], ["b", "a"],
                [("heard", "b", "e"), ("heard", "a", "e")]])  # fmt: skip
    held(monitored, [True, "boom"])
