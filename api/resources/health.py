"""Health: liveness, which depends on nothing, and readiness, the ability to write, with the state of each dependency."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from actors import settings
from actors.bridges.circuit_breaker import GetState
from actors.bridges.supervisor import breaker_name
from actors.cluster.member import GetFabric, GetLost, LostNode, own_name
from actors.server_state import server_state
from actors.settings import Settings
from actors.storage import repo
from api.context import ApiRequest
from api.http import node_routes
from api.http.errors import ApiError, ErrorDetail
from api.http.request import Response, json_response
from api.http.router import ResponseSpec, Routes
from api.version import VERSION
from runtime import Exit, erlang, gen_server, state_machine
from runtime.nodes import net_kernel

routes = Routes("health", lane=None)


class Alive(msgspec.Struct, frozen=True):
    """The server answers; `uptime` in seconds."""

    status: Literal["ok"]
    version: str
    uptime: float


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one dependency, with the reason if it is down."""

    status: Literal["ok", "down", "not_configured"]
    reason: str | None = None


class Peer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another node as this one sees it: `up`; `left`, stopped `seconds` ago; `lost`, unreachable for `seconds`."""

    node: str
    status: Literal["up", "left", "lost"]
    seconds: float | None = None


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether `node` can serve requests, with the state of each dependency, and `error` if it can't. `nodes` are the others."""

    status: Literal["ready", "not_ready"]
    node: str
    checks: dict[str, Check]
    nodes: list[Peer]
    error: ErrorDetail | None = None


OK = Check("ok")
LONG_WAIT_SECONDS = 1.0  # for a lock
STALE_WRITE_SECONDS = 8.0  # two probes, each with its statement timeout
READY_MS = 1500  # how long another node may take to answer
OPTIONAL = ("bridge", "cluster", "locks")  # a server is ready even if these are down


def alive(request: ApiRequest) -> Response:
    """200 while the server answers at all; it checks nothing else."""
    milliseconds = int((time.time() - request.context.started) * 1000)
    return json_response(Alive("ok", VERSION, milliseconds / 1000))


for _path in ("/health", "/api/v1/health"):
    routes.get(_path, summary="Liveness", roles=None, responses={200: Alive})(alive)


@routes.get(
    "/api/v1/health/ready",
    summary="Readiness",
    roles=None,
    query=node_routes.OnNode,
    errors=(404,),
    responses={
        200: ResponseSpec(Ready, description="The server can serve requests"),
        503: ResponseSpec(
            Ready, description="It can't now; `checks` says why", headers={"retry-after": "Seconds to wait"}
        ),
    },
)
async def ready(request: ApiRequest) -> Response:
    """The state of the database, the ledger, the writer, the embedded database's disk, locks, the cluster and the Go services.

    `writer` is ok only while writes work. With `node`, another node's state; a node that does not answer is not ready.
    """
    node = request.query.node
    if node is None or node == own_name():
        return _answer(await readiness(request.context.settings))
    try:
        return _answer(_read(await node_routes.get(node, "readiness", READY_MS)))
    except ApiError as error:
        if error.status == 404:
            raise
        return _answer(Ready("not_ready", node, {}, [], ErrorDetail("not_ready", error.detail.message)))


def _answer(found: Ready) -> Response:
    if found.error is None:
        return json_response(found)
    return json_response(found, 503, [(b"retry-after", b"1")])


@node_routes.operation("readiness")
async def _readiness(_request: Any) -> Response:
    return json_response(await readiness(settings.current()))


_read = msgspec.json.Decoder(Ready).decode


async def readiness(current: Settings) -> Ready:
    """The readiness of this node."""
    checks = {
        "database": _database(),
        "ledger": _actor("ledger_server"),
        "writer": _writer(),
        "disk": _disk(),
        "locks": _locks(),
        "bridge": await _bridge(current),
        "cluster": await _cluster(current),
    }
    there = [Peer(name, "up") for name in net_kernel.nodes()]
    gone = [
        Peer(one.name, "left" if one.left else "lost", round(one.seconds, 1)) for one in await lost_nodes()
    ]
    nodes = sorted(there + gone, key=lambda one: one.node)
    down = [name for name, check in checks.items() if check.status == "down" and name not in OPTIONAL]
    error = ErrorDetail("not_ready", f"Not available: {', '.join(down)}") if down else None
    return Ready("not_ready" if down else "ready", own_name(), checks, nodes, error)


async def lost_nodes() -> tuple[LostNode, ...]:
    """The nodes that left or were lost recently."""
    try:
        return await gen_server.call("cluster", GetLost(), 1000)
    except Exit:
        return ()


def _database() -> Check:
    error = repo.status().error
    return OK if error is None else Check("down", error)


def _writer() -> Check:
    state = server_state()
    if (running := _actor("db_writer")) is not OK:
        return running
    if state.write_error is not None:
        return Check("down", state.write_error)
    if state.written_at is None:
        return Check("down", "no write has succeeded yet")
    age = time.monotonic() - state.written_at
    if age > STALE_WRITE_SECONDS:  # the writer probes every 2 s when there is nothing to write
        return Check("down", f"no write has succeeded for {age:.0f} s: the writer is stuck")
    return OK


def _disk() -> Check:
    activity = server_state().activity
    if activity.disk_free is None:
        return Check("not_configured")  # the database is on another machine
    if activity.disk_low:
        return Check("down", f"only {activity.disk_free >> 20} MB free on the database's disk")
    return OK


def _locks() -> Check:
    waits = server_state().activity.waits
    if not waits or (longest := max(waits, key=lambda each: each.seconds)).seconds < LONG_WAIT_SECONDS:
        return OK
    return Check(
        "down",
        f"{len(waits)} statements wait for locks, the longest for {longest.seconds:.1f} s; "
        f"its lock is held by session {longest.waits_for} ({longest.held_by})",
    )


def _actor(name: str) -> Check:
    pid = erlang.whereis(name)
    if pid is None:
        return Check("down", "not running")
    if erlang.process_info(pid, "status") == ("status", "suspended"):
        return Check("down", "suspended by an operator")
    return OK


async def _cluster(current: Settings) -> Check:
    if not current.cluster_url:
        return Check("not_configured")
    try:
        fabric = await gen_server.call("cluster", GetFabric(), 1000)
    except Exit:
        return Check("down", "not running")
    return (
        OK if fabric.connected else Check("down", "not connected to NATS: this server runs alone until it is")
    )


async def _bridge(current: Settings) -> Check:
    services = current.go_services()
    if not services:
        return Check("not_configured")
    down: list[str] = []
    for service in services:
        try:
            state = await state_machine.call(breaker_name(service), GetState(), 1000)
        except Exit:
            state = "not running"
        if state != "closed":
            down.append(f"{service}: {state}")
    return Check("down", ", ".join(down)) if down else OK
