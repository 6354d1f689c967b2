"""What supervisors report, and how a report is found."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core import reports, telemetry
from runtime.observe.report_log import ReportLog
from runtime.otp import supervisor
from runtime.otp.gen_server import GenServer
from runtime.otp.supervisor import ChildSpec, Supervisor


@pytest.fixture
def supervisor_reports() -> Any:
    found: list[tuple[Any, Any]] = []

    def take(_event: Any, _measurements: Any, metadata: Any) -> None:
        report = metadata["report"]
        if report.kind == "supervisor":
            found.append((report.context["error"], report.reason))

    telemetry.attach("test_supervisor_reports", reports.EVENT, take)
    yield found
    telemetry.detach("test_supervisor_reports")


def test_a_child_that_is_killed_as_its_spec_says_is_no_report(play: Any, supervisor_reports: Any) -> None:
    async def body() -> None:
        sup: Any = await Supervisor.start_link(
            [ChildSpec("a", (GenServer.start_link, ()), shutdown="brutal_kill")]
        )
        assert await supervisor.terminate_child(sup, "a") == "ok"
        assert supervisor_reports == []

    play(body)


def test_the_report_log_finds_by_name_whatever_a_child_is_called() -> None:
    log = ReportLog()
    report = reports.Report("supervisor", "<0.1.0>", "sup", "m:S", "x", context={"child": ["a", "list"]})
    log._take(reports.EVENT, {}, {"report": report})
    assert [entry.report for entry in log.last(name="sup")] == [report]
