"""More load than a server's capacity, from separate processes: `python -m bench.overload_load` reads a `Load` as JSON.

Open loop: a request is sent when it is due, whether or not the server has answered the ones before. With `kept`
connections a request waits for one that is free, so no more than that many are under way. Prints SENT when the last is sent, and
a `Seen` as JSON when all are answered or given up.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bench.socket_load import raise_file_limit

SENT: Final = "sent"
GIVE_UP: Final = 10.0  # seconds
BURST: Final = 64  # sent between two looks at the answers
SOURCES: Final = [f"127.0.0.{number}" for number in range(2, 10)]  # ports of one address would run out


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `requests` in turn, `rate` a second for `seconds`.

    `kept`: so many connections; 0: one a request, and at most `under_way` of them. `cpus`: those it may use; none: all.
    """

    port: int
    requests: list[str]
    rate: float
    seconds: float
    kept: int = 0
    under_way: int = 15_000
    cpus: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Seen:
    """What came back: seconds of each answer by its status; "failed" are those without one. `cpu`: the sender's own seconds."""

    offered: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    answers: dict[str, list[float]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)


class Call:
    """One request on its way. `sent` is when it was due to go: connecting counts."""

    __slots__ = ("answer", "raw", "sent", "socket")

    def __init__(self, opened: socket.socket, raw: bytes, sent: float) -> None:
        self.socket = opened
        self.raw = raw
        self.sent = sent
        self.answer = b""


class Client:
    """Sends a load, and notes what comes back."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.seen = Seen()
        self.poll = select.epoll()
        self.calls: dict[int, Call] = {}
        self.free: deque[socket.socket] = deque()
        self.known: dict[bytes, str] = {}  # codes by the bodies that say them
        self.raw = [each.encode() for each in load.requests]

    def run(self) -> Seen:
        """The whole load, and up to GIVE_UP seconds for what is still under way."""
        load = self.load
        for _ in range(load.kept):
            self._keep()
        began, cpu = time.monotonic(), time.process_time()
        while (now := time.monotonic()) - began < load.seconds:
            due = int((now - began) * load.rate) - self.seen.offered
            for _ in range(min(due, BURST)):
                if not self._send(now):
                    break
            self._take(0.0 if due > BURST else 0.001)
        self.seen.seconds = time.monotonic() - began
        self.seen.cpu = time.process_time() - cpu
        print(SENT, flush=True)
        until = time.monotonic() + GIVE_UP
        while self.calls and time.monotonic() < until:
            self._take(0.1)
        for call in list(self.calls.values()):
            self._ended(call, "failed")
        return self.seen

    def _keep(self) -> None:
        source = SOURCES[len(self.free) % len(SOURCES)], 0
        opened = socket.create_connection(("127.0.0.1", self.load.port), source_address=source)
        opened.setblocking(False)
        self.poll.register(opened, select.EPOLLIN)
        self.free.append(opened)

    def _send(self, now: float) -> bool:
        raw = self.raw[self.seen.offered % len(self.raw)]
        if self.load.kept:
            if not self.free:
                return False
            opened = self.free.popleft()
            self.calls[opened.fileno()] = Call(opened, raw, now)
            opened.send(raw)
        else:
            if len(self.calls) >= self.load.under_way:
                return False
            opened = socket.socket()
            opened.setblocking(False)
            opened.bind((SOURCES[self.seen.offered % 8], 0))
            opened.connect_ex(("127.0.0.1", self.load.port))
            self.calls[opened.fileno()] = Call(opened, raw, now)
            try:
                opened.send(raw)  # on the loopback the handshake is mostly done when connect returns
                self.poll.register(opened, select.EPOLLIN)
            except OSError:
                self.poll.register(opened, select.EPOLLOUT)
        self.seen.offered += 1
        return True

    def _take(self, timeout: float) -> None:
        for number, event in self.poll.poll(timeout, 512):
            call = self.calls.get(number)
            if call is None:
                continue
            try:
                if event & select.EPOLLOUT and not event & (select.EPOLLERR | select.EPOLLHUP):
                    call.socket.send(call.raw)
                    self.poll.modify(number, select.EPOLLIN)
                    continue
                data = call.socket.recv(65_536)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOTCONN):
                    continue
                data = b""
            call.answer += data
            if not data:
                self._ended(call, "failed")
            elif _whole(call.answer):
                self._ended(call, call.answer[9:12].decode())

    def _ended(self, call: Call, status: str) -> None:
        seen = self.seen
        seen.answers.setdefault(status, []).append(time.monotonic() - call.sent)
        if status[0] in "45":
            body = call.answer.partition(b"\r\n\r\n")[2]
            code = self.known.get(body)
            if code is None:
                code = self.known[body] = json.loads(body)["error"]["code"]
            seen.codes[code] = seen.codes.get(code, 0) + 1
        del self.calls[call.socket.fileno()]
        if self.load.kept and status != "failed" and b"\r\nconnection: close" not in call.answer.lower():
            self.free.append(call.socket)
            return
        call.socket.close()
        if self.load.kept:
            self._keep()


def _whole(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer.lower().find(b"content-length:", 0, end)
    return len(answer) >= end + 4 + int(answer[at + 15 : answer.find(b"\r\n", at)])


def main() -> None:
    """The command."""
    raise_file_limit()
    load = Load(**json.load(sys.stdin))
    os.sched_setaffinity(0, load.cpus or os.sched_getaffinity(0))
    print(json.dumps(dataclasses.asdict(Client(load).run())))


if __name__ == "__main__":
    main()
