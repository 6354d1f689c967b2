"""`GET /metrics` in Prometheus's text format, by prometheus-client.

Counters and histograms come from `actors.instruments`; gauges (sockets, mailboxes, restarts, pool) are read at the scrape. Labels
are bounded: routes are templates, topics are cut at the colon, processes are those with a registered name, and a metric has at
most `MAX_SERIES` series.

Every series has the label `node`. A scrape returns all nodes, queried concurrently, or the one that it names; `bitnexus_node_up`
is 0 for a node that did not answer.

With METRICS_TOKEN a scrape needs it as a bearer token; without, only loopback may read.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
import zlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from actors.cluster.member import own_name
from actors.instruments import BREAKER_STATES, Instruments, gauges, instruments
from actors.server_state import server_state
from api.context import ApiRequest
from api.http import node_routes
from api.http.errors import ApiError, unauthorized
from api.http.request import Response
from api.http.router import SIGN_IN, WORK, WRITE, ResponseSpec, Routes
from api.resources import health
from runtime import Engine, current_engine
from runtime.observe import process_info, supervision_tree
from runtime.observe.telemetry_metrics import MAX_SERIES, Counter, Distribution, LastValue, Metric, Sum

routes = Routes("metrics", lane=None)

# Fields that a proxy adds: a request with one comes from elsewhere, even if the proxy is on this machine.
PROXIED: Final = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via"}
)
SCRAPE_MS: Final = 2000  # how long another node may take to answer

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Collector:
    """The metrics of one server's engine and instruments, as metric families."""

    def __init__(self, engine: Engine, own: Instruments) -> None:
        self.engine = engine
        self.instruments = own

    def collect(self) -> Iterator[Family]:
        """All families; called at each scrape."""
        self.instruments.begin_known(self.engine)
        for lane in (WORK, WRITE, SIGN_IN):
            self.instruments.store.begin("bitnexus_requests_shed_total", (lane,))
        for metric in self.instruments.store.metrics:
            yield _family(metric, self.instruments.store.series[metric.name])
        yield from self._gauges()
        yield from self._named_processes()
        yield from self._restarts()

    def _gauges(self) -> Iterator[Family]:
        now = gauges(self.engine)
        for name, key, text in GAUGES:
            yield GaugeMetricFamily(name, text, value=now[key])
        yield GaugeMetricFamily(
            "bitnexus_database_up", "1 while the database answers", value=now["database"] == "up"
        )
        yield from _writing()
        if now["ledger_seq"] is not None:
            yield GaugeMetricFamily(
                "bitnexus_ledger_head_seq", "Newest entry of the ledger", value=now["ledger_seq"]
            )
        states = GaugeMetricFamily(
            "bitnexus_breaker_state", "1 for the state a breaker is in", labels=["breaker", "state"]
        )
        for name, state in now["breakers"].items():
            for one in BREAKER_STATES:
                states.add_metric([name, one], float(one == state))
        yield states
        yield CounterMetricFamily(
            "bitnexus_processes_started", "Processes ever started", value=self.engine.table.given_out
        )
        yield CounterMetricFamily(
            "bitnexus_messages_refused", "Messages that found a bounded mailbox full", value=now["refused"]
        )

    def _named_processes(self) -> Iterator[Family]:
        mail = GaugeMetricFamily(
            "bitnexus_mailbox_length", "Messages waiting for a named process", labels=["process"]
        )
        work = CounterMetricFamily(
            "bitnexus_reductions", "Messages a named process has handled", labels=["process"]
        )
        for name, pid in list(self.engine.names.items())[:MAX_SERIES]:
            mail.add_metric([name], process_info.mailbox(pid))
            work.add_metric([name], process_info.reductions(pid))
        yield mail
        yield work

    def _restarts(self) -> Iterator[Family]:
        restarts = GaugeMetricFamily(
            "bitnexus_supervisor_restarts",
            "Restarts of a child since its supervisor started",
            labels=["supervisor", "child"],
        )
        children = GaugeMetricFamily(
            "bitnexus_supervisor_children", "Children of a supervisor", labels=["supervisor"]
        )
        root = supervision_tree.tree("root", limit=0, engine=self.engine)
        if root is not None:
            _walk(root, restarts, children)
        yield restarts
        yield children


def _writing() -> Iterator[Family]:
    """Whether this server can write, and what could prevent it."""
    state = server_state()
    activity = state.activity
    written = state.written_at
    yield GaugeMetricFamily(
        "bitnexus_writable",
        "1 while the last write succeeded",
        value=written is not None and state.write_error is None,
    )
    if written is not None:
        yield GaugeMetricFamily(
            "bitnexus_last_write_age_seconds",
            "Time since a write succeeded",
            value=time.monotonic() - written,
        )
    # NaN: the database is on another machine.
    free = math.nan if activity.disk_free is None else activity.disk_free
    yield GaugeMetricFamily(
        "bitnexus_disk_free_bytes", "Free space on the embedded database's disk", value=free
    )
    yield GaugeMetricFamily(
        "bitnexus_lock_waits", "Statements that wait for a lock", value=len(activity.waits)
    )
    yield GaugeMetricFamily(
        "bitnexus_longest_lock_wait_seconds", "The longest lock wait", value=activity.longest_wait
    )


GAUGES: Final = (
    ("bitnexus_processes", "processes", "Live processes"),
    ("bitnexus_sockets", "sockets", "Open sockets"),
    ("bitnexus_channels", "channels", "Joined channels"),
    ("bitnexus_mailbox_messages", "mailbox", "Messages waiting for all named processes"),
    ("bitnexus_database_pool_connections", "pool_size", "Connections of the pool"),
    ("bitnexus_database_pool_in_use", "pool_used", "Connections in use"),
)


def _walk(node: dict[str, Any], restarts: GaugeMetricFamily, children: GaugeMetricFamily) -> None:
    if node["type"] == "supervisor":
        children.add_metric([node["name"]], node.get("children_count", 0))
    for child in node["children"]:
        restarts.add_metric([node["name"], child["name"]], child["restarts"])
        _walk(child, restarts, children)


def _family(metric: Metric, series: dict[tuple[str, ...], Any]) -> Family:
    labels = list(metric.tags)
    match metric:
        case Distribution(buckets=bounds):
            family = HistogramMetricFamily(metric.name, metric.help, labels=labels)
            for tags, histogram in series.items():
                total, buckets = 0, []
                for bound, count in zip([*map(_bound, bounds), "+Inf"], histogram.buckets, strict=True):
                    total += count
                    buckets.append((bound, total))
                family.add_metric(list(tags), buckets, histogram.sum)
            return family
        case Counter() | Sum():
            counter = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=labels)
            for tags, value in series.items() or ([((), 0)] if not labels else []):
                counter.add_metric(list(tags), value)
            return counter
        case LastValue() | _:
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=labels)
            for tags, value in series.items():
                gauge.add_metric(list(tags), value)
            return gauge


def _bound(bound: float) -> str:
    return str(float(bound))


class NodeRegistry:
    """The metrics of one engine, ours and prometheus-client's own, each series with the label `node`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._registry = CollectorRegistry()
        self._registry.register(Collector(engine, instruments()))  # type: ignore[arg-type]
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def collect(self) -> Iterator[PrometheusMetric]:
        """All families; called at each scrape."""
        node = own_name()
        for family in self._registry.collect():
            family.samples = [one._replace(labels={**one.labels, "node": node}) for one in family.samples]
            yield family


_registry: NodeRegistry | None = None


def text() -> bytes:
    """All metrics of this node, in Prometheus's text format."""
    global _registry
    engine = current_engine()
    if _registry is None or _registry.engine is not engine:
        _registry = NodeRegistry(engine)
    return generate_latest(_registry)


@node_routes.operation("metrics")
async def _of_this_node(_request: Any) -> Response:
    return Response(200, zlib.compress(text(), 1))  # NATS limits the size of a message


async def _of(node: str) -> bytes | None:
    """The metrics of another node; None if it does not answer."""
    try:
        return zlib.decompress(await node_routes.get(node, "metrics", SCRAPE_MS))
    except ApiError:
        return None


async def of_all() -> bytes:
    """The metrics of all nodes, and `bitnexus_node_up` for each."""
    names = node_routes.names()
    own = own_name()
    others = [name for name in names if name != own]
    texts = dict(zip([own, *others], [text(), *await asyncio.gather(*map(_of, others))], strict=True))
    lost = [one.name for one in await health.lost_nodes() if not one.left]
    up = ["# HELP bitnexus_node_up 1 for a node that answered this scrape", "# TYPE bitnexus_node_up gauge"]
    up += [
        f'bitnexus_node_up{{node="{name}"}} {float(texts.get(name) is not None)}' for name in [*names, *lost]
    ]
    return "\n".join(up).encode() + b"\n" + merged([one for one in texts.values() if one is not None])


def merged(texts: list[bytes]) -> bytes:
    """Several nodes' texts as one: each family once, with the samples of all."""
    families: dict[bytes, list[bytes]] = {}
    for text_of_node in texts:
        for block in (b"\n" + text_of_node).split(b"\n# HELP ")[1:]:
            described, typed, *samples = block.rstrip(b"\n").split(b"\n")
            family = families.setdefault(described.split(b" ", 1)[0], [b"# HELP " + described, typed])
            family += samples
    return b"\n".join(line for family in families.values() for line in family) + b"\n"


def is_loopback(address: str) -> bool:
    """Whether this is a loopback address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


@routes.get(
    "/metrics",
    summary="Metrics for Prometheus",
    roles=None,
    query=node_routes.OnNode,
    responses={200: ResponseSpec(content_type="text/plain", description="Prometheus's text format")},
    errors=(401, 404, 504),
)
async def metrics(request: ApiRequest) -> Response:
    """The metrics of all nodes, or of `node` (`self` is the one that answers).

    If METRICS_TOKEN is set, it is required as a bearer token; else only loopback may read.
    """
    settings = request.context.settings
    if settings.metrics_token or not is_loopback(request.address) or not PROXIED.isdisjoint(request.headers):
        _check_token(request)
    node = request.query.node
    if node is None:
        body = await of_all()
    elif node in ("self", own_name()):
        body = text()
    else:
        body = zlib.decompress(await node_routes.get(node, "metrics", SCRAPE_MS))
    return Response(200, body, [(b"content-type", CONTENT_TYPE_LATEST.encode())])


def _check_token(request: ApiRequest) -> None:
    wanted = request.context.settings.metrics_token
    scheme, _, given = (request.header(b"authorization") or "").partition(" ")
    if not wanted or scheme.lower() != "bearer":
        raise unauthorized(
            "METRICS_TOKEN is needed as a bearer token; only while it is unset may loopback read without"
        )
    if not hmac.compare_digest(given.strip().encode(), wanted.encode()):
        raise unauthorized("The metrics token is wrong", code="invalid_token")
