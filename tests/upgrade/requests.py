"""Requests at an even rate, on connections that are kept and on new ones; nothing that fails is tried again.

A client that finds its kept connection closed before it sends takes another one, as every client does. What fails after a byte
was sent has failed.
"""

from __future__ import annotations

import asyncio
import json
import select
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

PATIENCE = 30.0


@dataclass
class Account:
    """A user, and what was acknowledged for them: seq of the ledger -> when, monotonic seconds."""

    id: str
    token: str
    acknowledged: dict[int, float] = field(default_factory=dict)


class Connection:
    """One connection of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.open = True

    @property
    def usable(self) -> bool:
        """False once the server has closed it, also if this program was too busy to read that yet."""
        if not self.open or self._reader.at_eof() or self._writer.is_closing():
            return False
        looking = select.poll()
        looking.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not looking.poll(0)  # it waits for no answer: what is there to read is the end

    async def ask(self, head: str, body: bytes) -> tuple[int, bytes]:
        """Status and body. Raises ConnectionError, EOFError."""
        self._writer.write(head.encode() + body)
        try:
            raw = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise EOFError(f"closed after {len(error.partial)} bytes of an answer") from None
        lines = raw.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await self._reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), answer

    def close(self) -> None:
        """Ends it."""
        self.open = False
        self._writer.close()


class Requests:
    """`rate` requests a second to `url`, of these accounts in turn: reads, and every tenth a transaction."""

    def __init__(self, url: str, accounts: list[Account], rate: float) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._accounts = accounts
        self._rate = rate
        self._kept: list[Connection] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.answered = 0
        self.slowest = 0.0
        self.failures: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Until it is told to stop, and all that was sent is answered. A request is sent when it is due, whatever waits."""
        began = time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while self.sent < due:
                task = asyncio.create_task(self._one(self.sent))
                self.sent += 1
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(0.01)
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        for connection in self._kept:
            connection.close()

    async def _one(self, number: int) -> None:
        account = self._accounts[number % len(self._accounts)]
        keep, began = number % 2 == 0, time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._connection(keep)
                if number % 10 == 0:
                    await self._transaction(connection, account, keep, number)
                else:
                    path = f"/api/v1/{('health', 'transactions?limit=3', 'ledger/head')[number % 3]}"
                    await self._send(connection, account, keep, "GET", path, b"", 200)
        except Exception as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            return
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        if connection.open and keep:
            self._kept.append(connection)
        else:
            connection.close()

    async def _connection(self, keep: bool) -> Connection:
        while keep and self._kept:
            connection = self._kept.pop()
            if connection.usable:
                return connection
        return Connection(*await asyncio.open_connection(*self._address))

    async def _transaction(self, connection: Connection, account: Account, keep: bool, number: int) -> None:
        body = json.dumps({"amount": "1.00", "currency": "EUR", "description": f"no. {number}"}).encode()
        answer = await self._send(connection, account, keep, "POST", "/api/v1/transactions", body, 201)
        account.acknowledged[orjson.loads(answer)["ledger"]["seq"]] = time.monotonic()

    async def _send(
        self,
        connection: Connection,
        account: Account,
        keep: bool,
        method: str,
        path: str,
        body: bytes,
        wanted: int,
    ) -> bytes:
        fields = [f"{method} {path} HTTP/1.1", "Host: upgrade", f"Authorization: Bearer {account.token}"]
        fields += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        fields += [] if keep else ["Connection: close"]
        head = "\r\n".join([*fields, "", ""])
        status, answer = await connection.ask(head, body)
        if status != wanted:
            raise ValueError(f"{method} {path} was answered {status} {answer[:200].decode()}")
        return answer
