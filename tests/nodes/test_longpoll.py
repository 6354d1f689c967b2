"""A LongPoll session that is polled by way of other nodes: every message comes once, whatever becomes of a poll's answer."""

from __future__ import annotations

import json
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.otp import erlang
from runtime.otp.gen_server import start_actor
from runtime.phoenix import Endpoint, Socket, longpoll
from runtime.phoenix.longpoll_server import LongPollSession, elsewhere
from runtime.phoenix.messages import TEXT, Frame
from runtime.phoenix.mount import LongPollOptions
from runtime.phoenix.pg2 import NodesPubSub
from runtime.phoenix.serializer import V2
from runtime.testing.cluster import Cluster

NODES = ("a", "b", "c")
MESSAGES = 60


class Polls:
    """A session on node a, and a client who polls it by way of b and c, gives some polls up, and keeps what came."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.cluster = Cluster(seed, NODES)
        self.got: list[int] = []
        self.session: Any = None

    def run(self) -> None:
        """Until all has come, or the client would have to begin anew."""
        self.cluster["a"].spawn(self._open)
        for name in ("b", "c"):
            self.cluster[name].spawn(self.cluster[name].node.connect, "a")
        self.cluster.advance(100)
        self.cluster["a"].spawn(self._push)
        while len(self.got) < MESSAGES and self._poll(self.rng.choice(("b", "c"))) != 500:
            assert self.cluster.now < 600_000

    async def _open(self) -> None:
        await NodesPubSub.start(name="pubsub")
        self.session = LongPollSession(Socket(Endpoint(), V2(), 10, None), LongPollOptions())
        await start_actor(self.session, (), link=False)

    async def _push(self) -> None:
        for number in range(MESSAGES):
            await erlang.sleep(self.rng.randrange(60))
            self.session.push(Frame(TEXT, str(number).encode()))

    def _poll(self, name: str) -> int:
        """One poll of the client, and its status; 0 if it went away before the answer, as one whose link is cut."""
        options = SimpleNamespace(window_ms=self.rng.randrange(5, 60), pubsub_timeout_ms=2_000)
        token = self.session.token
        candidate: Any = SimpleNamespace(params={"token": token}, route=SimpleNamespace(options=options))
        answers: list[Any] = []

        async def wait(answer: Any) -> Any:
            return await answer

        async def request() -> None:
            session = elsewhere(token)
            assert session is not None
            answers.append(await longpoll._listen(session, candidate, wait))

        pid = self.cluster[name].spawn(request)
        patience = self.rng.randrange(30) if self.rng.random() < 0.2 else 10_000
        while not answers and patience > 0:
            self.cluster.advance(1)
            patience -= 1
        if not answers:
            pid.cell.exit_signal(pid, "kill", False)
            return 0
        said = json.loads(answers[0].body)
        self.got += [int(text) for text in said.get("messages", [])]
        return said["status"]


@pytest.mark.parametrize("seed", range(30))
def test_every_message_comes_once_whatever_becomes_of_an_answer(seed: int) -> None:
    polls = Polls(seed)
    try:
        polls.run()
    finally:
        polls.cluster.close()
    assert polls.got == list(range(MESSAGES))[: len(polls.got)]
    assert len(polls.got) > MESSAGES // 2
