"""What supervisors report, and how a report is found."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from runtime.core import reports, telemetry
from runtime.observe.report_log import ReportLog
from runtime.otp import erlang, supervisor
from runtime.otp.gen_server import GenServer, Stop, cast
from runtime.otp.supervisor import ChildSpec, Supervisor


class Worker(GenServer):
    """Stops with the reason that is cast to it."""

    def handle_cast(self, request: Any) -> Any:
        return Stop(request)


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


def test_reports_say_who_why_and_what(play: Any) -> None:
    async def body() -> None:
        seen: list[reports.Report] = []

        def told(_event: Any, _measured: Any, metadata: Any) -> None:
            if metadata["report"].kind != "long_schedule":  # that is a matter of the machine
                seen.append(metadata["report"])

        telemetry.attach("test", reports.EVENT, told)
        try:
            sup = await Supervisor.start_link(
                [ChildSpec("a", (partial(Worker.start_link, name="a"), ()))], name="sup"
            )
            assert [(r.kind, r.context["child"]) for r in seen] == [("progress", "a")]
            pid = erlang.whereis("a")
            cast("a", "boom")
            await erlang.sleep(5)
            crash, restart, progress = seen[1:]
            assert (crash.kind, crash.pid, crash.name, crash.reason) == ("crash", str(pid), "a", "boom")
            assert crash.message == "Cast('boom')"
            assert crash.ancestors[0] == "sup"
            assert crash.module.endswith(":Worker")
            assert (restart.kind, restart.name, restart.context["error"]) == (
                "supervisor",
                "sup",
                "child_terminated",
            )
            assert progress.kind == "progress"
            assert (await supervisor.children(sup))[0].restarts == 1
            seen.clear()
            cast("a", "shutdown")  # an orderly end is no crash
            await erlang.sleep(5)
            assert "crash" not in [r.kind for r in seen]
        finally:
            telemetry.detach("test")

    play(body)
