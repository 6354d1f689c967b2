"""Clients of the model servers: subscribers that rejoin with what they have seen, and posters that keep every answer."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from actors.channels import TransactionChannel
from actors.ledger import server as ledger_server
from actors.ledger.writer import OutcomeUnknown, Recorded, RecordTransaction, Unavailable
from runtime.core.exits import Exit
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import Stop, start_actor
from runtime.phoenix import Endpoint, Socket
from runtime.phoenix.messages import Frame
from runtime.phoenix.serializer import V2
from runtime.phoenix.socket import SocketTransport

USERS = (UUID(int=1), UUID(int=2))
POSTS = 6  # of each poster


class Said(str):
    """A message from a client to its socket."""


class Tab(SocketTransport):
    """A socket whose client is a process of the simulation."""

    name = "simulated"

    def __init__(self, socket: Socket, client: Client, to: Any) -> None:
        super().__init__(socket)
        self.client, self.to = client, to

    def init(self) -> None:
        self.enter()

    def handle_info(self, message: Any) -> Any:
        return self.receive(message.encode(), 1) if type(message) is Said else self.info(message)

    def emit(self, frame: Frame) -> None:
        heard = json.loads(frame.payload)
        self.client.hear(heard)
        erlang.send(self.to, heard)

    def send(self, frame: Frame) -> None:
        erlang.send(self.pid, frame)

    def stop(self, code: int, reason: Any) -> Any:
        return Stop(reason)


class Client:
    """A subscriber. With `resumes` it joins with `last_seq` each time; without, each join is a session for itself."""

    def __init__(self, user: UUID, resumes: bool, channel: type[TransactionChannel]) -> None:
        self.user, self.resumes = user, resumes

        class BankSocket(Socket):
            channels = {"transaction:*": channel}

        self.socket = BankSocket
        self.sessions: list[list[int]] = [[]]
        self.last_seq = 0

    def hear(self, heard: list[Any]) -> None:
        """The messages received."""
        if heard[3] == "new_transaction":
            seq = heard[4]["ledger_seq"]
            self.sessions[-1].append(seq)
            self.last_seq = max(self.last_seq, seq)

    async def run(self) -> None:
        """Connects and joins, again and again when the socket or the channel ends."""
        me = erlang.self_()
        while True:
            socket = self.socket(Endpoint(), V2(), 10, 5_000)
            socket.assigns["user_id"] = str(self.user)
            tab = await start_actor(Tab(socket, self, me), (), link=False)
            erlang.monitor(tab)
            await self._joined(tab)
            erlang.exit(tab, "kill")
            await erlang.sleep(50)

    async def _joined(self, tab: Any) -> None:
        if not self.resumes:
            self.sessions.append([])
        payload = {"last_seq": self.last_seq} if self.resumes else {}
        erlang.send(tab, Said(json.dumps(["1", "1", f"transaction:{self.user}", "phx_join", payload])))
        while True:
            heard = await erlang.receive()
            if not isinstance(heard, list):
                if heard.pid is tab:
                    return
            elif heard[3] in ("phx_error", "phx_close") or heard[4].get("status") == "error":
                return


class Poster:
    """Records transactions: plain ones once, keyed ones until an answer is final, some of them twice at a time."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name, self.rng = name, rng
        self.user = rng.choice(USERS)
        self.count = 0
        self.acknowledged: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self.written = 0  # the newest entry that was made for it, not found under a key
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Posts all; a post that a crash of the server interrupts stays open."""
        while self.count < POSTS:
            self.count += 1
            description = f"{self.name}/{self.count}"
            match self.rng.randrange(3):
                case 0:
                    await self._post(description, None)
                case 1:
                    await self._settle(description)
                case 2:
                    others = [erlang.spawn_monitor(self._settle, description) for _ in range(2)]
                    for _pid, ref in others:
                        await erlang.receive(lambda message, ref=ref: getattr(message, "ref", None) is ref)
            await erlang.sleep(self.rng.randrange(300))

    async def _settle(self, description: str) -> None:
        while not await self._post(description, description):
            await erlang.sleep(100)

    async def _post(self, description: str, key: str | None) -> bool:
        request = RecordTransaction(self.user, Decimal("1.00"), "EUR", description, key)
        try:
            answer = await gen_server.call("db_writer", request)
        except Exit:
            return False
        match answer:
            case Recorded():
                self.acknowledged.append((description, answer.seq))
                if not answer.replayed:
                    self.written = max(self.written, answer.seq)
                await self._look_at_head(answer.seq)
                return True
            case Unavailable():
                if key is None:
                    self.refused.add(description)
            case OutcomeUnknown():
                pass
            case _:
                self.wrong.append(f"{description} was answered {answer!r}")
                return True
        return False

    async def _look_at_head(self, seq: int) -> None:
        try:
            head = await ledger_server.current_head()
        except (Unavailable, Exception):
            return
        if head.seq < seq:
            self.wrong.append(f"entry {seq} was acknowledged, and the head after that was {head.seq}")
