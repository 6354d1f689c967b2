"""StateMachine against gen_statem: the expected logs are what Erlang/OTP 25's gen_statem printed for the same script."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import CallSite, Exit, Stack, Throw, error
from runtime.otp import erlang
from runtime.otp import state_machine as sm
from runtime.otp.gen_server import StartError
from runtime.otp.state_machine import (
    CancelTimeout,
    EventTimeout,
    GenericTimeout,
    Ignore,
    InitialState,
    KeepState,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    ReplyAction,
    StateMachine,
    StateTimeout,
    Stop,
    StopAndReply,
    UpdateTimeout,
)


class Scripted(StateMachine):
    """Does what its messages say, logs all it sees."""

    state_enter = True

    def init(self, log: list[Any]) -> Any:
        self.log = log
        return InitialState(
            "a",
            StateTimeout(0, "s0"),
            EventTimeout(0, "e0"),
            GenericTimeout("g", 0, "g0"),
            NextEvent("internal", "i1"),
            NextEvent("internal", "i2"),
        )

    def a(self, event: Any, content: Any) -> Any:
        return self.both("a", event, content)

    async def b(self, event: Any, content: Any) -> Any:
        await erlang.sleep(0)  # one state's function is a coroutine, all else must be the same
        return self.both("b", event, content)

    def both(self, state: str, event: Any, content: Any) -> Any:
        match event, content:
            case "enter", old:
                self.log.append((state, "enter", old))
                return KeepState(EventTimeout(0, ("ee", state)))
            case ("call", from_), "stop":
                return StopAndReply("normal", ReplyAction(from_, "bye"))
            case ("call", _), "bad":
                return "bad"
            case ("call", from_), "bad_action":
                return KeepState(ReplyAction(from_, 1), "foo")  # type: ignore[arg-type]
            case ("call", _), "throw":
                raise Throw(Stop("thrown"))
            case ("call", _), "crash":
                error("boom")
            case ("call", from_), _:
                return KeepState(ReplyAction(from_, state))
            case "cast", "postpone":
                self.log.append((state, "cast", "postpone"))
                return KeepState(Postpone()) if state == "a" else None
            case "cast", (NextState() | KeepState() | RepeatState()) as result:
                self.log.append((state, "cast", type(result).__name__))
                return result
            case _:
                self.log.append((state, event, content))
        return None

    def terminate(self, reason: Any) -> None:
        self.log.append(("terminate", reason, self.state))


START = [
    ("a", "enter", "a"),
    ("a", "internal", "i1"),
    ("a", "internal", "i2"),
    ("a", "state_timeout", "s0"),
    ("a", ("timeout", "g"), "g0"),
]


async def started() -> tuple[Any, list[Any]]:
    log: list[Any] = []
    pid = await Scripted.start_link(log)
    await erlang.sleep(5)
    assert log == START
    log.clear()
    return pid, log


def test_postponed_events_come_after_inserted_ones_and_before_zero_timeouts(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, "postpone")
        actions = (NextEvent("internal", "n1"), StateTimeout(0, "st"), NextEvent("internal", "n2"))
        sm.cast(pid, NextState("b", *actions))
        await erlang.sleep(20)
        assert log == [
            ("a", "cast", "postpone"),
            ("a", "cast", "NextState"),
            ("b", "enter", "a"),
            ("b", "internal", "n1"),
            ("b", "internal", "n2"),
            ("b", "cast", "postpone"),
            ("b", "state_timeout", "st"),
        ]

    play(body)


def test_repeat_state_enters_again_but_retries_nothing_and_keeps_the_state_timeout(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, NextState("b"))
        sm.cast(pid, NextState("a", StateTimeout(300, "st30")))
        await erlang.sleep(5)
        log.clear()
        sm.cast(pid, "postpone")
        sm.cast(pid, RepeatState())
        await erlang.sleep(600)
        assert log == [
            ("a", "cast", "postpone"),
            ("a", "cast", "RepeatState"),
            ("a", "enter", "a"),
            ("a", "timeout", ("ee", "a")),
            ("a", "state_timeout", "st30"),
        ]
        log.clear()
        sm.cast(pid, NextState("a"))  # the same state is no change: no enter call
        await erlang.sleep(5)
        assert log == [("a", "cast", "NextState")]

    play(body)


def test_state_change_cancels_the_state_timeout_but_not_the_generic_one(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, KeepState(StateTimeout(20, "st"), GenericTimeout("g", 20, "ge")))
        sm.cast(pid, NextState("b"))
        await erlang.sleep(60)
        assert log == [
            ("a", "cast", "KeepState"),
            ("a", "cast", "NextState"),
            ("b", "enter", "a"),
            ("b", "timeout", ("ee", "b")),
            ("b", ("timeout", "g"), "ge"),
        ]

    play(body)


@pytest.mark.parametrize(
    ("actions", "seen"),
    [
        # None runs: it fires at once.
        ([UpdateTimeout("state_timeout", "upd")], [("a", "state_timeout", "upd")]),
        ([StateTimeout(20, "one"), UpdateTimeout("state_timeout", "two")], [("a", "state_timeout", "two")]),
        ([StateTimeout(20, "one"), CancelTimeout("state_timeout")], []),
        ([StateTimeout(20, "one"), StateTimeout(None)], []),
        ([StateTimeout(10, "one"), StateTimeout(20, "two")], [("a", "state_timeout", "two")]),
        (
            [EventTimeout(0, "ev"), StateTimeout(0, "st"), GenericTimeout("g", 0, "ge")],
            [("a", "timeout", "ev"), ("a", "state_timeout", "st"), ("a", ("timeout", "g"), "ge")],
        ),
        # an event timeout is void once any other event comes, a timeout of time 0 included
        (
            [StateTimeout(0, "st"), EventTimeout(0, "ev"), GenericTimeout("g", 0, "ge")],
            [("a", "state_timeout", "st"), ("a", ("timeout", "g"), "ge")],
        ),
        ([EventTimeout(0, "ev"), NextEvent("internal", "x")], [("a", "internal", "x")]),
        ([EventTimeout(20, "ev")], [("a", "timeout", "ev")]),
    ],
)
def test_timeout_actions(play: Any, actions: list[Any], seen: list[Any]) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, KeepState(*actions))
        await erlang.sleep(50)
        assert log == [("a", "cast", "KeepState"), *seen]

    play(body)


def test_mail_ends_the_wait_for_an_event_timeout(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, KeepState(EventTimeout(20, "ev"), GenericTimeout("g", 20, "ge")))
        erlang.send(pid, "hi")
        await erlang.sleep(50)
        assert log == [("a", "cast", "KeepState"), ("a", "info", "hi"), ("a", ("timeout", "g"), "ge")]

    play(body)


def test_zero_timeouts_come_before_mail_that_waits(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        sm.cast(pid, KeepState(StateTimeout(0, "st")))
        sm.cast(pid, KeepState())
        await erlang.sleep(20)
        assert log == [("a", "cast", "KeepState"), ("a", "state_timeout", "st"), ("a", "cast", "KeepState")]

    play(body)


def test_call_reply_and_stop_and_reply(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        assert await sm.call(pid, "which") == "a"
        assert await sm.call(pid, "stop") == "bye"
        assert await erlang.receive(timeout=1000) == erlang.ExitMessage(pid, "normal")
        assert log == [("terminate", "normal", "a")]
        with pytest.raises(Exit) as exit_:
            await sm.call(pid, "x")
        assert exit_.value.reason == ("noproc", CallSite("gen_statem", "call", (pid, "x", None)))

    play(body)


@pytest.mark.parametrize(
    ("request_", "told", "stack"),
    [
        ("bad", ("bad_return_from_state_function", "bad"), True),
        ("crash", "boom", True),
        ("throw", "thrown", False),
    ],
)
def test_failing_callbacks_end_it_after_terminate(play: Any, request_: str, told: Any, stack: bool) -> None:
    async def body() -> None:
        pid, log = await started()
        with pytest.raises(Exit) as exit_:
            await sm.call(pid, request_)
        reason = exit_.value.reason[0]
        if stack:
            assert isinstance(reason[1], Stack)
            assert reason[0] == told
        else:
            assert reason == told
        assert (await erlang.receive(timeout=1000)).reason == reason
        assert log == [("terminate", told, "a")]

    play(body)


def test_replies_before_a_bad_action_are_sent(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        assert await sm.call(pid, "bad_action") == 1
        assert (await erlang.receive(timeout=1000)).reason[0] == ("bad_action_from_state_function", "foo")
        assert log == [("terminate", ("bad_action_from_state_function", "foo"), "a")]

    play(body)


def test_stop_from_outside(play: Any) -> None:
    async def body() -> None:
        pid, log = await started()
        await sm.stop(pid, "foo", 1000)
        assert log == [("terminate", "foo", "a")]
        assert await erlang.receive(timeout=1000) == erlang.ExitMessage(pid, "foo")

    play(body)


class Handler(StateMachine):
    """handle_event with states that are no strings."""

    callback_mode = "handle_event_function"

    def init(self, how: str) -> Any:
        match how:
            case "ok":
                return InitialState(("count", 0))
            case "ignore":
                return Ignore()
            case "stop":
                return Stop("no")
        return how

    def handle_event(self, event: Any, content: Any, state: Any) -> Any:
        match event, content, state:
            case "cast", "up", ("count", n):
                return NextState(("count", n + 1))
            case ("call", from_), ("wait_for", wanted), ("count", n):
                return KeepState(ReplyAction(from_, n) if n >= wanted else Postpone())
            case "cast", ("flood", n), _:
                return KeepState(*(NextEvent("internal", i) for i in range(n)))
        return None


def test_handle_event_function_and_postponed_calls(play: Any) -> None:
    async def body() -> None:
        pid = await Handler.start_link("ok")
        pending = sm.call(pid, ("wait_for", 3))
        for _ in range(3):
            sm.cast(pid, "up")
        assert await pending == 3

    play(body)


def test_results_of_init(play: Any) -> None:
    async def body() -> None:
        assert await Handler.start("ignore") is None
        with pytest.raises(StartError) as failed:
            await Handler.start("stop")
        assert failed.value.reason == "no"
        with pytest.raises(StartError) as failed:
            await Handler.start("nonsense")
        assert failed.value.reason == ("bad_return_from_init", "nonsense")

    play(body)


def test_many_inserted_events_let_others_run(play: Any) -> None:
    async def body() -> None:
        pid = await Handler.start_link("ok")
        sm.cast(pid, ("flood", 10_000))
        assert await sm.call(pid, ("wait_for", 0)) == 0

    play(body)


def test_the_parents_exit_ends_it() -> None:
    from runtime.testing.simulation import play

    async def body() -> None:
        log: list[Any] = []

        async def parent() -> None:
            await Scripted.start_link(log)
            await erlang.receive()

        pid = erlang.spawn(parent, trap_exit=True)
        await erlang.sleep(1)
        erlang.exit(pid, "shutdown")
        erlang.exit(pid, "kill")
        await erlang.sleep(1)
        assert log == START  # not trapping: it dies by the link, without terminate

    play(body)
