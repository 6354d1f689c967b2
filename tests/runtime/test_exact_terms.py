"""Erlang's `=:=` where terms are compared: 1, True and 1.0 are three states, timeouts, handlers and keys."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import GenServer, StateMachine, erlang, gen_event, gen_server, sys
from runtime.otp.exact_key import exact, same
from runtime.otp.gen_event import EventHandler
from runtime.otp.gen_server import Reply
from runtime.otp.partition_supervisor import partition_of
from runtime.otp.state_machine import CancelTimeout, GenericTimeout, InitialState, KeepState, NextState
from runtime.testing.simulation import play

TERMS: tuple[Any, ...] = (1, True, 1.0, (1,), (True,), (1.0,))


@pytest.mark.parametrize(
    "term", [*TERMS, "1", None, b"1", [1], [True], {"a": 1}, {"a": True}, [(1,)], [[1.0]]]
)
def test_a_term_is_the_same_as_itself_alone(term: Any) -> None:
    others = [*TERMS, "1", None, b"1", [1], [True], {"a": 1}, {"a": True}, {"b": 1}, [1, 1], [(1,)], [[1.0]]]
    assert [other for other in others if same(term, other)] == [term]
    assert [repr(other) for other in others if same(term, other)] == [repr(term)]


def test_terms_may_be_nested_without_end() -> None:
    left: Any = []
    right: Any = []
    for _ in range(100_000):
        left, right = [left], [right]
    assert same(left, right) and not same(left, [right])


def test_keys_agree_with_terms() -> None:
    for left in TERMS:
        for right in TERMS:
            assert (exact(left) == exact(right)) is same(left, right)


class Machine(StateMachine):
    callback_mode = "handle_event_function"
    state_enter = True

    def init(self) -> Any:
        self.entered: list[Any] = []
        self.expired: list[Any] = []
        return InitialState(1)

    def handle_event(self, event: Any, content: Any, state: Any) -> Any:
        match event:
            case "enter":
                self.entered.append((content, state))
            case ("timeout", name):
                self.expired.append(name)
            case "cast":
                return content
        return None


def test_a_state_that_is_merely_equal_is_another_state() -> None:
    async def body() -> None:
        pid = await Machine.start()
        for state in (True, 1.0, 1.0, (1,), (True,), (True,)):
            gen_server.cast(pid, NextState(state))
        await erlang.sleep(1)
        entered = pid.cell.actor.entered
        # As repr: 1 == True.
        assert repr(entered) == repr([(1, 1), (1, True), (True, 1.0), (1.0, (1,)), ((1,), (True,))])

    play(body)


def test_timeouts_by_names_that_are_equal_are_several() -> None:
    async def body() -> None:
        pid = await Machine.start()
        gen_server.cast(pid, KeepState(*[GenericTimeout(name, 5, None) for name in TERMS]))
        gen_server.cast(pid, KeepState(CancelTimeout(("timeout", True))))
        await erlang.sleep(10)
        assert sorted(map(repr, pid.cell.actor.expired)) == sorted(
            repr(name) for name in TERMS if name is not True
        )

    play(body)


class Handler(EventHandler):
    def init(self, args: Any) -> None:
        self.args = args

    def handle_event(self, event: Any) -> None:
        pass

    def handle_call(self, request: Any) -> Any:
        return Reply(repr(self.args))


def test_handlers_of_equal_ids_are_several() -> None:
    async def body() -> None:
        manager = await gen_event.start()
        for id in TERMS:
            assert await gen_event.add_handler(manager, (Handler, id), id) == "ok"
        assert [await gen_event.call(manager, (Handler, id), None) for id in TERMS] == list(map(repr, TERMS))
        await gen_event.delete_handler(manager, (Handler, 1.0), "enough")
        left = [repr(id) for _, id in await gen_event.which_handlers(manager)]
        assert left == [repr(id) for id in reversed(TERMS) if repr(id) != "1.0"]

    play(body)


class Server(GenServer):
    def init(self) -> None:
        pass

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply("ok")


def test_traces_under_equal_keys_are_several() -> None:
    async def body() -> None:
        pid = await Server.start()
        for key in (1, True):
            await sys.trace(pid, None, erlang.self_(), key=key)
        await sys.remove(pid, True)
        await gen_server.call(pid, "x")
        assert [(await erlang.receive()).kind for _ in range(2)] == ["in", "out"]
        assert await erlang.receive(timeout=0) is erlang.TIMEOUT

    play(body)


def test_a_truth_value_is_no_number_of_a_partition() -> None:
    assert partition_of(5, 4) == partition_of(-5, 4) == 1
    assert partition_of(True, 1000) != 1 and partition_of(False, 1000) != 0
