"""Plain Thespian actors beside OTP processes on the engine of the product."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from thespian.actors import Actor, ActorExitRequest, ActorSystem, ChildActorExited, PoisonMessage

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.otp import erlang
from runtime.otp import sys as debug
from runtime.otp.gen_server import GenServer, NoReply, Reply, call, reply, stop
from runtime.testing.simulation import play
from runtime.thespian.external_ports import Port
from runtime.thespian.system_base import SystemBase


class Doubler(Actor):
    """Answers numbers, breaks on words."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if isinstance(msg, int):
            self.send(sender, msg * 2)
        elif isinstance(msg, str):
            raise ValueError(msg)


class Boss(GenServer):
    """Creates a Thespian actor, and answers its own callers with what comes back."""

    def init(self) -> None:
        self.doubler = self.createActor(Doubler)
        self.callers: list[Any] = []
        self.seen: list[Any] = []

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case "seen":
                return Reply(self.seen)
            case "end":
                self.send(self.doubler, ActorExitRequest())
                return Reply(None)
        self.callers.append(from_)
        self.send(self.doubler, request)
        return NoReply()

    def handle_info(self, message: Any) -> None:
        if isinstance(message, int | PoisonMessage):
            reply(self.callers.pop(0), message)
        else:
            self.seen.append(message)


class Answerer(Actor):
    def receiveMessage(self, msg: Any, sender: Any) -> None:
        reply(msg, (msg.request, sender))


def test_a_gen_servers_call_reaches_a_plain_actor_with_its_sender() -> None:
    async def body() -> Any:
        base = SystemBase(current_engine())
        answerer = base.create(None, Answerer)
        return erlang.self_(), await call(answerer, "hello"), await call(answerer, "again")

    caller, first, again = play(body)
    assert (first, again) == (("hello", caller), ("again", caller))


class Watcher(Actor):
    """Watches whoever asks, for as long as it has not answered."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        ref = erlang.monitor(sender)
        if msg == "bye":
            raise SystemExit
        erlang.demonitor(ref)
        erlang.exit(sender, "kill")  # it is no process
        self.send(sender, msg)


def test_who_asks_from_outside_can_be_watched() -> None:
    async def body() -> None:
        base = SystemBase(current_engine())
        watcher = base.create(None, Watcher)
        assert await debug.get_state(watcher) == {}
        ref = erlang.monitor(watcher)
        assert await base.request(watcher, "hello") == "hello"
        base.route(Port(current_engine()), watcher, "bye")
        assert (await erlang.receive(None, 1000)).ref is ref
        with pytest.raises(Exit, match="timeout"):
            await stop(Port(current_engine()), timeout=5)

    play(body)


def test_a_gen_server_and_a_plain_actor_talk_on_one_engine() -> None:
    async def scenario() -> None:
        engine = AsyncioEngine().start()
        ActorSystem(systemBase=SystemBase(engine), transientUnique=True)
        boss = await Boss.start()
        assert await call(boss, 21) == 42
        assert isinstance(await call(boss, "broken"), PoisonMessage), (
            "tried again, then sent back: Thespian's way"
        )
        assert await call(boss, 5) == 10, "it lives on"
        await call(boss, "end")
        async with asyncio.timeout(60):
            while not (seen := await call(boss, "seen")):
                await asyncio.sleep(0.01)
        assert [type(message) for message in seen] == [ChildActorExited]
        assert len(erlang.processes()) == 1
        await engine.stop()

    uvloop.run(scenario())
