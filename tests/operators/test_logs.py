"""Logs: JSON lines in prod, text elsewhere; who and which request; reports in SASL's form; secrets masked."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

from runtime.core.exits import Stack
from runtime.core.reports import Report
from runtime.observe.sasl_format import sasl_format
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer
from runtime.testing.deterministic_engine import DeterministicEngine
from tests.support.server import Server, User, wait_until

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
PROD = {"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": "kJ8s0vQ2mZ4xW6yB1nC3dF5gH7jL9pR0tU2w"}


class Talker(GenServer):
    """Logs, then crashes."""

    def handle_cast(self, request: Any) -> Any:
        logging.getLogger("bitnexus.test").info("hello from %s", "inside")
        raise RuntimeError(f"lost {request}")


def crash() -> None:
    """A named process logs and crashes."""
    engine = DeterministicEngine(seed=1)

    async def main() -> None:
        await Talker.start(name="talker")
        gen_server.cast("talker", f"the token {TOKEN}")
        await erlang.sleep(1)

    engine.complete(main())
    engine.close()


def test_prod_logs_json_with_process_and_report(configured: Any) -> None:
    stream = configured(**PROD)
    crash()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    hello, report = lines
    assert (
        hello["event"] == "hello from inside"
        and hello["level"] == "info"
        and hello["logger"] == "bitnexus.test"
    )
    assert hello["process"] == "talker" and hello["pid"].startswith("<0.")
    assert datetime.fromisoformat(hello["timestamp"]).tzinfo is not None
    assert report["report"]["kind"] == "crash" and report["report"]["name"] == "talker"
    assert "RuntimeError" in report["report"]["reason"] and report["sasl"].startswith("=CRASH REPORT==== ")
    assert TOKEN not in stream.getvalue()


def test_dev_logs_text_with_the_report_below(configured: Any) -> None:
    stream = configured()
    crash()
    text = stream.getvalue()
    assert "INFO     bitnexus.test: hello from inside pid=<0." in text and "process=talker" in text
    assert "\n=CRASH REPORT==== " in text and "    registered_name: talker\n" in text
    assert "    exception error: RuntimeError: lost" in text and TOKEN not in text


def test_a_traceback_is_logged_and_masked(configured: Any) -> None:
    for env in ({}, PROD):
        stream = configured(**env)
        try:
            raise ValueError(f"bad {TOKEN}")
        except ValueError:
            logging.getLogger("x").exception("went wrong")
        text = stream.getvalue()
        assert "ValueError: bad" in text and "Traceback" in text and TOKEN not in text


def test_the_level_is_obeyed(configured: Any) -> None:
    stream = configured(LOG_LEVEL="error")
    logging.getLogger("x").warning("quiet")
    logging.getLogger("x").error("loud")
    assert "quiet" not in stream.getvalue() and "loud" in stream.getvalue()


def test_a_line_of_a_request_has_its_id_and_user(server: Server, admin: User) -> None:
    admin.client.post(
        "/admin/processes/pubsub/trace", json={"timeout_ms": 1}, headers={"x-request-id": "log-1"}
    )
    [line] = wait_until(lambda: [line for line in list(server.lines) if "request_id=log-1" in line])
    assert f"user={admin.id}" in line and "process.trace" in line


def test_reports_have_sasls_form() -> None:
    at = datetime(2026, 11, 24, 16, 9, 2, 273000)
    stack = Stack(None)
    reports = [
        Report("crash", "<0.7.0>", "db", "m:Db", (ValueError("no"), stack), "Cast(1)", ("storage", "root")),
        Report(
            "supervisor", "<0.3.0>", "storage", "m:S", "killed", None, (),
            {"error": "child_terminated", "child": "db", "child_pid": "<0.7.0>"},
        ),
        Report("progress", "<0.3.0>", "storage", "m:S", None, None, (), {"child": "db", "child_pid": "<0.8.0>"}),
        Report("long_schedule", "<0.7.0>", "db", "m:Db", None, "Cast(1)", (), {"seconds": 0.123}),
    ]  # fmt: skip
    crash, supervisor, progress, long_schedule = (sasl_format(report, at).splitlines() for report in reports)
    assert crash[0] == "=CRASH REPORT==== 24-Nov-2026::16:09:02.273 ==="
    assert crash[1:5] == [
        "  crasher:",
        "    initial call: m:Db",
        "    pid: <0.7.0>",
        "    registered_name: db",
    ]
    assert crash[5] == "    exception error: ValueError: no" and crash[-2:] == [
        "    ancestors: [storage, root]",
        "    last message: Cast(1)",
    ]
    assert supervisor[1:] == [
        "    supervisor: <0.3.0> (storage)",
        "    errorContext: child_terminated",
        "    reason: killed",
        "    offender: [pid: <0.7.0>, id: db]",
    ]
    assert progress[-1] == "    started: [pid: <0.8.0>, id: db]"
    assert "    held the loop for: 123 ms" in long_schedule
