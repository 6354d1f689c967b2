"""The supervisor of the server processes of one machine, and the process that replaces them one by one.

    servers - server-1 ... server-N

The supervisor owns the listening sockets, one set for each place, from before the first server starts until the parent ends. A
server that dies is started again in its place; the others serve meanwhile.

`RollingUpgrade` takes the cast `Roll` and the call `Roll` -> "ok" or ("error", text). One that fails leaves the rest as it is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any

from actors import settings
from actors.cluster.nats_server import GetUrl
from actors.cluster.server_process import Replace, Replacement, ServerProcess
from actors.listening import open_shared
from actors.server_state import server_state
from runtime import (
    CallRequest,
    ChildSpec,
    Exit,
    From,
    GenServer,
    NoReply,
    Pid,
    Supervisor,
    SupFlags,
    gen_server,
)

log = logging.getLogger("bitnexus.servers")

STOP_MS = 20_000


def place(number: int) -> str:
    """The registered name of the process that keeps server `number`, from 1."""
    return f"server-{number}"


class Servers(Supervisor):
    """As many servers as the setting NODES says; `tree` is the file they start (empty: their default)."""

    def init(self, tree: str = "") -> Any:  # type: ignore[override]
        return self._places(tree)

    async def _places(self, tree: str) -> tuple[SupFlags, list[ChildSpec]]:
        current = settings.current()
        count = current.nodes
        self.sockets = open_shared(current.host, current.port, count)
        self.on_exit(lambda _pid: self._close())
        server_state().port = self.sockets[0][0].getsockname()[1]
        for bound in self.sockets:
            for one in bound:
                one.set_inheritable(True)
        url = ",".join(current.cluster_url) or await gen_server.call("nats", GetUrl())
        database = server_state().database_url
        assert database is not None
        variables = {
            "DATABASE_URL": database,
            "CLUSTER_URL": url,
            "PORT": str(server_state().port),
            "NODES": "1",
        }
        name, _, host = settings.node_name(current).partition("@")
        arguments = ("--tree", tree) if tree else ()
        children = [
            ChildSpec(
                place(number),
                (
                    _start_server,
                    (place(number), (f"{name}-{number}", host, _numbers(bound), arguments, variables)),
                ),
                shutdown=STOP_MS,
            )
            for number, bound in enumerate(self.sockets, 1)
        ]
        return SupFlags("one_for_one", intensity=5 * count, period=10), children

    def _close(self) -> None:
        for bound in self.sockets:
            for one in bound:
                one.close()


async def _start_server(name: str, arguments: tuple[Any, ...]) -> Pid | None:
    return await gen_server.start_actor(ServerProcess(), arguments, link=True, name=name)


def _numbers(sockets: list[socket.socket]) -> list[int]:
    return [one.fileno() for one in sockets]


@dataclass(frozen=True, slots=True)
class Roll(CallRequest[Replacement]):
    """Replace all servers, one by one."""


class RollingUpgrade(GenServer):
    """Replaces all servers; a second `Roll` meanwhile waits for its turn."""

    def init(self) -> None:
        self.count = settings.current().nodes

    def handle_call(self, request: Any, from_: From) -> Any:
        match request:
            case Roll():
                return self._roll(from_)
        return super().handle_call(request, from_)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Roll():
                return self._roll(None)
        return super().handle_cast(request)

    async def _roll(self, from_: From | None) -> NoReply | None:
        answer: Replacement = "ok"
        for number in range(1, self.count + 1):
            try:
                answer = await gen_server.call(place(number), Replace(), None)
            except Exit as error:
                answer = ("error", f"{place(number)}: {error.reason}")
            if answer != "ok":
                log.error("the upgrade ends at %s: %s", place(number), answer[1])
                break
            await asyncio.sleep(0)
        else:
            log.info("all %d servers are replaced", self.count)
        if from_ is None:
            return None
        gen_server.reply(from_, answer)
        return NoReply()
