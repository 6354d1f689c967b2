"""OpenTelemetry: one trace covers the request, its call to an actor, the SQL transaction and the broadcast."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.asyncio.client import connect

from tests.support.server import start, wait_until


@pytest.fixture
def collector() -> Iterator[Any]:
    """A collector of traces: its URL, and the spans it got."""
    spans: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", spans
    server.shutdown()


def test_one_trace_covers_request_actor_sql_and_broadcast(
    module_database: str, collector: Any, tmp_path: Path
) -> None:
    url, spans = collector
    server = start(
        module_database,
        DATA_DIR=str(tmp_path),
        OTEL_EXPORTER_OTLP_ENDPOINT=url,
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    try:
        user = server.user()
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

        async def post() -> Any:
            address = f"{server.url.replace('http', 'ws')}/socket/websocket?vsn=2.0.0&token={user.token}"
            async with connect(address) as socket:
                await socket.send(json.dumps(["1", "1", f"transaction:{user.id}", "phx_join", {}]))
                assert json.loads(await socket.recv())[4]["status"] == "ok"
                body = {"amount": "1.00", "currency": "EUR", "description": "traced"}
                headers = {"traceparent": parent}
                return await asyncio.to_thread(
                    user.client.post, "/api/v1/transactions", json=body, headers=headers
                )

        answer = asyncio.run(post())
        assert answer.status_code == 201
        trace_id = bytes.fromhex(parent.split("-")[1])
        wanted = {
            "POST /api/v1/transactions", "call db_writer RecordTransaction", "commit 1 rows", "broadcast new_transaction",
        }  # fmt: skip
        ours = wait_until(
            lambda: (
                wanted <= {one.name for one in spans if one.trace_id == trace_id}
                and [one for one in spans if one.trace_id == trace_id]
            ),
        )
    finally:
        assert server.stop() == 0
    by_name = {one.name: one for one in ours}
    request, call = by_name["POST /api/v1/transactions"], by_name["call db_writer RecordTransaction"]
    assert request.parent_span_id == bytes.fromhex(parent.split("-")[2])
    assert call.parent_span_id == request.span_id
    for below in ("commit 1 rows", "broadcast new_transaction"):
        assert by_name[below].parent_span_id == call.span_id
        assert by_name[below].start_time_unix_nano >= call.start_time_unix_nano
    logins = [one for one in spans if one.name == "POST /api/v1/auth/login"]
    assert any(one.trace_id == logins[0].trace_id and one.name == "SELECT" for one in spans)
