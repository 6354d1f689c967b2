"""Operators' endpoints about the nodes of the cluster: their state, and the links between them.

Each node describes itself and its own links; the node that answers gathers the descriptions of all others concurrently. A node
that does not answer in time is listed as `silent`.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from typing import Final, Literal

import msgspec

from actors import settings
from actors.cluster.member import GetFabric, LostNode, own_name
from actors.instruments import gauges, instruments, resident_memory
from api.context import ApiRequest
from api.http import node_routes
from api.http.errors import ApiError
from api.http.node_routes import NodeRoutes
from api.http.request import Response, json_response
from api.http.router import ADMINS
from api.resources import health
from api.version import VERSION
from runtime import Exit, current_engine, gen_server
from runtime.nodes import net_kernel

routes = NodeRoutes("admin", lane=None)

PING_MS: Final = 500
DESCRIBE: Final = "GET /admin/node"
DESCRIBE_MS: Final = 2000  # more than PING_MS, since a node pings its links to describe itself


class NodeLink(msgspec.Struct, frozen=True):
    """A link of a node, by that node's counters: up for `seconds`; `round_trip_ms` is null if the peer did not answer."""

    node: str
    seconds: float
    round_trip_ms: float | None
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int


class NatsConnection(msgspec.Struct, frozen=True):
    """A node's connection to NATS: the server, how often it was lost, and how many frames could not be sent."""

    connected: bool
    server: str
    interruptions: int
    dropped: int


class NodeDescription(msgspec.Struct, frozen=True):
    """A node's description of itself. `not_ready` names its readiness checks that are down; `cpu` is percent of a core."""

    node: str
    version: str
    os_pid: int
    uptime: float
    ready: bool
    not_ready: list[str]
    sockets: int
    channels: int
    processes: int
    requests: float
    cpu: float
    memory: int
    nats: NatsConnection | None
    links: list[NodeLink]


class NodeState(msgspec.Struct, frozen=True):
    """A node of the cluster: `up`; `silent`, connected but not answering; `left`, stopped; `lost`, its connection broke.

    `reason` says why it is not up, `seconds` since when it has been gone.
    """

    node: str
    state: Literal["up", "silent", "left", "lost"]
    reason: str | None = None
    seconds: float | None = None
    description: NodeDescription | None = None


class ClusterBody(msgspec.Struct, frozen=True):
    """The nodes that the answering one, `node`, knows. `cluster` is the cluster's name, null for a single server."""

    node: str
    cluster: str | None
    nodes: list[NodeState]


@routes.get("/admin/node", summary="One node", roles=ADMINS, responses={200: NodeDescription})
async def one(request: ApiRequest) -> Response:
    """The node's statistics, its readiness, its connection to NATS, and its links to other nodes."""
    return json_response(await describe())


async def describe() -> NodeDescription:
    """The description of this node."""
    own, now = instruments(), gauges(current_engine())
    last = own.samples[-1] if own.samples else {}
    checks = (await health.readiness(settings.current())).checks
    down = [name for name, check in checks.items() if check.status == "down"]
    nats, links = await asyncio.gather(_nats(), _links())
    return NodeDescription(
        own_name(),
        VERSION,
        os.getpid(),
        round(own.seconds, 3),
        not any(name not in health.OPTIONAL for name in down),
        down,
        now["sockets"],
        now["channels"],
        now["processes"],
        last.get("requests", 0.0),
        last.get("cpu", 0.0),
        resident_memory(),
        nats,
        links,
    )


async def _nats() -> NatsConnection | None:
    if not settings.current().cluster_url:
        return None
    try:
        fabric = await gen_server.call("cluster", GetFabric(), 1000)
    except Exit:
        return NatsConnection(False, "", 0, 0)
    return NatsConnection(fabric.connected, fabric.server, fabric.counts.interruptions, fabric.counts.dropped)


async def _links() -> list[NodeLink]:
    infos = net_kernel.nodes_info()
    trips = await asyncio.gather(*(_round_trip(info.name) for info in infos))
    return [
        NodeLink(
            info.name,
            round(info.seconds, 3),
            trip,
            info.frames_in,
            info.frames_out,
            info.bytes_in,
            info.bytes_out,
        )
        for info, trip in zip(infos, trips, strict=True)
    ]


async def _round_trip(node: str) -> float | None:
    began = perf_counter()
    try:
        await node_routes.get(node, "ping", PING_MS)
    except ApiError:
        return None
    return round((perf_counter() - began) * 1000, 3)


_read = msgspec.json.Decoder(NodeDescription).decode


@routes.get("/admin/nodes", summary="The cluster", roles=ADMINS, responses={200: ClusterBody})
async def cluster(request: ApiRequest) -> Response:
    """Every node, its statistics and links. A node that has stopped is listed for a minute, one that was lost for ten."""
    return json_response(await everyone())


async def everyone() -> ClusterBody:
    """All nodes, queried concurrently."""
    own = own_name()
    states = [
        *await asyncio.gather(*map(_state, node_routes.names())),
        *map(_absent, await health.lost_nodes()),
    ]
    name = settings.current().cluster_name if net_kernel.this_node() is not None else None
    return ClusterBody(own, name, sorted(states, key=lambda one: one.node))


async def _state(node: str) -> NodeState:
    try:
        return NodeState(node, "up", description=_read(await node_routes.get(node, DESCRIBE, DESCRIBE_MS)))
    except ApiError as error:
        return NodeState(node, "silent", error.detail.message)
    except msgspec.DecodeError:
        return NodeState(node, "silent", f"Node {node} is of a version with another description")


def _absent(lost: LostNode) -> NodeState:
    return NodeState(lost.name, "left" if lost.left else "lost", lost.reason, round(lost.seconds, 3))
