"""OpenTelemetry traces (extra bitnexus[tracing], OTEL_EXPORTER_OTLP_ENDPOINT): one trace for each request.

    POST /api/v1/transactions            the request; continues the caller's `traceparent`
      SELECT ...                         each SQL statement of the handler
      call db_writer RecordTransaction   from the call to its answer
        commit 3 rows                    the SQL transaction of the batch it went into
        broadcast new_transaction        the fan-out to the user's sockets

It only listens to telemetry events (docs/telemetry.md). A batch belongs to many requests: each of their traces shows the commit.
OpenTelemetry's own variables configure sampling and the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from actors.settings import Settings
from runtime import telemetry

STATEMENT_LENGTH: Final = 300  # characters
HANDLER: Final = "tracing"

Measurements = Mapping[str, Any]
Metadata = Mapping[str, Any]


def install(settings: Settings) -> Callable[[], None]:
    """Starts tracing to the configured endpoint; the returned function flushes and stops it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bitnexus"}))
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    Tracing(provider.get_tracer("bitnexus")).attach()

    def end() -> None:
        telemetry.detach(HANDLER)
        provider.shutdown()

    return end


class Tracing:
    """The open spans. Request events come in the request's own context, where its span is the current one."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._requests: dict[Any, Span] = {}  # by the telemetry span
        self._calls: dict[Any, Span] = {}  # by the call: the `From` that its server knows
        # By topic: the calls of one batch whose broadcasts are still to come.
        self._topics: dict[str, list[Span]] = {}

    def attach(self) -> None:
        """Attaches the handlers."""
        for event, handler in (
            (("http", "request", "start"), self._request_started),
            (("http", "request", "stop"), self._request_ended),
            (("http", "request", "exception"), self._request_ended),
            (("gen", "call", "start"), self._called),
            (("gen", "call", "stop"), self._answered),
            (("gen", "call", "exception"), self._answered),
            (("sql", "query", "stop"), self._queried),
            (("sql", "query", "exception"), self._queried),
            (("db_writer", "batch"), self._committed),
            (("phoenix", "broadcast"), self._broadcast),
        ):
            telemetry.attach(HANDLER, event, handler)

    # ---- the request

    def _request_started(self, _event: Any, _measured: Measurements, about: Metadata) -> None:
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in about["fields"]}
        span = self._tracer.start_span(about["method"], propagate.extract(carrier), SpanKind.SERVER)
        self._requests[about["span"]] = span
        # Never detached: it ends with the request's own context.
        context.attach(trace.set_span_in_context(span, context.Context()))

    def _request_ended(self, _event: Any, _measured: Measurements, about: Metadata) -> None:
        span = self._requests.pop(about["span"], None)
        if span is None:
            return
        span.set_attribute("http.request.method", about["method"])
        if "status" in about:
            span.update_name(f"{about['method']} {about['route']}")
            span.set_attribute("http.route", about["route"])
            span.set_attribute("http.response.status_code", about["status"])
            span.set_attribute("bitnexus.request_id", about["request_id"])
        if about.get("status", 500) >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    # ---- SQL

    def _queried(self, _event: Any, measured: Measurements, about: Metadata) -> None:
        if not trace.get_current_span().get_span_context().is_valid:
            return
        now = time.time_ns()
        began = now - int(measured["duration"] * 1e9)
        words = " ".join(about["query"].split())
        span = self._tracer.start_span(words.split(" ", 1)[0].upper(), kind=SpanKind.CLIENT, start_time=began)
        span.set_attribute("db.system.name", "postgresql")
        span.set_attribute("db.query.text", words[:STATEMENT_LENGTH])
        if "reason" in about:
            span.set_status(StatusCode.ERROR, type(about["reason"]).__name__)
        span.end(now)

    # ---- calls to actors

    def _called(self, _event: Any, measured: Measurements, about: Metadata) -> None:
        # Only calls made by a request: a process that calls another may do so for many requests at once.
        if about["caller"] is not None or not trace.get_current_span().get_span_context().is_valid:
            return
        span = self._tracer.start_span(f"call {about['server']} {type(about['request']).__name__}")
        span.set_attribute("actor.pid", about["pid"])
        span.set_attribute("actor.message_queue_len", measured["message_queue_len"])
        self._calls[about["from"]] = span

    def _answered(self, event: Any, _measured: Measurements, about: Metadata) -> None:
        span = self._calls.pop(about["from"], None)
        if span is None:
            return
        if event[-1] == "exception":
            span.set_status(StatusCode.ERROR, "not answered")
        span.end()

    # ---- the batch and its broadcasts

    def _committed(self, _event: Any, measured: Measurements, about: Metadata) -> None:
        self._topics.clear()
        now = time.time_ns()
        began = now - int(measured["duration"] * 1e9)
        for waiting in about["batch"]:
            span = self._calls.get(waiting.from_)
            if span is None:
                continue
            below = trace.set_span_in_context(span, context.Context())
            commit = self._tracer.start_span(
                f"commit {measured['rows']} rows", below, SpanKind.CLIENT, start_time=began
            )
            commit.set_attribute("db.system.name", "postgresql")
            commit.set_attribute("batch.rows", measured["rows"])
            commit.set_attribute("ledger.seq", measured["seq"])
            commit.end(now)
            self._topics.setdefault(f"transaction:{waiting.row.user_id}", []).append(span)

    def _broadcast(self, _event: Any, measured: Measurements, about: Metadata) -> None:
        waiting = self._topics.get(about["topic"])
        if not waiting:
            return
        below = trace.set_span_in_context(waiting.pop(0), context.Context())
        span = self._tracer.start_span(f"broadcast {about['event']}", below, SpanKind.PRODUCER)
        span.set_attribute("deliveries", measured["deliveries"])
        span.end()
