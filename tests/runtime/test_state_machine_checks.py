"""What gen_statem refuses, against Erlang/OTP 25: actions, start errors, replies; and callback modules that change."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Error, StartError, StateMachine, erlang, state_machine, sys
from runtime.core.exits import Exit, Stack, Throw
from runtime.core.signals import ExitMessage
from runtime.otp.state_machine import (
    CancelTimeout,
    ChangeCallbackModule,
    EventTimeout,
    GenericTimeout,
    InitialState,
    KeepState,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    ReplyAction,
    StateTimeout,
    Stop,
    StopAndReply,
    UpdateTimeout,
)
from runtime.testing.simulation import play

NAN = float("nan")
bad: Any = "banana"


class Machine(StateMachine):
    callback_mode = "handle_event_function"

    def init(self, result: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    def handle_event(self, event: Any, content: Any, state: Any) -> Any:
        match event, content:
            case ("call", from_), ("do", result):
                from_.answer("ok")
                return result
            case ("call", from_), "who":
                return KeepState(ReplyAction(from_, "machine"))
            case ("call", _), _:
                return None
            case _, _:
                self.seen = [*getattr(self, "seen", []), (event, content)]
        return None


class Other(Machine):
    def handle_event(self, event: Any, content: Any, state: Any) -> Any:
        match event, content:
            case ("call", from_), "who":
                return KeepState(ReplyAction(from_, ("other", state)))
        return super().handle_event(event, content, state)


async def do(pid: Any, result: Any) -> Any:
    """The machine's exit reason after a callback that returned `result`."""
    erlang.monitor(pid)
    await state_machine.call(pid, ("do", result))
    return (await erlang.receive()).reason


BAD_ACTIONS: list[Any] = [
    "banana", NextEvent("banana", 1), NextEvent(("call", "x"), 1), NextEvent(("timeout", "a", "b"), 1), NextEvent("enter", 1),
    EventTimeout(-5, "x"), EventTimeout(bad), EventTimeout(NAN), EventTimeout(float("inf")), EventTimeout(True),
    StateTimeout(-1), GenericTimeout("n", -1), GenericTimeout("n", bad), CancelTimeout("banana"), UpdateTimeout("banana", "x"),
    EventTimeout(5, "x", bad), ReplyAction(bad, 1), PushCallbackModule(bad), PopCallbackModule(), CancelTimeout(5), 5,
]  # fmt: skip


@pytest.mark.parametrize("action", BAD_ACTIONS, ids=repr)
def test_a_wrong_action_ends_the_machine(action: Any) -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        reason, stack = await do(pid, KeepState(action))
        assert reason == ("bad_action_from_state_function", action)
        assert isinstance(stack, Stack)

    async def at_the_start() -> None:
        # init_ack has gone before the actions are looked at.
        pid = await Machine.start_link(InitialState("s", action))
        message = await erlang.receive()
        assert message.pid is pid
        assert message.reason[0] == ("bad_action_from_state_function", action)

    play(body)
    play(at_the_start)


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        (NextEvent("cast", 1), [("cast", 1)]),
        (NextEvent("internal", 1), [("internal", 1)]),
        (NextEvent(("timeout", "a"), 1), [(("timeout", "a"), 1)]),
        (NextEvent("state_timeout", 1), [("state_timeout", 1)]),
        (UpdateTimeout(("timeout", "n"), "x"), [(("timeout", "n"), "x")]),
        (EventTimeout(-5, "x", abs=True), [("timeout", "x")]),
        (EventTimeout(None), []),
        (EventTimeout(1 << 40), []),
        (CancelTimeout("timeout"), []),
    ],
    ids=repr,
)
def test_a_sound_action_is_done(action: Any, seen: list[Any]) -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        await state_machine.call(pid, ("do", KeepState(action)))
        await erlang.sleep(1)
        assert getattr(pid.cell.actor, "seen", []) == seen

    play(body)


def test_absolute_times_are_the_engines() -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        due = erlang.monotonic_time() + 100
        await state_machine.call(pid, ("do", KeepState(GenericTimeout("t", due, 1, abs=True))))
        await erlang.sleep(99)
        assert not hasattr(pid.cell.actor, "seen")
        await erlang.sleep(2)
        assert pid.cell.actor.seen == [(("timeout", "t"), 1)]

    play(body)


@pytest.mark.parametrize("reply", [Postpone(), "banana", ReplyAction(bad, 1)], ids=repr)
def test_a_stop_takes_replies_only(reply: Any) -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        assert (await do(pid, StopAndReply("normal", reply)))[0] == (
            "bad_reply_action_from_state_function",
            reply,
        )

    play(body)


@pytest.mark.parametrize(
    ("result", "reason", "ends_with"),
    [
        (Error("boom"), "boom", ("boom",)),
        (Exit("boom"), "boom", "boom"),
        (Throw("boom"), ("bad_return_from_init", "boom"), ("bad_return_from_init", "boom")),
        (Throw(("stop", "x")), "x", "x"),
        ("badret", ("bad_return_from_init", "badret"), ("bad_return_from_init", "badret")),
        (Stop("r"), "r", "r"),
        (Stop("normal"), "normal", "normal"),
    ],
)
def test_a_start_that_fails_carries_no_stack(result: Any, reason: Any, ends_with: Any) -> None:
    async def body() -> None:
        with pytest.raises(StartError) as caught:
            await Machine.start_link(result)
        assert caught.value.reason == reason
        message = await erlang.receive()
        assert isinstance(message, ExitMessage)
        if isinstance(result, Error):
            assert message.reason[0] == "boom"
            assert isinstance(message.reason[1], Stack)
        else:
            assert message.reason == ends_with

    play(body)


def test_callback_modules_change_push_and_pop() -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        call = state_machine.call
        await call(pid, ("do", NextState("t", PushCallbackModule(Other))))
        assert await call(pid, "who") == ("other", "t")
        await call(pid, ("do", KeepState(PopCallbackModule())))
        assert await call(pid, "who") == "machine"
        await call(pid, ("do", KeepState(ChangeCallbackModule(Other))))
        assert await call(pid, "who") == ("other", "t")
        assert (await do(pid, KeepState(PopCallbackModule())))[0] == (
            "bad_action_from_state_function",
            PopCallbackModule(),
        )

    play(body)


def test_get_status_shows_running_timeouts_and_postponed_events() -> None:
    async def body() -> None:
        pid = await Machine.start(
            InitialState("s", StateTimeout(5000, "late"), GenericTimeout("n", 9000, "later"))
        )
        await state_machine.call(pid, ("do", KeepState(Postpone(), EventTimeout(7000, "quiet"))))
        status = await sys.get_status(pid)
        assert dict(status["timeouts"]) == {
            ("timeout", "n"): "later",
            "state_timeout": "late",
            "timeout": "quiet",
        }
        [((_, _), content)] = status["postponed"]
        assert content[0] == "do"

    play(body)


def test_of_several_actions_for_one_timeout_the_last_counts_alone() -> None:
    async def body() -> None:
        pid = await Machine.start(InitialState("s"))
        # The update finds no timer running: the one of the same list was never set.
        await state_machine.call(
            pid, ("do", KeepState(StateTimeout(5000, "a"), UpdateTimeout("state_timeout", "b")))
        )
        await state_machine.call(
            pid, ("do", KeepState(GenericTimeout("n", 0, "c"), CancelTimeout(("timeout", "n"))))
        )
        await erlang.sleep(1)
        assert (await sys.get_state(pid))[1]["seen"] == [("state_timeout", "b")]

    play(body)


class Entered(StateMachine):
    """Enters its loop from a plain process that keeps a message for it."""

    state_enter = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def handle(self, event: Any, content: Any) -> Any:
        self.seen.append((event if isinstance(event, str) else event[0], content))
        match event:
            case ("call", from_) if content == "seen":
                return KeepState(ReplyAction(from_, list(self.seen)))
            case ("call", _):
                return Stop("boom")
        return NextState("b") if content == "go" else None

    a = b = handle


def test_a_plain_process_enters_the_loop_of_a_machine() -> None:
    async def plain(parent: Any) -> None:
        assert await erlang.receive() == "first"
        erlang.send(parent, "plain")
        await state_machine.enter_loop(Entered(), "a", NextEvent("internal", "go"), StateTimeout(50, "late"))

    async def body() -> None:
        pid, ref = erlang.spawn_monitor(plain, erlang.self_())
        erlang.send(pid, "first")
        erlang.send(pid, "kept")
        assert await erlang.receive() == "plain"
        await erlang.sleep(60)
        assert await state_machine.call(pid, "seen") == [
            ("enter", "a"), ("internal", "go"), ("enter", "a"), ("info", "kept"), ("call", "seen"),
        ]  # fmt: skip
        with pytest.raises(Exit):
            await state_machine.call(pid, "stop")
        down = await erlang.receive()
        assert down.ref is ref and down.reason == "boom"

        async def twice() -> None:
            with pytest.raises(Error, match="badarg"):
                await state_machine.enter_loop(Entered(), "a")

        class Server(Entered):
            def init(self) -> Any:
                return InitialState("a")

            async def a(self, event: Any, content: Any) -> Any:
                match event:
                    case ("call", from_):
                        await twice()
                        return KeepState(ReplyAction(from_, "refused"))
                return None

        server = await Server.start_link()
        assert await state_machine.call(server, "x") == "refused"

    play(body)
