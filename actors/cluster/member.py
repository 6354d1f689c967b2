"""This server's membership in a cluster: its node, and the NATS connection that carries it.

Owns both. It is the first child of the tree, since later ones use the node. Without CLUSTER_URL it has neither: the server is a
single one. A name that another server uses is an error at start; an unavailable NATS server is not: this server runs alone until
NATS answers. When this process ends, for whatever reason, the node leaves the cluster, and the others notice at once.

Other nodes may call the functions in the table `exports` of supervisor.toml, `name` = "module:function", and no others. It
remembers for LOST_SECONDS which nodes were lost, and for LEFT_SECONDS which have left.

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
from actors.loading import load
from actors.settings import ConfigError, Settings
from runtime import CallRequest, GenServer, Reply, Stop, current_engine, erlang
from runtime.nodes import Node, net_kernel
from runtime.nodes.nats import NatsFabric
from runtime.nodes.nats_client import FabricError, NatsOptions, probe

log = logging.getLogger("bitnexus.cluster")

ANNOUNCE_MS = 2000  # after which a broken connection is made again; Erlang waits until somebody sends
NAME_TRIES = 20  # NATS takes some seconds to notice that a predecessor's connection has broken
NAME_PAUSE_SECONDS = 0.5
LOST_SECONDS = 600.0
LEFT_SECONDS = 60.0
# Reasons of a node that has left, or is known to the fabric to be gone.
LEFT = ("connection_closed", "disconnect")


@dataclass(frozen=True, slots=True)
class Announce:
    """Time to announce this node, so that unconnected nodes connect to it."""


@dataclass(frozen=True, slots=True)
class GetFabric(CallRequest[NatsFabric]):
    """Asks for the fabric of this server's node."""


@dataclass(frozen=True, slots=True)
class GetLost(CallRequest["tuple[LostNode, ...]"]):
    """Asks which nodes have left or were lost recently and have not come back."""


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node whose connection ended `seconds` ago. `reason` is OTP's nodedown reason."""

    name: str
    reason: str
    seconds: float

    @property
    def left(self) -> bool:
        """Whether the node has left the cluster; else its connection broke, and it may come back."""
        return self.reason in LEFT


class Member(GenServer):
    """The owner of the node."""

    fabric: NatsFabric | None = None

    def init(self, exports: Mapping[str, str] | None = None) -> Any:
        erlang.trap_exit(True)
        self.exports = {name: load(function) for name, function in (exports or {}).items()}
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
                log.warning("NATS is unavailable, this server runs alone until it answers: %s", error)
                break
            except FabricError as error:
                raise ConfigError(f"CLUSTER_URL: {error}") from None
            if not left:
                raise ConfigError(
                    f"NODE_NAME: {name} is used by another server of this cluster; give each its own"
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
                log.info("node %s is connected", name)
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
    """The name of this server's node; for a single server, the name that its node would have."""
    engine = current_engine()
    return settings.node_name(settings.current()) if engine.node is None else engine.node_name


_closing: set[asyncio.Task[None]] = set()  # strong references: the event loop holds tasks weakly


def nats_options(current: Settings, name: str) -> NatsOptions:
    """The options of this server's NATS connection. Raises ConfigError for unusable certificate or key files."""
    context = None
    if current.cluster_ca or current.cluster_cert:
        try:
            context = ssl.create_default_context(cafile=current.cluster_ca or None)
            if current.cluster_cert:
                context.load_cert_chain(current.cluster_cert, current.cluster_key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"CLUSTER_CA, CLUSTER_CERT, CLUSTER_KEY: not usable ({error})") from None
    return NatsOptions(current.cluster_url, current.cluster_name, current.cluster_credentials, context, name)
