"""Links that fail one way, or both, between nodes and to npm clients: every event reaches each client once and in order."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.node import HERE, Script
from tests.nodes.nats import PASSWORD, USER, nats
from tests.nodes.test_two_servers import sees
from tests.support.proxy import Proxy, port_proxy
from tests.support.server import Server, User, start, wait_until

HEARTBEAT_MS = "300"  # of the client, which leaves a server that does not answer one
MODES = ("mute", "late", "deaf", "silent")


class Links:
    """Proxies on a loop and thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._stack = AsyncExitStack()

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(60)

    def to(self, port: int) -> tuple[Proxy, int]:
        """A proxy before the port, and its own port."""
        return self.run(self._stack.enter_async_context(port_proxy(port)))

    def set(self, link: Proxy, mode: str) -> None:
        async def change() -> None:
            if mode == "pass":
                link.cut()  # what was held is worth nothing: who waited for it has gone
            link.mode = mode

        self.run(change())

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)


@dataclass
class Site:
    """One of two nodes, with its link to NATS and the one of its clients."""

    server: Server
    fabric: Proxy
    door: Proxy
    door_url: str


@pytest.fixture(scope="module")
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.close()


@pytest.fixture(scope="module")
def sites(module_database: str, links: Links) -> Iterator[list[Site]]:
    with nats() as fabric, ExitStack() as stack:
        made: list[Site] = []
        for name in ("one", "two"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            link, port = links.to(fabric.port)
            url = f"nats://{USER}:{PASSWORD}@127.0.0.1:{port}"
            server = start(module_database, DATA_DIR=folder, CLUSTER_URL=url, NODE_NAME=f"{name}@test")
            door, port = links.to(int(server.url.rpartition(":")[2]))
            made.append(Site(server, link, door, f"http://127.0.0.1:{port}"))
        wait_until(lambda: sees(made[0].server, "two@test") and sees(made[1].server, "one@test"))
        yield made
        for site in made:
            assert site.server.stop() == 0, "\n".join(site.server.lines[-40:])


@pytest.fixture(scope="module")
def person(sites: list[Site]) -> User:
    return sites[0].server.user()


def post(server: Server, person: User) -> int:
    """Records a transaction; its number in the ledger."""
    with server.client(person.token) as client:
        answer = client.post("/api/v1/transactions", json={"amount": "1.00", "currency": "EUR"})
    assert answer.status_code == 201, answer.text
    return answer.json()["ledger"]["seq"]


Fault = Callable[[list[Site]], Proxy]
FAULTS: dict[str, Fault] = {
    "to the clients": lambda sites: sites[1].door,
    "between the nodes": lambda sites: sites[1].fabric,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", FAULTS)
def test_every_event_reaches_each_client_once(
    sites: list[Site], links: Links, person: User, where: str, mode: str
) -> None:
    link = FAULTS[where](sites)
    seqs: list[int] = []

    def client(site: Site, last_seq: int) -> Script:
        params = json.dumps({"last_seq": last_seq})
        topic = f"transaction:{person.id}"
        return Script(HERE / "client.mjs", site.door_url, person.token, topic, params, HEARTBEAT_MS)

    before = post(sites[0].server, person)
    with client(sites[0], before) as one, client(sites[1], before) as two:
        for script in (one, two):
            script.until("joined")
        seqs += [post(site.server, person) for site in sites]
        links.set(link, mode)
        try:
            seqs += [post(site.server, person) for site in sites * 2]
            if link is sites[1].door:
                two.until("phx_error")  # it has given the link up
                seqs += [post(site.server, person) for site in sites]
        finally:
            links.set(link, "pass")
        seqs += [post(site.server, person) for site in sites]
        for script in (one, two):
            while len(told(script)) < len(seqs):
                script.until("new_transaction")
            assert told(script) == seqs


def told(script: Script) -> list[int]:
    """The numbers of the events that the client has got, in order."""
    return [each["payload"]["ledger_seq"] for each in script.seen if each["event"] == "new_transaction"]
