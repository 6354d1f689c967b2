"""Selective receive behind a long mailbox: what was refused is not looked at again, and nothing is ever skipped wrongly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runtime import TIMEOUT, Down, erlang
from runtime.core.mailbox import LONG
from runtime.otp.gen_server import GenServer, Reply, call
from runtime.testing.simulation import Simulation

LOOKS = 100_000


class Counting:
    """A message that counts how often a match looks at it."""

    looks = 0

    @property
    def tag(self) -> str:
        Counting.looks += 1
        return "junk"


def run(body: Any) -> Any:
    """What a process returns that runs `body`."""
    results: list[Any] = []

    async def process() -> None:
        results.append(await body())

    with Simulation(1) as sim:
        sim.spawn(process)
        sim.run()
        sim.advance(1000)
    return results[0]


def fill(size: int) -> None:
    Counting.looks = 0
    for _ in range(size):
        erlang.send(erlang.self_(), Counting())


def tag_of(message: Any) -> Any:
    return message.tag if isinstance(message, Counting) else message


async def echo() -> None:
    while True:
        sender, ref, value = await erlang.receive()
        erlang.send(sender, (ref, value))


@pytest.mark.parametrize("kind", ["same", "fresh", "constant"])
def test_a_match_looks_once_at_what_it_refuses(kind: str) -> None:
    async def body() -> int:
        fill(LOOKS)
        wanted = "answer"

        def same(message: Any) -> bool:
            return tag_of(message) == "answer"

        for _ in range(50):
            erlang.send(erlang.self_(), "answer")
            if kind == "same":
                got = await erlang.receive(same)
            elif kind == "fresh":
                got = await erlang.receive(lambda message: tag_of(message) == "answer")
            else:
                got = await erlang.receive(lambda message: tag_of(message) == wanted)
            assert got == "answer"
        return Counting.looks

    assert run(body) == LOOKS


@pytest.mark.parametrize("asked", ["make_ref", "monitor", "start_timer"])
def test_a_receive_for_a_new_reference_skips_what_is_older(asked: str) -> None:
    async def body() -> int:
        fill(LOOKS)
        server = erlang.spawn(echo)
        for _ in range(50):
            if asked == "monitor":
                ref = erlang.monitor(erlang.spawn(lambda: None))
                got = await erlang.receive(
                    lambda m, ref=ref: tag_of(m) != "junk" and isinstance(m, Down) and m.ref is ref
                )
                assert got.reason in ("normal", "noproc")
            elif asked == "start_timer":
                ref = erlang.start_timer(0, erlang.self_(), "up")
                got = await erlang.receive(lambda m, ref=ref: tag_of(m) != "junk" and m.ref is ref)
            else:
                ref = erlang.make_ref()
                erlang.send(server, (erlang.self_(), ref, 7))
                got = await erlang.receive(lambda m, ref=ref: tag_of(m) != "junk" and m[0] is ref)
                assert got == (ref, 7)
        return Counting.looks

    assert run(body) < LOOKS + 500


def test_an_older_reference_is_found_where_it_lies() -> None:
    async def body() -> list[Any]:
        fill(LONG * 2)
        first, second = erlang.make_ref(), erlang.make_ref()
        erlang.send(erlang.self_(), (second, "second"))
        fill(LONG * 2)
        erlang.send(erlang.self_(), (first, "first"))
        got = []
        for ref in (first, second):
            got.append((await erlang.receive(lambda m, ref=ref: isinstance(m, tuple) and m[0] is ref, 0))[1])
        return got

    assert run(body) == ["first", "second"]


def test_a_match_that_depends_on_what_changes_is_asked_again() -> None:
    wanted = {"tag": "nothing"}

    async def body() -> Any:
        fill(LONG * 2)

        def match(message: Any) -> bool:
            return message.tag == wanted["tag"]

        assert await erlang.receive(match, 0) is TIMEOUT
        wanted["tag"] = "junk"
        return await erlang.receive(match, 0)

    assert isinstance(run(body), Counting)


@pytest.mark.parametrize("seed", range(20))
def test_every_receive_takes_what_a_walk_would(seed: int) -> None:
    """Against a plain list: matches with constants, references old and new, negations, and takes by demonitor."""

    async def body() -> None:
        chance = random.Random(seed)
        model: list[Any] = []
        refs: list[Any] = []

        def send(message: Any) -> None:
            model.append(message)
            erlang.send(erlang.self_(), message)

        for _ in range(LONG * 3):
            send(("n", chance.randrange(5)))
        for _ in range(400):
            match chance.randrange(6):
                case 0:
                    refs.append(erlang.make_ref())
                    continue
                case 1 | 2:
                    one = chance.choice(refs) if refs and chance.random() < 0.5 else "n"
                    send((one, chance.randrange(8)))
                    continue
                case 3:
                    number = chance.randrange(8)
                    wanted = lambda m, number=number: m[1] == number  # noqa: E731
                case 4 if refs:
                    ref = chance.choice(refs)
                    wanted = lambda m, ref=ref: m[0] is ref  # noqa: E731
                case _ if refs:
                    ref = refs[-1]
                    wanted = lambda m, ref=ref: m[0] is not ref and m[0] != "n"  # noqa: E731
                case _:
                    continue
            expected = next((m for m in model if wanted(m)), TIMEOUT)
            got = await erlang.receive(wanted, 0)
            assert got is expected
            if got is not TIMEOUT:
                model.remove(got)
        rest: Any = erlang.process_info(erlang.self_())
        assert rest["messages"] == model

    run(body)


class Picky(GenServer):
    """Looks for an answer behind its mail at the first message, then handles the rest."""

    def init(self) -> None:
        self.handled = 0

    async def handle_info(self, message: Any) -> None:
        self.handled += 1
        if self.handled == 1:
            assert await erlang.receive(lambda m: m == "answer", 0) is TIMEOUT

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply(self.handled)


def test_a_mailbox_that_is_given_back_knows_nothing_of_its_messages() -> None:
    """The next process to get it would have believed that so many of its own are refused."""

    async def body() -> Any:
        pid = await Picky.start_link()
        for _ in range(LONG * 2):
            erlang.send(pid, "junk")
        assert await call(pid, "handled") == LONG * 2
        engine: Any = pid.cell.engine  # type: ignore[union-attr]
        lent = [execution.mailbox for execution in engine.spare_executions if execution.mailbox is not None]
        return [mailbox.skips for mailbox in (*lent, *engine.spare_mailboxes)]

    skips = run(body)
    assert skips and set(skips) == {None}
