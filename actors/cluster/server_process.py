"""One server of several on this machine: a child process that runs `bitnexus serve` on sockets that it inherits.

Owns the child, and one end of a socket pair whose other end the child has: over it the child reports that it serves, and notices
the end of the parent. When the child ends by itself, this process ends with `("server_exit", status)` and its supervisor starts
another. On `Replace` a new child is started on the same sockets; once it serves, the old one is stopped by SIGTERM and drains its
connections, so no connection is refused or left unanswered.

The node's name alternates between `NAME-a` and `NAME-b`, since the old and the new child are nodes at the same time.

Messages: `ChildServes` and `ChildExited` from the thread of a child. Calls: `Replace` -> "ok" when the old one has ended, or
("error", text); `GetServer` -> `ServerStatus`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runtime import CallRequest, From, GenServer, NoReply, Reply, Stop, erlang, gen_server

log = logging.getLogger("bitnexus.servers")

EARLY_EXIT_MS = 500  # a child that ended before it served is restarted no sooner than this
STOP_SECONDS = 15.0
SERVES = b"serves\n"


Replacement = Literal["ok"] | tuple[Literal["error"], str]


@dataclass(frozen=True, slots=True)
class Replace(CallRequest[Replacement]):
    """Start a new process in this place, then stop the old one."""


@dataclass(frozen=True, slots=True)
class GetServer(CallRequest["ServerStatus"]):
    """Asks for `ServerStatus`."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The process in this place, whether it serves, and its exit status if it ended before it did."""

    node: str
    pid: int
    serves: bool
    failed: int | None = None


@dataclass(frozen=True, slots=True)
class ChildServes:
    """The child with this number serves."""

    number: int


@dataclass(frozen=True, slots=True)
class ChildExited:
    """The child with this number ended with this status (negative: the signal)."""

    number: int
    status: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Time to end, since the child ended before it served."""

    status: int


@dataclass(slots=True, eq=False)
class _Child:
    number: int
    node: str
    process: subprocess.Popen[bytes]
    line: socket.socket
    serves: bool = False


class ServerProcess(GenServer):
    """The owner of one server. `name` and `host` make the node's name; `arguments` and `variables` are for the child."""

    def init(
        self,
        name: str,
        host: str,
        listening: list[int],
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
    ) -> None:
        erlang.trap_exit(True)
        self.place, self.host = name, host
        self.listening = listening
        self.arguments = arguments
        self.variables = variables
        self.started = 0
        self.failed: int | None = None
        self.current: _Child | None = None
        self.next: _Child | None = None
        self.old: _Child | None = None
        self.replacing: From | None = None
        self.on_exit(lambda _pid: self._kill())
        self.current = self._start("a")

    # ---- children

    def _start(self, turn: str) -> _Child:
        ours, theirs = socket.socketpair()
        self.started += 1
        node = f"{self.place}-{turn}@{self.host}"
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve", *self.arguments],
                env=os.environ
                | {
                    **self.variables,
                    "NODE_NAME": node,
                    "LISTEN_SOCKETS": ",".join(map(str, self.listening)),
                    "PARENT_SOCKET": str(theirs.fileno()),
                },
                pass_fds=(*self.listening, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent; it stops the servers in order
            )
        child = _Child(self.started, node, process, ours)
        me, loop = erlang.self_(), asyncio.get_running_loop()

        def send(message: Any) -> None:
            try:
                loop.call_soon_threadsafe(erlang.send, me, message)
            except RuntimeError:
                return  # the loop is closed: the parent is gone as well

        def watch() -> None:
            if ours.recv(len(SERVES)):
                send(ChildServes(child.number))
            status = process.wait()
            ours.close()
            send(ChildExited(child.number, status))

        threading.Thread(target=watch, name=f"{node} {process.pid}", daemon=True).start()
        return child

    def _kill(self) -> None:
        for child in (self.current, self.next, self.old):
            if child is not None and child.process.poll() is None:
                child.process.kill()

    # ---- messages

    def handle_call(self, request: Any, from_: From) -> Any:
        match request:
            case Replace():
                return self._replace(from_)
            case GetServer():
                child = self.current
                assert child is not None
                return Reply(ServerStatus(child.node, child.process.pid, child.serves, self.failed))
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case ChildServes(number):
                self._serves(number)
            case ChildExited(number, status):
                return self._exited(number, status)
            case GiveUp(status):
                return Stop(("server_exit", status))
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    def _replace(self, from_: From) -> Any:
        if self.replacing is not None:
            return Reply(("error", "the server is being replaced already"))
        assert self.current is not None
        self.replacing = from_
        self.next = self._start("b" if "-a@" in self.current.node else "a")
        return NoReply()

    def _serves(self, number: int) -> None:
        current, following = self.current, self.next
        if following is not None and number == following.number:
            following.serves = True
            self.old, self.current, self.next = current, following, None
            assert current is not None
            log.info("%s takes the place of %s", following.node, current.node)
            current.process.send_signal(signal.SIGTERM)
        elif current is not None and number == current.number:
            current.serves = True

    def _exited(self, number: int, status: int) -> Any:
        if self.old is not None and number == self.old.number:
            self.old = None
            self._answer("ok")
        elif self.next is not None and number == self.next.number:
            self.next = None
            self._answer(("error", f"the new server ended before it served: {explained(status)}"))
        elif self.current is not None and number == self.current.number:
            log.error("server %s ended: %s", self.current.node, explained(status))
            if self.current.serves:
                return Stop(("server_exit", status))
            self.failed = status
            erlang.send_after(EARLY_EXIT_MS, erlang.self_(), GiveUp(status))
        return None

    def _answer(self, answer: Replacement) -> None:
        if self.replacing is not None:
            gen_server.reply(self.replacing, answer)
            self.replacing = None

    async def terminate(self, reason: Any) -> None:
        children = [child for child in (self.next, self.current, self.old) if child is not None]
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        for child in children:
            await asyncio.to_thread(_wait, child.process)


def explained(status: int) -> str:
    """An exit status in words."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
