"""This server's membership in a cluster: its node, and the NATS connection that carries it.

Owns both. First in the tree, since whoever asks which nodes there are must find the answer. Without CLUSTER_URL it has
neither, and the server is alone. A name that another server has is an error at start; a NATS server that is away is not: this
server serves alone until it comes. Its end, however it comes, ends the membership: the others see the node go at once.

Messages: `Announce` (its timer), ("nodeup", name) and ("nodedown", name) of other nodes. Calls: `GetFabric` -> the fabric.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import Any

from actors import settings
from actors.settings import ConfigError, Settings
from runtime.core.engine import current_engine
from runtime.nodes import net_kernel
from runtime.nodes.nats import FabricError, NatsFabric, NatsOptions, probe
from runtime.nodes.node import Node
from runtime.otp import erlang
from runtime.otp.gen_server import CallRequest, GenServer, Reply, Stop

log = logging.getLogger("bitnexus.cluster")

ANNOUNCE_MS = 2000  # a broken connection is made again so soon; Erlang waits until somebody sends
NAME_TRIES = 20  # the connection of a predecessor that was cut off is noticed by NATS after some seconds
NAME_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Announce:
    """Time to announce this node: whoever is not connected to it connects."""


@dataclass(frozen=True, slots=True)
class GetFabric(CallRequest[NatsFabric]):
    """Asks for the fabric of this server's node."""


class Member(GenServer):
    """The owner of the node."""

    fabric: NatsFabric | None = None

    def init(self) -> Any:
        erlang.trap_exit(True)
        current = settings.current()
        return self._join(current) if current.cluster_url else None

    async def _join(self, current: Settings) -> None:
        name = settings.node_name(current)
        options = nats_options(current, name)
        for left in reversed(range(NAME_TRIES)):
            try:
                if await probe(options, name):
                    break
            except ConnectionError as error:
                log.warning("NATS is away, this server is alone until it comes: %s", error)
                break
            except FabricError as error:
                raise ConfigError(f"CLUSTER_URL: {error}") from None
            if not left:
                raise ConfigError(
                    f"NODE_NAME: {name} is taken by another server of this cluster; give each its own"
                )
            await asyncio.sleep(NAME_PAUSE_SECONDS)
        self.fabric = NatsFabric(options)
        self.node = Node(current_engine(), name, self.fabric, settings.cluster_key(current))
        self.on_exit(lambda _pid: self._leave())  # also when it is killed
        self.node.start()
        net_kernel.monitor_nodes(True)
        erlang.send_after(ANNOUNCE_MS, erlang.self_(), Announce())
        log.info("node %s of cluster %s", name, current.cluster_name)

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetFabric():
                return Reply(self.fabric)
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Announce():
                self.node.up()
                erlang.send_after(ANNOUNCE_MS, erlang.self_(), Announce())
            case ("nodeup", name):
                log.info("node %s is there", name)
            case ("nodedown", name):
                log.warning("node %s is gone", name)
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        if self.fabric is not None:
            self._leave()
            await self.fabric.close()

    def _leave(self) -> None:
        if self.fabric is not None and not self.node.stopped:
            self.node.stop()
            closing = asyncio.get_running_loop().create_task(self.fabric.close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly


def nats_options(current: Settings, name: str) -> NatsOptions:
    """How this server reaches NATS. Raises ConfigError for files that are no certificates or keys."""
    context = None
    if current.cluster_ca or current.cluster_cert:
        try:
            context = ssl.create_default_context(cafile=current.cluster_ca or None)
            if current.cluster_cert:
                context.load_cert_chain(current.cluster_cert, current.cluster_key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"CLUSTER_CA, CLUSTER_CERT, CLUSTER_KEY: not usable ({error})") from None
    return NatsOptions(current.cluster_url, current.cluster_name, current.cluster_credentials, context, name)
