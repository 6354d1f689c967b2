"""This server's membership in a cluster: its node, and the NATS connection that carries it.

Owns both. First in the tree, since whoever asks which nodes there are must find the answer. Without CLUSTER_URL it has
neither, and the server is alone. A name that another server has is an error at start; a NATS server that is away is not: this
server serves alone until it comes. Its end, however it comes, ends the membership: the others see the node go at once.

Other nodes may have functions run here that the table `exports` of supervisor.toml names, and no others: `name` =
"module:function". It remembers for LOST_SECONDS which nodes fell silent, and for LEFT_SECONDS which have ended.

Messages: `Announce` (its timer), ("nodeup", name, info) and ("nodedown", name, info) of other nodes. Calls: `GetFabric` -> the
fabric, `GetLost` -> the nodes that were lost.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors import settings
from actors.loading import named
from actors.settings import ConfigError, Settings
from runtime import CallRequest, GenServer, Reply, Stop, current_engine, erlang
from runtime.nodes import Node, net_kernel
from runtime.nodes.nats import NatsFabric
from runtime.nodes.nats_client import FabricError, NatsOptions, probe

log = logging.getLogger("bitnexus.cluster")

ANNOUNCE_MS = 2000  # a broken connection is made again so soon; Erlang waits until somebody sends
NAME_TRIES = 20  # the connection of a predecessor that was cut off is noticed by NATS after some seconds
NAME_PAUSE_SECONDS = 0.5
LOST_SECONDS = 600.0
LEFT_SECONDS = 60.0
LEFT = (
    "connection_closed",
    "disconnect",
)  # of a node that took leave, or of which the fabric knows that it is not there


@dataclass(frozen=True, slots=True)
class Announce:
    """Time to announce this node: whoever is not connected to it connects."""


@dataclass(frozen=True, slots=True)
class GetFabric(CallRequest[NatsFabric]):
    """Asks for the fabric of this server's node."""


@dataclass(frozen=True, slots=True)
class GetLost(CallRequest["tuple[LostNode, ...]"]):
    """Asks which nodes have ended or fallen silent lately and have not come back."""


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node whose connection ended `seconds` ago, by itself (`left`) or because it fell silent. `reason` is OTP's."""

    name: str
    reason: str
    seconds: float

    @property
    def left(self) -> bool:
        """True for one that has ended; nobody waits for it."""
        return self.reason in LEFT


class Member(GenServer):
    """The owner of the node."""

    fabric: NatsFabric | None = None

    def init(self, exports: Mapping[str, str] | None = None) -> Any:
        erlang.trap_exit(True)
        self.exports = {name: named(function) for name, function in (exports or {}).items()}
        self.lost: dict[str, tuple[str, float]] = {}  # name -> reason, when
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
        for exported, function in self.exports.items():
            self.node.export(exported, function)
        self.on_exit(lambda _pid: self._leave())  # also when it is killed
        self.node.start()
        net_kernel.monitor_nodes(True, ("nodedown_reason",))
        erlang.send_after(ANNOUNCE_MS, erlang.self_(), Announce())
        log.info("node %s of cluster %s", name, current.cluster_name)

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetFabric():
                return Reply(self.fabric)
            case GetLost():
                return Reply(self._lost())
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Announce():
                self.node.up()
                erlang.send_after(ANNOUNCE_MS, erlang.self_(), Announce())
            case ("nodeup", name, _):
                self.lost.pop(name, None)
                log.info("node %s is there", name)
            case ("nodedown", name, info):
                reason = dict(info)["nodedown_reason"]
                self.lost[name] = reason, self.now()
                log.warning("node %s is gone (%s)", name, reason)
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    def _lost(self) -> tuple[LostNode, ...]:
        now = self.now()
        found = [LostNode(name, reason, now - at) for name, (reason, at) in sorted(self.lost.items())]
        kept = tuple(one for one in found if one.seconds < (LEFT_SECONDS if one.left else LOST_SECONDS))
        self.lost = {one.name: self.lost[one.name] for one in kept}
        return kept

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


def own_name() -> str:
    """The name of this server's node; of a server that is alone, the one it would have."""
    engine = current_engine()
    return settings.node_name(settings.current()) if engine.node is None else engine.node_name


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
