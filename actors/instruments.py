"""Instrumentation: the table of metrics, the latest reports, and samples of the last minutes.

There is one `Instruments` for each engine, created on first use. It outlives the actors that use it, so that neither the crash
log nor a counter starts again when an actor restarts. docs/telemetry.md describes the events.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from actors.server_state import server_state
from runtime import Engine, Pid, StateMachine, current_engine, telemetry
from runtime.observe import process_info, supervision_tree
from runtime.observe.report_log import ReportLog
from runtime.observe.telemetry_metrics import (
    SECONDS,
    Counter,
    Distribution,
    Histogram,
    LastValue,
    Metric,
    Store,
    Sum,
    percentile,
)

BREAKER_STATES: Final = ("closed", "open", "half_open")
HISTORY: Final = 300  # samples that are kept, one a second: five minutes
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _is_crash(metadata: Mapping[str, Any]) -> bool:
    return metadata["report"].kind == "crash"


def _restarted(metadata: Mapping[str, Any]) -> bool:
    report = metadata["report"]
    return report.kind == "supervisor" and report.context.get("error") == "child_terminated"


def _child(metadata: Mapping[str, Any]) -> dict[str, Any]:
    # Children of dynamic supervisors have no id of their own; their supervisor's name stands for all of them.
    report = metadata["report"]
    child = report.context.get("child")
    return {"child": child if isinstance(child, str) else report.name or "", "supervisor": report.name or ""}


def _crashed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": metadata["report"].module}


def _route(metadata: Mapping[str, Any]) -> dict[str, Any]:
    route = re.sub(r":\w+\}", "}", metadata["route"])
    return {"method": metadata["method"], "route": route, "code": metadata["status"]}


def _topic(metadata: Mapping[str, Any]) -> dict[str, Any]:
    # Cut at the colon: the rest of a pattern stands for a user's id.
    return {"topic": metadata["pattern"].partition(":")[0], "result": metadata["result"]}


METRICS: Final[tuple[Metric, ...]] = (
    Distribution("bitnexus_http_request_duration_seconds", ("http", "request", "stop"),
                 "Time from the request's headers to the answer's last byte", "duration", ("method", "route", "code"),
                 tag_values=_route, made_of=("method", "route", "status")),
    Counter("bitnexus_socket_slow_readers_closed_total", ("socket", "slow_reader"),
            "Sockets closed because their reader fell behind"),
    Counter("bitnexus_socket_rate_limited_total", ("socket", "rate_limited"),
            "Sockets closed because they sent too much"),
    Distribution("bitnexus_channel_join_duration_seconds", ("phoenix", "channel_joined"),
                 "Time to join a channel", "duration", ("topic", "result"), tag_values=_topic,
                 made_of=("pattern", "result")),
    Counter("bitnexus_broadcasts_total", ("phoenix", "broadcast"), "Broadcasts to topics"),
    Sum("bitnexus_deliveries_total", ("phoenix", "broadcast"), "Frames handed to sockets by broadcasts", "deliveries"),
    Counter("bitnexus_requests_shed_total", ("http", "shed"),
            "Requests refused because they would have waited too long", None, ("lane",)),
    Counter("bitnexus_connections_shed_total", ("http", "server", "shed"),
            "Connections refused because too many waited to be accepted"),
    Distribution("bitnexus_batch_rows", ("db_writer", "batch"), "Transactions in one commit", "rows",
                 buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
    Distribution("bitnexus_batch_commit_duration_seconds", ("db_writer", "batch"),
                 "Time to record a batch and its ledger entries and commit", "duration"),
    Sum("bitnexus_transactions_recorded_total", ("db_writer", "batch"), "Transactions recorded", "rows"),
    LastValue("bitnexus_ledger_seq", ("db_writer", "batch"), "Newest ledger entry written by this server", "seq"),
    Counter("bitnexus_ledger_went_back_total", ("ledger", "went_back"),
            "Times the ledger's head moved back: the database lost entries"),
    Sum("bitnexus_database_changes_total", ("db_listener", "change"),
        "Changes seen in the shared tables", "count", ("table", "operation")),
    Distribution("bitnexus_bridge_call_duration_seconds", ("bridge", "call", "stop"),
                 "Calls to services behind the bridge", "duration", ("service", "outcome")),
    Counter("bitnexus_breaker_transitions_total", ("bridge", "breaker"),
            "Transitions of circuit breakers", None, ("service", "to")),
    Counter("bitnexus_flag_evaluations_total", ("flags", "variant"),
            "Evaluations of a flag for a user", None, ("flag", "on")),
    Counter("bitnexus_crashes_total", ("runtime", "report"), "Processes that crashed", None, ("module",),
            keep=_is_crash, tag_values=_crashed),
    Counter("bitnexus_child_restarts_total", ("runtime", "report"), "Exits of children that their supervisor handled",
            None, ("supervisor", "child"), keep=_restarted, tag_values=_child),
    Distribution("bitnexus_long_schedule_seconds", ("runtime", "long_schedule"),
                 "Turns of a process that blocked the event loop", "duration",
                 buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)),
    Distribution("bitnexus_event_loop_lag_seconds", ("runtime", "event_loop_lag"),
                 "How late the event loop runs a timer", "lag", buckets=SECONDS),
)  # fmt: skip


class Instruments:
    """Counters, reports and samples of one server."""

    def __init__(self, engine: Engine) -> None:
        self.store = Store(METRICS).attach()
        self.reports = ReportLog(300).attach()
        self._handler = f"instruments-{id(self)}"
        telemetry.attach(self._handler, ("flags", "evaluated"), _variants)
        self.samples: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.started = time.time()
        self.lag = 0.0  # the worst of this second
        self._before = self._totals()

    @property
    def seconds(self) -> float:
        """How long this server has been measuring: since its start."""
        return time.time() - self.started

    def close(self) -> None:
        """Stops listening."""
        self.store.detach()
        self.reports.detach()
        telemetry.detach(self._handler)

    def _totals(self) -> dict[str, Any]:
        store = self.store
        series = store.series["bitnexus_http_request_duration_seconds"]
        return {
            "at": time.monotonic(),
            "cpu": time.process_time(),
            "requests": sum(histogram.count for histogram in series.values()),
            "errors": sum(histogram.count for tags, histogram in series.items() if tags[2].startswith("5")),
            "buckets": store.histogram("bitnexus_http_request_duration_seconds"),
            "rows": store.total("bitnexus_transactions_recorded_total"),
            "batches": store.total("bitnexus_batch_rows"),
            "commit": sum(h.sum for h in store.series["bitnexus_batch_commit_duration_seconds"].values()),
            "deliveries": store.total("bitnexus_deliveries_total"),
            "crashes": store.total("bitnexus_crashes_total"),
        }

    def sample(self, engine: Engine) -> dict[str, Any]:
        """Appends to `samples`, and returns, the statistics since the previous sample. Rates are per second, times in ms."""
        now, before = self._totals(), self._before
        self._before = now
        seconds = max(now["at"] - before["at"], 1e-6)

        def rate(name: str) -> float:
            return round((now[name] - before[name]) / seconds, 2)

        earlier = before["buckets"] or [0] * len(now["buckets"])
        buckets = [after - was for after, was in zip(now["buckets"], earlier, strict=True)]
        batches = now["batches"] - before["batches"]
        made: dict[str, Any] = {
            "at": round(time.time(), 3),
            "requests": rate("requests"),
            "errors": rate("errors"),
            "transactions": rate("rows"),
            "deliveries": rate("deliveries"),
            "batch_rows": round((now["rows"] - before["rows"]) / batches, 2) if batches else None,
            "commit_ms": round((now["commit"] - before["commit"]) / batches * 1000, 3) if batches else None,
            "lag_ms": round(self.lag * 1000, 3),
            "cpu": round((now["cpu"] - before["cpu"]) / seconds * 100, 2),
            "memory": resident_memory(),
            "crashes": now["crashes"] - before["crashes"],
            **{name: _ms(percentile(SECONDS, buckets, share)) for name, share in PERCENTILES},
            **gauges(engine),
        }
        self.lag = 0.0
        self.samples.append(made)
        return made

    def begin_known(self, engine: Engine) -> None:
        """Exports counters of static children and circuit breakers as 0 before their first event, so that rates include it."""
        for known in supervision_tree.entries("root", engine):
            self.store.begin("bitnexus_child_restarts_total", (known.supervisor, known.child))
            if known.module:
                self.store.begin("bitnexus_crashes_total", (known.module,))
        for pid in _breakers(engine).values():
            service = process_info.peek(pid, "service")
            if service is None:
                continue
            for state in BREAKER_STATES:
                self.store.begin("bitnexus_breaker_transitions_total", (service, state))

    def histogram(self, name: str) -> Mapping[tuple[str, ...], Histogram]:
        """The series of a distribution."""
        return self.store.series[name]


def _variants(event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    # One request evaluates many flags; each gets an event of its own, so that it can be counted by variant.
    for name, on in metadata["flags"].items():
        telemetry.execute(("flags", "variant"), {}, {"flag": name, "on": "true" if on else "false"})


PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def resident_memory() -> int:
    """The resident set size of this process, in bytes."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gauges(engine: Engine) -> dict[str, Any]:
    """The current values: processes, sockets, queued messages, pool, ledger, breakers. Sends no message."""
    names = engine.names
    longest, name = 0, None
    total = 0
    for registered, pid in names.items():
        waiting = process_info.mailbox(pid)
        total += waiting
        if waiting > longest:
            longest, name = waiting, registered
    sockets = names.get("sockets")
    pool, head = server_state().pool, server_state().ledger_head
    return {
        "processes": len(engine.table),
        "sockets": len(process_info.peek(sockets, "transports") or ()) if sockets else 0,
        "channels": supervision_tree.count_children(names["channels"]) if "channels" in names else 0,
        "mailbox": total,
        "mailbox_max": longest,
        "mailbox_of": name,
        "refused": engine.refused,
        "pool_size": 0 if pool is None else pool.get_size(),
        "pool_used": 0 if pool is None else pool.get_size() - pool.get_idle_size(),
        "ledger_seq": None if head is None else head.seq,
        "database": "down" if server_state().database_error is not None or pool is None else "up",
        "breakers": breakers(engine),
    }


def breakers(engine: Engine) -> dict[str, str]:
    """The state of each circuit breaker by its name."""
    return {name: str(process_info.peek(pid, "state")) for name, pid in _breakers(engine).items()}


def _breakers(engine: Engine) -> dict[str, Pid]:
    return {
        name: pid
        for name, pid in engine.names.items()
        if "breaker" in name and issubclass(process_info.behaviour(pid) or type(None), StateMachine)
    }


def instruments() -> Instruments:
    """The instruments of the server that runs on the current engine."""
    engine = current_engine()
    found = engine.persistent_terms.get(Instruments)
    if found is None:
        found = engine.persistent_terms[Instruments] = Instruments(engine)
    return found
