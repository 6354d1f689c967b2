"""OpenTelemetry traces, an optional extra (bitnexus[tracing], OTEL_EXPORTER_OTLP_ENDPOINT): one trace of a request.

    POST /api/v1/transactions            the request; continues the caller's `traceparent`
      SELECT ...                         each SQL statement of the handler
      call db_writer RecordTransaction   from the call to its answer
        commit 3 rows                    the SQL transaction of the batch it went into
        broadcast new_transaction        the fan-out to the user's sockets

`install` wraps the few places that this takes; without it nothing is wrapped and nothing is paid. A batch belongs to many
requests: each of their traces shows the commit. Sampling and the rest are OpenTelemetry's own variables.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from actors.settings import Settings
from api.app import App
from api.operators import logs
from runtime.core import telemetry
from runtime.http import messages
from runtime.observe import observer
from runtime.otp import gen

STATEMENT_LENGTH = 300


def install(settings: Settings) -> Callable[[], None]:
    """Begins to trace, to the endpoint in the settings; the returned function sends what is left and ends it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bitnexus"}))
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    tracing = Tracing(provider.get_tracer("bitnexus"))
    tracing.wrap()

    def end() -> None:
        tracing.unwrap()
        provider.shutdown()

    return end


class Tracing:
    """The spans under way, and what is wrapped for them."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer
        self.calls: dict[int, Span] = {}  # by the identity of the pending call
        self.topics: dict[str, list[Span]] = {}  # whose broadcasts belong to which call, within one batch
        self._wrapped: list[tuple[Any, str, Any]] = []

    def wrap(self) -> None:
        """Puts the wrappers in."""
        self._replace(App, "_http", self._request)
        for name in ("execute", "fetch", "fetchrow", "fetchval"):
            self._replace(asyncpg.Connection, name, self._statement)
        self._replace(gen.Call, "__init__", self._called)
        self._replace(gen.Call, "answer", self._answered)
        self._replace(gen.Call, "_settle", self._settled)
        telemetry.attach("tracing", ("db_writer", "batch"), self._committed)
        telemetry.attach("tracing", ("phoenix", "broadcast"), self._broadcast)

    def unwrap(self) -> None:
        """Takes them out again."""
        telemetry.detach("tracing")
        for owner, name, original in reversed(self._wrapped):
            setattr(owner, name, original)
        self._wrapped.clear()

    def _replace(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._wrapped.append((owner, name, original))
        setattr(owner, name, functools.wraps(original)(wrapper(original)))

    # ---- the request

    def _request(self, original: Any) -> Any:
        async def http(app: App, request: messages.Request) -> messages.Response | None:
            carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.fields}
            parent = propagate.extract(carrier)
            with self.tracer.start_as_current_span(request.method, parent, SpanKind.SERVER) as span:
                response = await original(app, request)
                if response is not None:
                    _describe(span, request, response)
                return response

        return http

    # ---- SQL

    def _statement(self, original: Any) -> Any:
        async def run(connection: Any, query: str, *args: Any, **options: Any) -> Any:
            # A process may run in the context of whoever woke the engine: that request's span is not its own.
            if observer.running() is not None or not trace.get_current_span().get_span_context().is_valid:
                return await original(connection, query, *args, **options)
            words = " ".join(query.split())
            with self.tracer.start_as_current_span(
                words.split(" ", 1)[0].upper(), kind=SpanKind.CLIENT
            ) as span:
                span.set_attribute("db.system.name", "postgresql")
                span.set_attribute("db.query.text", words[:STATEMENT_LENGTH])
                return await original(connection, query, *args, **options)

        return run

    # ---- calls to actors

    def _called(self, original: Any) -> Any:
        def init(call: gen.Call, target: Any, request: Any, *rest: Any) -> None:
            original(call, target, request, *rest)
            if call.caller is None and trace.get_current_span().get_span_context().is_valid:
                server = observer.name(target) or observer.module(target)
                span = self.tracer.start_span(
                    f"call {server} {type(request).__name__}", kind=SpanKind.INTERNAL
                )
                span.set_attribute("actor.pid", str(target.pid))
                span.set_attribute("actor.message_queue_len", observer.mailbox(target))
                self.calls[id(call)] = span

        return init

    def _answered(self, original: Any) -> Any:
        def answer(call: gen.Call, value: Any) -> None:
            if (span := self.calls.pop(id(call), None)) is not None:
                span.end()
            original(call, value)

        return answer

    def _settled(self, original: Any) -> Any:
        def settle(call: gen.Call) -> None:
            if (span := self.calls.pop(id(call), None)) is not None:
                span.set_status(StatusCode.ERROR, "not answered")
                span.end()
            original(call)

        return settle

    # ---- the batch and its broadcasts

    def _committed(self, event: Any, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.topics.clear()
        now = time.time_ns()
        began = now - int(measurements["duration"] * 1e9)
        for waiting in metadata["batch"]:
            span = self.calls.get(id(waiting.from_))
            if span is None:
                continue
            below = trace.set_span_in_context(span, context.Context())
            commit = self.tracer.start_span(
                f"commit {measurements['rows']} rows", below, SpanKind.CLIENT, start_time=began
            )
            commit.set_attribute("db.system.name", "postgresql")
            commit.set_attribute("batch.rows", measurements["rows"])
            commit.set_attribute("ledger.seq", measurements["seq"])
            commit.end(now)
            self.topics.setdefault(f"transaction:{waiting.row.user_id}", []).append(span)

    def _broadcast(self, event: Any, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        waiting = self.topics.get(metadata["topic"])
        if not waiting:
            return
        below = trace.set_span_in_context(waiting.pop(0), context.Context())
        span = self.tracer.start_span(f"broadcast {metadata['event']}", below, SpanKind.PRODUCER)
        span.set_attribute("deliveries", measurements["deliveries"])
        span.end()


def _describe(span: Span, request: messages.Request, response: messages.Response) -> None:
    answered = logs.current_request.get(None)
    operation = answered.operation if answered is not None and answered.http is request else None
    route = operation.path if operation is not None else "(none)"
    headers = dict(response.headers)
    span.update_name(f"{request.method} {route}")
    span.set_attribute("http.request.method", request.method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", response.status)
    span.set_attribute("bitnexus.request_id", headers.get(b"x-request-id", b"").decode("latin-1"))
    if response.status >= 500:
        span.set_status(StatusCode.ERROR)
